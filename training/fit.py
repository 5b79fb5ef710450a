"""How is a run trained and summarised? First the epochs, then the test with the weights that are kept."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dataloader.tables.splits import SPLITS
from evaluation.scores import evaluate
from evaluation.table import ScoreTable
from training.recordings import TRIAL, cache_folder
from training.tracked import test_scores_of
from training.underfit import underfit
from utils.config import to_ini
from utils.errors import UserError, counted, first_line
from utils.files import write_text
from utils.run_folder import CONFIG, EPOCHS, SUMMARY, TEST_SCORES
from utils.settings import Config
from utils.trainer import Trainer

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def train(config: Config, trainer: Trainer, metadata: "pd.DataFrame", folder: Path) -> None:
    """Train until the last epoch and summarise; whatever happens, the trackers send their data.

    Raises:
        Stopped, UserError: see ``Trainer.fit``; or a process that reads batches has died.
    """
    try:
        if trainer.processes.is_main:  # from here on nothing refuses to train
            (folder / SUMMARY).unlink(missing_ok=True)  # a finished run that is made longer must finish again
            write_text(folder / CONFIG, to_ini(config))
        trainer.fit()
        summarise(trainer, metadata, folder, cache_folder(config))
        if config.testing.testing:
            log.warning(TRIAL, len(metadata))
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise UserError(
            f"a process that reads batches has died ({first_line(error)}), probably because memory or "
            "/dev/shm is full; lower [trainer] num_workers, or set it to 0, and --resume the run"
        ) from None
    finally:
        for tracker in trainer.trackers:
            tracker.close()


def summarise(trainer: Trainer, metadata: "pd.DataFrame", folder: Path, spectrograms: Path | None = None) -> None:
    """Score the test subset with the checkpoint that is kept; write ``test_scores.csv`` and ``summary.json``."""
    test, of_recordings = trainer.test()
    if not trainer.processes.is_main:
        return
    if of_recordings is not None:
        table = _score_table(trainer, of_recordings)
        write_text(
            folder / TEST_SCORES, table.to_csv(float_format="%.9g", lineterminator="\n")
        )  # the precision of float32
        if spectrograms is not None and len(trainer.trackers) > 1:  # the local files do not need it
            found = test_scores_of(table, metadata, spectrograms)
            for tracker in trainer.trackers:
                tracker.log_test(found)
    counts = metadata["split"].value_counts()
    epoch = trainer.scored_epoch
    validation = _row_of(folder, epoch)
    summary = {
        "best_epoch": epoch,
        **{name: validation.get(name) for name in ("val_loss", "val_macro_auc", "val_top1", "val_cmap")},
        **test,
        "n_classes": len(trainer.card["labels"]),
        **{f"n_{split}": int(counts.get(split, 0)) for split in SPLITS},
        "seconds": round(trainer.seconds, 1),
        "audio_hours": round(float(metadata["seconds"].sum()) / 3600, 4),
    }
    for tracker in trainer.trackers:
        tracker.log_summary(summary)
    if line := underfit(_rows_of(folder), summary):
        log.warning("%s", line)
    if of_recordings is None:
        log.info("there is no test subset")
        return
    groups = metadata.set_index("filename")["group"].reindex(trainer.test_subset.filenames)
    log_test_scores(trainer, of_recordings, groups.tolist(), epoch)
    of_windows = {name: value for name, value in test.items() if "window" in name and value is not None}
    if of_windows:  # from recordings whose labels have times
        log.info("test: %s", ", ".join(f"{name} {_short(value)}" for name, value in of_windows.items()))


def log_test_scores(trainer: Trainer, of_recordings: "np.ndarray", groups: list[str], epoch: int | None) -> None:
    """Log the scores of the test subset with their intervals and counts, and advice if there are too few recordings."""
    filenames = tuple(trainer.test_subset.filenames)
    targets, rows = np.asarray(trainer.test_subset.targets), np.arange(len(filenames))
    table = ScoreTable(
        tuple(trainer.card["labels"]), of_recordings, (targets > 0.5).astype(np.int8), filenames, rows, tuple(groups),
        np.zeros(len(rows)), timed=False, source="the test subset",
    )  # fmt: skip
    found = evaluate(table)
    shown = {"macro_auc": "macro AUC", "top1": "top-1", "cmap_padded": "cmAP"}
    said = {name: found.overall[key] for key, name in shown.items()}
    text = ", ".join(f"{name} {score}" for name, score in said.items() if score.value is not None)
    log.info(
        "test: %s (%s, %s; 95 %% intervals over %s; the weights of epoch %s)",
        text or "no class can be scored", counted(len(rows), "recording"), counted(table.n_groups, "group"),
        table.grouped_by, epoch,
    )  # fmt: skip
    for advice in found.advice:
        log.warning("%s", advice)


def _score_table(trainer: Trainer, of_recordings: np.ndarray) -> "pd.DataFrame":
    """The scores of the test subset, with a row for each recording and a column for each class."""
    import pandas as pd

    filenames = pd.Index(trainer.test_subset.filenames, name="filename")
    return pd.DataFrame(of_recordings, index=filenames, columns=trainer.card["labels"])


def _row_of(folder: Path, epoch: int | None) -> dict[str, object]:
    """The row of an epoch in the metrics."""
    return next((row for row in _rows_of(folder) if row["epoch"] == epoch), {})


def _rows_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / EPOCHS).read_text(encoding="utf-8").splitlines()]


def _short(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}"
