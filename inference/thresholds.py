"""Which thresholds and calibration, fitted by evaluate.py, does a prediction use?"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.calibration import Curve, calibrate
from evaluation.decisions import Decisions, read_decisions
from inference.backends import Loaded
from inference.checkpoints import checkpoint_of
from utils.errors import UserError, counted
from utils.files import file_digest
from utils.run_folder import THRESHOLDS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FittedRules:
    """How the scores of a run become detections and probabilities.

    Attributes:
        thresholds: one for each class, NaN for a class that is never detected; None: none were asked for.
        curves: turn scores into probabilities, one for each class; None: scores are written as they are.
    """

    thresholds: tuple[float, ...] | None = None
    curves: tuple[Curve, ...] | None = None

    def probabilities(self, scores: np.ndarray) -> np.ndarray | None:
        """``(rows, classes)``; None without a calibration."""
        return None if self.curves is None else calibrate(list(self.curves), scores)


def fitted_rules(
    models: Sequence[Loaded], aim: str | None, *, calibrated: bool, columns: Sequence[int] | None = None
) -> FittedRules:
    """The thresholds for an aim such as ``precision=0.9`` (``auto``: those that were fitted last).

    Args:
        columns: indices of the classes that are kept; None: all.

    Raises:
        UserError: there are none, or they belong to other weights, or there are several models.
    """
    if aim is None and not calibrated:
        return FittedRules()
    decisions = _decisions_of(models)
    columns = range(len(decisions.labels)) if columns is None else columns
    thresholds = None
    if aim is not None:
        fitted = decisions.fit_for(aim, models[0].source.parent).thresholds
        thresholds = tuple(float(fitted[column]) for column in columns)
    return FittedRules(thresholds, tuple(decisions.curves[column] for column in columns) if calibrated else None)


def report_rules(models: Sequence[Loaded], aim: str | None, window_s: float | None, *, calibrated: bool) -> None:
    """Check the rules before the scoring, and warn of what the user should know about them."""
    rules = fitted_rules(models, aim, calibrated=calibrated)
    if rules == FittedRules():
        return
    decisions = _decisions_of(models)
    if window_s is not None and abs(decisions.window_s - window_s) > 0.01:
        log.warning(
            "the thresholds were fitted on rows of %g s, and rows here have %g s; they may not hold",
            decisions.window_s, window_s,
        )  # fmt: skip
    if aim is not None:
        refused = decisions.fit_for(aim, models[0].source.parent).refused
        log.info("thresholds for %s, fitted on %s", aim, decisions.fitted_on)
        if refused:
            names = ", ".join(list(refused)[:5]) + (" ..." if len(refused) > 5 else "")
            which = counted(len(refused), "class has", "classes have")
            log.warning("%s no threshold, because the data cannot show it, and will not be detected: %s", which, names)


def _decisions_of(models: Sequence[Loaded]) -> Decisions:
    if len(models) > 1:
        raise UserError("thresholds and calibration belong to one run; give one --run, or a plain --threshold")
    (model,) = models
    if model.thresholds is None:
        raise UserError(
            f"{model.source}: no thresholds were fitted for this run; fit them with: "
            f"python evaluate.py --run {model.source.parent} --fit-thresholds --precision 0.9"
        )
    decisions = read_decisions(model.thresholds, model.source, model.card.labels)
    if decisions.checkpoint != model.digest:
        raise UserError(
            f"{model.source}: its thresholds were fitted for other weights; fit them again with evaluate.py "
            "--fit-thresholds (an exported file: then export it again)"
        )
    return decisions


def decisions_of(run: Path) -> Decisions | None:
    """The thresholds and the calibration of a run; None if none were fitted for the weights that it has now.

    Raises:
        DataError: the file is damaged.
    """
    path = (run if run.is_dir() else run.parent) / THRESHOLDS
    if not path.is_file():
        return None
    decisions = read_decisions(path.read_text(encoding="utf-8"), path)
    if decisions.checkpoint != file_digest(checkpoint_of(run)):
        log.warning("%s: fitted for other weights than those of the run now, so it is not used; fit again", path)
        return None
    return decisions
