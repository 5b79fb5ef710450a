"""How certain is a figure? Intervals by a bootstrap over groups (recordists and places), not over rows.

Rows of one recordist at one place share the microphone, the background and often the bird: ten windows of one
recording prove little more than one. So complete groups are drawn, with replacement, and every figure is computed again
for each draw (the cluster bootstrap; Field and Welsh 2007).
"""

from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv

LEVEL = 0.95  # of every interval
RESAMPLES = 300
FEWEST_GROUPS = 3  # with fewer, draws are too similar for an interval


class Estimate(NamedTuple):
    """A figure and its interval; None for what cannot be computed."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        return f"{self.value:.3f}" + (f" [{self.low:.3f}, {self.high:.3f}]" if self.low is not None else "")

    @property
    def width(self) -> float | None:
        """The width of the interval; None if there is none."""
        return None if self.low is None else self.high - self.low


def draw_weights(n_groups: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each group is drawn, ``(groups, 1 + resamples)`` float32; the first column is ones: the data."""
    drawn = np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / max(n_groups, 1)), size=resamples)
    return np.vstack([np.ones((1, n_groups)), drawn]).T.astype(np.float32)


def estimate(resampled: np.ndarray, n_groups: int | None = None) -> Estimate:
    """The first value, and the interval that contains ``LEVEL`` of the others.

    Args:
        resampled: ``(1 + resamples,)``; NaN for a resample in which it cannot be computed, such as one without a
            positive.
        n_groups: the groups that the figure comes from; below ``FEWEST_GROUPS`` there is no interval.
    """
    value, draws = float(resampled[0]), resampled[1:][np.isfinite(resampled[1:])]
    if not np.isfinite(value):
        return Estimate(None)
    if len(draws) < len(resampled) / 2 or (n_groups is not None and n_groups < FEWEST_GROUPS):
        return Estimate(value)
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(min(low, value)), float(max(high, value)))


def estimate_share(resampled: np.ndarray, n_groups: int) -> Estimate:
    """Like ``estimate``, for a share such as a precision or an AUC, which may be 0 or 1 in every group.

    Then all draws agree, but a share of 1 in five groups proves little. So the interval is that of Clopper and Pearson
    (1934) with the groups as the trials.

    Args:
        n_groups: the groups that it comes from: with a detection for a precision, with a positive for a recall.
    """
    value = float(resampled[0])
    if not np.isfinite(value) or not n_groups:
        return Estimate(None)
    if value >= 1:
        return Estimate(1.0, *share_interval(n_groups, n_groups))
    if value <= 0:
        return Estimate(0.0, *share_interval(0, n_groups))
    return estimate(resampled, n_groups)


def share_interval(hits: int, trials: int) -> tuple[float, float]:
    """The interval of a share (Clopper and Pearson 1934); without a hit it begins at 0, with only hits it ends at 1."""
    tail = (1 - LEVEL) / 2
    low = betaincinv(hits, trials - hits + 1, tail) if hits else 0.0
    high = betaincinv(hits + 1, trials - hits, 1 - tail) if hits < trials else 1.0
    return float(low), float(high)
