"""Which runs do folds, seeds and recipes need: where is the folder of each, and are its files complete?"""

import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from utils.errors import DataError, first_line
from utils.run_folder import CONFIG, LABELS, SPLIT, SUMMARY, TEST_SCORES

log = logging.getLogger(__name__)

METRICS = {"macro_auc": "macro AUC", "cmap": "cmAP", "top1": "top-1"}
READ_OF_SUMMARY = (*(f"test_{name}" for name in METRICS), "seconds", "n_classes", "n_train", "n_test")


@dataclass(frozen=True)
class PlannedRun:
    """One of several runs that one command trains; its run folder is the newest in ``folder``."""

    recipe: str
    path: Path  # of the recipe
    seed: int
    fold: int
    folder: Path
    overrides: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.recipe}, seed {self.seed}, fold {self.fold}"

    @property
    def run(self) -> Path | None:
        return max((path.parent for path in self.folder.glob(f"*/{CONFIG}")), default=None)

    @property
    def is_finished(self) -> bool:
        return self.run is not None and (self.run / SUMMARY).is_file()


def planned_run(path: Path, seed: int, fold: int, folds: int, folder: Path, overrides: Sequence[str]) -> PlannedRun:
    """The planned run of a recipe, a seed and a fold, whose run folder is in ``folder``."""
    own = (f"trainer.seed={seed}", f"data.folds={folds}", f"data.fold={fold}", f"paths.runs_dir={folder}")
    return PlannedRun(path.stem, path, seed, fold, folder, (*overrides, *own))


def plan_runs(path: Path, folds: int, seeds: int, output: Path) -> list[PlannedRun]:
    """All folds and seeds of one recipe, in ``output/seed1-fold1`` and so on."""
    return [
        planned_run(path, seed, fold, folds, output / f"seed{seed}-fold{fold}", ())
        for seed in range(1, seeds + 1)
        for fold in range(1, folds + 1)
    ]


def is_complete(planned: PlannedRun) -> bool:
    """Whether a finished run has all files that are read; if not, this is logged."""
    try:
        summary, tested = summary_of(planned), tested_of(planned.run)
        if missing := [name for name in READ_OF_SUMMARY if name not in summary]:
            raise ValueError(f"{SUMMARY} has no {', '.join(missing)}")
        labels = labels_of(planned.run)
        if len(labels) != summary["n_classes"]:
            raise ValueError(f"{LABELS} has {len(labels)} classes, {SUMMARY} {summary['n_classes']}")
        scored = scores_of(planned.run)
        if set(scored.columns) != set(labels):
            raise ValueError(f"{TEST_SCORES} has other classes than {LABELS}")
        if missing := set(tested["filename"]) ^ set(scored.index):
            raise ValueError(f"{TEST_SCORES} and {SPLIT} differ by {len(missing)} recordings")
        if not np.isfinite(scored.to_numpy(dtype=float)).all():
            raise ValueError(f"{TEST_SCORES} has a score that is not a number")
    except (OSError, ValueError, KeyError, TypeError) as error:  # the errors of json and pandas are ValueErrors
        log.error("%s", damaged(planned, error))
        return False
    return True


def damaged(planned: PlannedRun, why: object) -> DataError:
    """The error of a run whose files cannot be read, with what to do."""
    return DataError(f"{planned.run}: damaged ({first_line(why)}); remove this folder, and the run is trained again")


def summary_of(planned: PlannedRun) -> dict[str, float | None]:
    """The scores, counts and seconds of a finished run."""
    return json.loads((planned.run / SUMMARY).read_text(encoding="utf-8"))


def labels_of(run: Path) -> list[str]:
    """The classes of a run."""
    return _table(run / LABELS, dtype=str, keep_default_na=False)["label"].tolist()


def tested_of(run: Path) -> pd.DataFrame:
    """The rows of ``split.csv`` that are in the test subset."""
    split = _table(run / SPLIT, dtype=str, keep_default_na=False)
    return split[split["split"] == "test"]


def scores_of(run: Path) -> pd.DataFrame:
    """``(recordings, classes)``, by filename and label."""
    return _table(run / TEST_SCORES, index_col="filename")


def _table(path: Path, **how: object) -> pd.DataFrame:
    """
    Raises:
        ValueError: the file does not end with a line.
    """
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):  # the last number may have lost digits, and still be a number
        raise ValueError(f"{path.name} is truncated")
    return pd.read_csv(io.StringIO(text), **how)


def as_number(value: float | None, form: str = ".3f") -> str:
    """A value as the table shows it; a dash if it is unknown."""
    return "-" if value is None else format(value, form)
