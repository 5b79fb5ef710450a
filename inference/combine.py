"""Scores of several models, and of neighbouring rows -> one score for each row and class."""

from collections.abc import Sequence

import numpy as np

KERNEL = (0.1, 0.2, 0.4, 0.2, 0.1)  # of a row and its neighbours


def combine(each: Sequence[np.ndarray], how: str) -> list[np.ndarray]:
    """One score of those of all models.

    Args:
        each: for each recording ``(models, rows, classes)``.
        how: ``mean``; ``min``, the least: what all models hear; ``rank``, the mean of the ranks, for
            models whose scores are of different sizes: it needs all recordings at once.

    Returns:
        for each recording ``(rows, classes)`` float32.
    """
    return COMBINATIONS[how](each)


def _mean(each: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [one.mean(axis=0, dtype=np.float32) for one in each]


def _least(each: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [one.min(axis=0) for one in each]


def rank_mean(each: Sequence[np.ndarray]) -> list[np.ndarray]:
    """As ``combine``: the mean over the models of each score's rank among all rows of its class.

    The highest of n rows has rank 1, the lowest 1 / n; equal scores share the mean of their ranks.
    """
    from scipy.stats import rankdata

    together = np.concatenate(each, axis=1)
    total = sum(rankdata(model, axis=0) for model in together) / (len(together) * together.shape[1])
    return np.split(total.astype(np.float32), np.cumsum([one.shape[1] for one in each])[:-1])


COMBINATIONS = {"mean": _mean, "min": _least, "rank": rank_mean}  # as --combine of predict.py names them


def smooth(scores: np.ndarray) -> np.ndarray:
    """Mean of each row and its neighbours, weighted by ``KERNEL``; the end rows are repeated outward.

    Args:
        scores: ``(rows, classes)``.
    """
    half = len(KERNEL) // 2
    padded = np.pad(scores, ((half, half), (0, 0)), mode="edge")
    return sum(np.float32(weight) * padded[place : place + len(scores)] for place, weight in enumerate(KERNEL))
