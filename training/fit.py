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
from training.tracked import held_out_scores
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
        if trainer.processes.is_main:  # nothing refuses to train after this line
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


def summarise(trainer: Trainer, metadata: "pd.DataFrame", folder: Path, cache: Path) -> None:
    """Score the test subset with the checkpoint that is kept; write ``test_scores.csv`` and ``summary.json``.

    Args:
        cache: the folder of the spectrograms, of which trackers receive some.
    """
    test, of_recordings = trainer.test()
    if not trainer.processes.is_main:
        return
    table = None if of_recordings is None else score_table(trainer, of_recordings, metadata)
    if table is not None:
        _write_test_scores(folder / TEST_SCORES, table)
        if len(trainer.trackers) > 1:  # the local files do not need it
            held_out = held_out_scores(table, cache)
            for tracker in trainer.trackers:
                tracker.log_test(held_out)
    epochs = [json.loads(line) for line in (folder / EPOCHS).read_text(encoding="utf-8").splitlines()]
    summary = _summary(trainer, metadata, epochs, test)
    for tracker in trainer.trackers:
        tracker.log_summary(summary)
    if line := underfit(epochs, summary):
        log.warning("%s", line)
    if table is None:
        log.info("there is no test subset")
        return
    log_test_scores(table, trainer.scored_epoch)
    of_windows = {name: value for name, value in test.items() if "window" in name and value is not None}
    if of_windows:  # from recordings whose labels have times
        log.info("test: %s", ", ".join(f"{name} {_short(value)}" for name, value in of_windows.items()))


def score_table(trainer: Trainer, of_recordings: np.ndarray, metadata: "pd.DataFrame") -> ScoreTable:
    """The scores and labels of the test subset, a row for each recording.

    Args:
        of_recordings: ``(recordings, classes)``, the scores.
    """
    subset = trainer.test_subset
    groups, rows = metadata.set_index("filename")["group"].reindex(subset.filenames), np.arange(len(subset.filenames))
    return ScoreTable(
        tuple(trainer.card["labels"]), of_recordings, (np.asarray(subset.targets) > 0.5).astype(np.int8),
        tuple(subset.filenames), rows, tuple(groups), np.zeros(len(rows)), timed=False, source="the test subset",
    )  # fmt: skip


def _write_test_scores(path: Path, table: ScoreTable) -> None:
    import pandas as pd

    frame = pd.DataFrame(table.scores, pd.Index(table.recordings, name="filename"), table.labels)
    write_text(path, frame.to_csv(float_format="%.9g", lineterminator="\n"))  # the precision of float32


def _summary(
    trainer: Trainer, metadata: "pd.DataFrame", epochs: list[dict[str, object]], test: dict[str, float | None]
) -> dict[str, object]:
    """The content of ``summary.json``; the validation scores are those of the epoch whose weights are kept."""
    counts, kept = metadata["split"].value_counts(), trainer.scored_epoch
    validation = next((row for row in epochs if row["epoch"] == kept), {})
    return {
        "best_epoch": kept,
        **{name: validation.get(name) for name in ("val_loss", "val_macro_auc", "val_top1", "val_cmap")},
        **test,
        "n_classes": len(trainer.card["labels"]),
        **{f"n_{split}": int(counts.get(split, 0)) for split in SPLITS},
        "seconds": round(trainer.seconds, 1),
        "audio_hours": round(float(metadata["seconds"].sum()) / 3600, 4),
    }


def log_test_scores(table: ScoreTable, epoch: int | None) -> None:
    """Log the test scores with their intervals and counts, and advice if there are too few recordings."""
    found = evaluate(table)
    names = {"macro_auc": "macro AUC", "top1": "top-1", "cmap_padded": "cmAP"}
    scores = {name: found.overall[key] for key, name in names.items()}
    text = ", ".join(f"{name} {score}" for name, score in scores.items() if score.value is not None)
    log.info(
        "test: %s (%s, %s; 95 %% intervals over %s; the weights of epoch %s)",
        text or "no class can be scored", counted(len(table.recordings), "recording"), counted(table.n_groups, "group"),
        table.grouped_by, epoch,
    )  # fmt: skip
    for advice in found.advice:
        log.warning("%s", advice)


def _short(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}"
