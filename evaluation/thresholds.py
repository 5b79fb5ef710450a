"""Which score is high enough? A threshold for each class, for a precision, a recall, F1 or false alarms per hour.

Thresholds are fitted on rows that the model was not trained on. If there are too few such rows to show that a class
reaches the aim, the class is refused, with the number of positives (or hours) that would be needed.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import betaincinv

from evaluation.calibration import OWN_FROM
from evaluation.decisions import Fit
from evaluation.table import ScoreTable
from utils.errors import counted

CONFIDENCE = 0.9  # one-sided: the certainty of a precision (benchmarks/thresholds.py: 0.8 holds 84 %, 0.9 holds 90 %)


def fit(table: ScoreTable, kind: str, value: float | None) -> Fit:
    """Fit a threshold for each class.

    Args:
        table: of rows that the model was not trained on.
        kind: one of ``evaluation.decisions.KINDS``.
        value: the aim; None for ``f1``.
    """
    if kind == "f1":
        return _fit_f1(table)
    one: Callable[..., tuple[float, str]] = {
        "precision": _for_precision, "recall": _for_recall, "false_alarms_per_hour": _for_false_alarms
    }[kind]  # fmt: skip
    groups = table.group_of_rows
    thresholds, refused = np.full(len(table.labels), np.nan), {}
    for column, label in enumerate(table.labels):
        known = table.targets[:, column] >= 0
        thresholds[column], why = one(
            table.scores[known, column].astype(np.float64), table.targets[known, column] == 1, groups[known],
            table.seconds[known], value,
        )  # fmt: skip
        if why:
            refused[label] = why
    return Fit(thresholds, refused)


def positives_needed(precision: float) -> int:
    """The least number of detections, all of them right, that show a precision with ``CONFIDENCE``."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(precision))


def precision_bound(true: np.ndarray, detections: np.ndarray) -> np.ndarray:
    """The lower end of the precision that so many right detections show (Clopper and Pearson 1934, one-sided)."""
    return np.where(true > 0, betaincinv(np.maximum(true, 1e-9), detections - true + 1, 1 - CONFIDENCE), 0.0)


def _for_precision(
    scores: np.ndarray, present: np.ndarray, group: np.ndarray, seconds: np.ndarray, aim: float
) -> tuple[float, str]:
    """The lowest threshold from which the lower end of the precision is at least ``aim``."""
    needed, n_positive = positives_needed(aim), int(present.sum())
    if n_positive < needed:
        return np.nan, _refusal(n_positive, needed, aim)
    order = np.argsort(-scores, kind="stable")
    sorted_scores, true = scores[order], np.cumsum(present[order])
    last = np.append(sorted_scores[1:] != sorted_scores[:-1], True)  # rows with equal scores are detected together
    detections = np.arange(1, len(scores) + 1)
    shown = last & (precision_bound(true, detections) >= aim)
    if not shown.any():
        return np.nan, f"no threshold reaches a precision of {aim:g} with certainty, with {n_positive} positives"
    return float(sorted_scores[np.flatnonzero(shown)[-1]]), ""


def _refusal(n_positive: int, needed: int, aim: float) -> str:
    return f"{counted(n_positive, 'positive')}, but a precision of {aim:g} needs at least {needed}"


def _for_recall(
    scores: np.ndarray, present: np.ndarray, group: np.ndarray, seconds: np.ndarray, aim: float
) -> tuple[float, str]:
    """The highest threshold that finds a share of ``aim`` of the positives."""
    n_positive = int(present.sum())
    needed = math.ceil(1 / (1 - aim)) if aim < 1 else 1
    if n_positive < needed:
        return np.nan, f"{counted(n_positive, 'positive')}, but a recall of {aim:g} needs at least {needed}"
    descending = -np.sort(-scores[present])
    return float(descending[math.ceil(aim * n_positive - 1e-9) - 1]), ""


def _for_false_alarms(
    scores: np.ndarray, present: np.ndarray, group: np.ndarray, seconds: np.ndarray, aim: float
) -> tuple[float, str]:
    """The lowest threshold with at most ``aim`` wrong detections an hour of rows without the class."""
    hours = float(seconds[~present].sum()) / 3600
    allowed = math.floor(aim * hours + 1e-9)
    if not allowed:
        return np.nan, f"{hours:.2f} h without it, but {aim:g} false alarms per hour need at least {1 / aim:.3g} h"
    wrong = -np.sort(-scores[~present])
    return float(np.nextafter(np.float32(wrong[allowed]), np.float32(2))) if allowed < len(wrong) else 0.0, ""


def _fit_f1(table: ScoreTable) -> Fit:
    """The threshold of the best F1; classes with too few positives share that of the best F1 over all classes."""
    known = table.targets >= 0
    shared = _best_f1(table.scores[known].astype(np.float64), table.targets[known] == 1)
    thresholds, pooled = np.full(len(table.labels), shared), []
    for column, label in enumerate(table.labels):
        rows = known[:, column]
        present = table.targets[rows, column] == 1
        if present.sum() < OWN_FROM:
            pooled.append(label)
        else:
            thresholds[column] = _best_f1(table.scores[rows, column].astype(np.float64), present)
    return Fit(thresholds, {}, tuple(pooled))


def _best_f1(scores: np.ndarray, present: np.ndarray) -> float:
    if not present.any():
        return np.nan
    order = np.argsort(-scores, kind="stable")
    ordered, true = scores[order], np.cumsum(present[order])
    last = np.append(ordered[1:] != ordered[:-1], True)
    f1 = np.where(last, 2 * true / (np.arange(1, len(scores) + 1) + true[-1]), -1)
    return float(ordered[int(f1.argmax())])
