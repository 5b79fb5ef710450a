"""Which runs does a folder hold, and which of their tables does an evaluation read?"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evaluation.reading import Wide, read_table
from evaluation.table import PRESENT, ScoreTable
from utils.config import load_config
from utils.errors import DataError, UserError, first_line
from utils.files import whole
from utils.run_folder import CONFIG, LABELS, SEPARATOR, SPLIT, SUMMARY, TEST_SCORES

if TYPE_CHECKING:  # it takes a second to import
    import pandas as pd

log = logging.getLogger(__name__)


def runs_by_seed(paths: Sequence[Path]) -> dict[int, list[Path]]:
    """The finished runs by seed.

    Args:
        paths: run folders, and folders of folds.

    Raises:
        UserError: one of them has no finished run.
    """
    by_seed: dict[int, list[Path]] = {}
    for path in paths:
        runs = [path] if (path / CONFIG).is_file() else sorted(config.parent for config in path.rglob(CONFIG))
        if not runs:
            raise UserError(f"{path}: not a run; name the folder that train_classifier.py printed")
        finished = [run for run in runs if (run / SUMMARY).is_file()]
        if not finished:
            raise UserError(
                f"{runs[0]}: this run is not finished; continue with: python train_classifier.py --resume {runs[0]}"
            )
        if unfinished := len(runs) - len(finished):
            log.warning("%s: %d of %d runs are not finished and are left out", path, unfinished, len(runs))
        for run in finished:
            by_seed.setdefault(load_config(run / CONFIG).trainer.seed, []).append(run)
    return by_seed


def read_run_table(path: Path) -> "pd.DataFrame":
    """A table of a run folder; each cell is read as text.

    Raises:
        DataError: it is missing or damaged.
    """
    import pandas as pd

    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; this is not a run that has begun to train") from None
    except ValueError as error:
        raise DataError(f"{path}: damaged ({first_line(error)})") from None


def read_test_scores(run: Path) -> ScoreTable:
    """The scores of the test subset that training has saved, with a row for each recording.

    Raises:
        DataError: the table does not fit the labels and the split of the run.
    """
    labels, split = tuple(read_run_table(run / LABELS)["label"]), read_run_table(run / SPLIT)
    split = split[split["split"] == "test"]
    wide = read_table(run / TEST_SCORES)
    if not isinstance(wide, Wide) or wide.labels != labels or set(wide.keys) != set(split["filename"]):
        raise DataError(f"{run / TEST_SCORES}: damaged; it does not fit {LABELS} and {SPLIT}")
    columns = {label: number for number, label in enumerate(labels)}
    by_name = split.set_index("filename").loc[list(wide.keys)]
    targets = np.zeros(wide.values.shape, dtype=np.int8)
    for row, text in enumerate(by_name["label"]):
        for label in filter(None, text.split(SEPARATOR)):
            targets[row, columns[label]] = PRESENT
    return ScoreTable(
        labels, wide.values, targets, wide.keys, np.arange(len(wide.keys)), tuple(by_name["group"]),
        np.zeros(len(wide.keys)), timed=False, source=str(run),
    )  # fmt: skip


def keep_scores(path: Path, key: str, table: ScoreTable) -> None:
    """Save a table, completely or not at all."""
    path.parent.mkdir(exist_ok=True)
    with whole(path, durable=False) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file, key=key, labels=table.labels, scores=table.scores, targets=table.targets, recordings=table.recordings,
            recording=table.recording, group=table.group, seconds=table.seconds, timed=table.timed,
        )  # fmt: skip


def read_kept_scores(path: Path, key: str) -> ScoreTable | None:
    """The table that ``keep_scores`` has saved with this key; None if it is missing, has another key, or is damaged."""
    try:
        with np.load(path) as kept:
            if str(kept["key"]) != key:
                return None
            names = {name: tuple(map(str, kept[name])) for name in ("labels", "recordings", "group")}
            arrays = {name: kept[name] for name in ("scores", "targets", "recording", "seconds")}
            return ScoreTable(**names, **arrays, timed=bool(kept["timed"]), source=str(path.parents[1]))
    except FileNotFoundError:
        return None
    except Exception as error:  # after a changed byte numpy and zipfile raise many kinds of errors
        log.warning("%s: it cannot be read, so the recordings are scored again (%s)", path, first_line(error))
        return None
