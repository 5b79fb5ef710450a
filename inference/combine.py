"""How are the scores of several models combined, and smoothed over neighbouring rows?"""

from collections.abc import Sequence

import numpy as np

KERNEL = (0.1, 0.2, 0.4, 0.2, 0.1)  # weights of two rows before, the row itself, two rows after


def combine(each: Sequence[np.ndarray], how: str) -> list[np.ndarray]:
    """One score from the scores of all models.

    Args:
        each: for each recording ``(models, rows, classes)``.
        how: ``mean``; ``min``: the lowest score, so that all models must agree; ``rank``: the mean of the ranks, for
            models whose scores have different scales (it needs all recordings at once).

    Returns:
        for each recording ``(rows, classes)`` float32.
    """
    return COMBINATIONS[how](each)


def _mean(each: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [one.mean(axis=0, dtype=np.float32) for one in each]


def _least(each: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [one.min(axis=0) for one in each]


def rank_mean(each: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The mean over the models of each score's rank among all rows of its class; arguments as of ``combine``.

    The highest of n rows has rank 1, the lowest 1 / n; equal scores share the mean of their ranks.
    """
    from scipy.stats import rankdata

    together = np.concatenate(each, axis=1)
    total = sum(rankdata(model, axis=0) for model in together) / (len(together) * together.shape[1])
    return np.split(total.astype(np.float32), np.cumsum([one.shape[1] for one in each])[:-1])


COMBINATIONS = {"mean": _mean, "min": _least, "rank": rank_mean}  # names: inference/choices.py


def smooth(scores: np.ndarray) -> np.ndarray:
    """The mean of each row and its neighbours, weighted by ``KERNEL``; beyond the ends, the end rows are repeated.

    Args:
        scores: ``(rows, classes)``.
    """
    half = len(KERNEL) // 2
    padded = np.pad(scores, ((half, half), (0, 0)), mode="edge")
    return sum(np.float32(weight) * padded[shift : shift + len(scores)] for shift, weight in enumerate(KERNEL))
