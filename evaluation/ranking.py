"""How well do scores rank? AUC, average precision and top-k, for all resamples of the groups at once.

A bootstrap over groups gives every group a weight: how often it was drawn. All functions take these
weights as ``(groups, resamples)`` and return one figure for each resample; a first column of ones gives
the figure of the data themselves. NaN means that it cannot be computed, such as the AUC without a positive.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from scipy import sparse

from utils.metrics import PADDING

_MOST_IN_FLOAT32 = 500_000  # rows: a draw may have several times as many, and float32 counts to 16 million


class Ranking(NamedTuple):
    """How each class is ranked; every array is ``(classes, resamples)``."""

    auc: np.ndarray
    average_precision: np.ndarray
    padded_average_precision: np.ndarray


def rank_classes(targets: np.ndarray, scores: np.ndarray, group: np.ndarray, weights: np.ndarray) -> Ranking:
    """Rank the rows of each class.

    The AUC of a class is the share of its pairs of a positive and a negative row in which the positive has the
    higher score; a tie is half a pair (Mann and Whitney 1947). The average precision is the mean, over the
    positives, of the precision among all rows with at least the same score. Both are those of scikit-learn with the
    weights as ``sample_weight``. The padded average precision is the same after ``PADDING`` positives with a score of
    1.

    Args:
        targets: ``(rows, classes)``, 1 present, 0 absent, -1 unknown: such cells are left out.
        scores: ``(rows, classes)``, finite.
        group: ``(rows,)``, the index of each row's group.
        weights: ``(groups, resamples)``.
    """
    weights = np.asarray(weights, dtype=np.float32)  # counts: exact, and twice as fast
    columns = range(targets.shape[1])

    def rank(column: int) -> tuple[np.ndarray, ...]:
        return _rank_class(targets[:, column], np.ascontiguousarray(scores[:, column]), group, weights)

    with ThreadPoolExecutor(_cores()) as pool:  # numpy and scipy release the interpreter's lock
        ranked = list(pool.map(rank, columns))
    shape = (3, 0, weights.shape[1])
    return Ranking(*(np.stack(ranked, axis=1) if ranked else np.empty(shape)))


def _rank_class(
    targets: np.ndarray, scores: np.ndarray, group: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AUC, average precision and padded average precision of one class, each ``(resamples,)``.

    The steps are the distinct scores of the positives, ascending. Between and at them the weights of the positives
    and of the negatives are summed by a product of a small matrix of counts, ``(steps, groups)``, with the weights.
    """
    positive, negative = targets == 1, targets == 0
    steps = np.unique(np.append(scores[positive], scores.dtype.type(1)))  # 1 is the score of the padding
    at = np.searchsorted(steps, scores[positive])
    positives = _sums(at, group[positive], len(steps), weights)
    # Bin 2k + 1 has the negatives with the score of step k, bin 2k those between it and the step below.
    above = np.searchsorted(steps, scores[negative])
    bins = 2 * above + (np.append(steps, np.nan)[above] == scores[negative])
    negatives = _sums(bins, group[negative], 2 * len(steps) + 1, weights)

    between, ties = negatives[0::2], negatives[1::2]
    below = np.cumsum(between[:-1], axis=0) + np.cumsum(ties, axis=0) - ties
    n_positive, n_negative = (sums.sum(axis=0, dtype=np.float64) for sums in (positives, negatives))
    with np.errstate(invalid="ignore", divide="ignore"):
        auc = (positives * (below + ties / 2)).sum(axis=0, dtype=np.float64) / (n_positive * n_negative)
        positives_as_high = np.cumsum(positives[::-1], axis=0)[::-1]
        as_high = positives_as_high + (n_negative.astype(below.dtype) - below)
        precision = np.where(positives > 0, positives_as_high / as_high, 0)
        ap = (positives * precision).sum(axis=0, dtype=np.float64) / n_positive
        pad = np.where(steps <= 1, PADDING, 0)[:, None]  # with at least the score of each step
        precision = (positives_as_high + pad) / (as_high + pad)
        at_one = precision[np.searchsorted(steps, 1)]
        padded = ((positives * precision).sum(axis=0, dtype=np.float64) + PADDING * at_one) / (n_positive + PADDING)
    return auc, ap, padded


def _sums(bins: np.ndarray, group: np.ndarray, n_bins: int, weights: np.ndarray) -> np.ndarray:
    """The weights of the rows in each bin, ``(bins, resamples)``; float32 if that is exact for sums of counts."""
    n_groups = len(weights)
    exact = np.float32 if len(bins) < _MOST_IN_FLOAT32 else np.float64
    if n_bins * n_groups <= 4 * max(len(bins), 1) + 10_000:  # few enough for a dense product
        counts = np.bincount(bins * n_groups + group, minlength=n_bins * n_groups).reshape(n_bins, n_groups)
        return (counts.astype(np.float32) @ weights).astype(exact, copy=False)
    ones = np.ones(len(bins), dtype=np.float32)
    counts = sparse.csr_array((ones, (bins, group)), shape=(n_bins, n_groups))
    return (counts @ weights).astype(exact, copy=False)


def rank_rows(targets: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
    """For each row how well it ranks its classes: ``top1``, ``top5`` and ``average_precision``, each ``(rows,)``.

    ``top5`` is 1 if fewer than five absent classes score as high as the best present class. So a tie is a miss: a row
    in which nothing was detected is not a hit of the class that is first by chance. The average precision is the mean,
    over the present classes, of the precision among all classes with at least the same score in that row (its mean over
    rows is scikit-learn's with ``average="samples"``). Unknown cells are left out. NaN means that no class is known to
    be present in the row.
    """
    present, known = targets == 1, targets >= 0
    counted = np.flatnonzero(present.any(axis=1))
    names = ("top1", "top5", "average_precision")
    result = {name: np.full(len(scores), np.nan) for name in names}
    if not len(counted):
        return result
    present, known = present[counted], known[counted]
    masked = np.where(known, scores[counted], -np.inf)
    best = np.where(present, masked, -np.inf).max(axis=1, keepdims=True)
    as_high = (known & ~present & (masked >= best)).sum(axis=1)
    result["top1"][counted], result["top5"][counted] = as_high < 1, as_high < 5
    row, column = np.nonzero(present)
    precision = np.empty(len(row))
    for first in range(0, len(row), 100_000):  # (cells, classes) at a time
        cells = slice(first, first + 100_000)
        as_high = masked[row[cells]] >= masked[row[cells], column[cells]][:, None]
        precision[cells] = (as_high & present[row[cells]]).sum(axis=1) / as_high.sum(axis=1)
    result["average_precision"][counted] = np.bincount(row, precision) / present.sum(axis=1)
    return result


def mean_of_rows(values: np.ndarray, group: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted mean of the rows whose value is not NaN, ``(resamples,)``."""
    counted = np.isfinite(values)
    sums = np.bincount(group[counted], values[counted], minlength=len(weights))
    counts = np.bincount(group[counted], minlength=len(weights))
    with np.errstate(invalid="ignore"):
        return (sums @ weights) / (counts @ weights)


def count_decisions(
    targets: np.ndarray, scores: np.ndarray, thresholds: np.ndarray, group: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Right and wrong decisions of each class at its threshold: ``true``, ``false`` and ``missed``.

    Args:
        thresholds: ``(classes,)``; a score of at least the threshold is a detection; with NaN there is none.

    Returns:
        The weighted counts of detections that are right, detections that are wrong, and positives without a
        detection, each ``(classes, resamples)``. Unknown cells are left out.
    """
    detected = scores >= np.where(np.isnan(thresholds), np.inf, thresholds)
    cells = {
        "true": detected & (targets == 1),
        "false": detected & (targets == 0),
        "missed": ~detected & (targets == 1),
    }
    rows_of_group = sparse.csr_array(
        (np.ones(len(group), dtype=np.float32), (group, np.arange(len(group)))), shape=(len(weights), len(group))
    )
    return {name: (rows_of_group @ where.astype(np.float32)).T @ weights for name, where in cells.items()}


def _cores() -> int:
    """The CPU cores of this process, as ``utils.utils.cores``, which imports torch."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
