"""How does a score become a probability, so that a score of 0.8 is right in 8 of 10 cases?

A class with many positives has its own isotonic regression; one with fewer has its own temperature and offset (Platt
1999; logit -> logit / temperature + offset); all others share those that are fitted over all classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit

from evaluation.intervals import Estimate, estimate
from evaluation.table import ScoreTable

BINS = 10  # of the reliability diagram, equally wide
ISOTONIC_FROM = 200  # positive rows of a class
ISOTONIC_GROUPS = 20  # and the groups that they come from
OWN_FROM = 20  # positive rows of a class for its own temperature
OWN_GROUPS = 5
_EDGE = 1e-6  # a score of 0 or 1 has no finite logit
_MOST_STEPS = 64  # the most steps of an isotonic regression that are kept


@dataclass(frozen=True)
class Curve:
    """How the scores of one class become probabilities.

    Attributes:
        kind: ``isotonic``, ``temperature`` or ``pooled`` (a temperature over all classes).
        logits, probabilities: for isotonic, the corners of a curve that is linear between them.
        slope, offset: for the others, ``probability = sigmoid(slope * logit + offset)``; the temperature is 1 / slope.
    """

    kind: str
    slope: float = 1.0
    offset: float = 0.0
    logits: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        x = to_logits(scores)
        if self.kind == "isotonic":
            return np.interp(x, self.logits, self.probabilities)
        return expit(self.slope * x + self.offset)

    def plain(self) -> dict[str, Any]:
        """The same in plain values."""
        if self.kind == "isotonic":
            return {"kind": self.kind, "logits": list(self.logits), "probabilities": list(self.probabilities)}
        return {"kind": self.kind, "slope": self.slope, "offset": self.offset}


def curve_of(plain: Mapping[str, Any]) -> Curve:
    """The curve that ``Curve.plain`` describes.

    Raises:
        KeyError, TypeError, ValueError: it does not describe one.
    """
    if plain["kind"] == "isotonic":
        x, y = (tuple(map(float, plain[name])) for name in ("logits", "probabilities"))
        if len(x) != len(y) or not x:
            raise ValueError("an isotonic curve needs as many probabilities as logits")
        return Curve("isotonic", logits=x, probabilities=y)
    return Curve(str(plain["kind"]), float(plain["slope"]), float(plain["offset"]))


def to_logits(scores: np.ndarray) -> np.ndarray:
    """The logits of scores between 0 and 1, kept finite."""
    return logit(np.clip(np.asarray(scores, dtype=np.float64), _EDGE, 1 - _EDGE))


def fit_curves(table: ScoreTable) -> list[Curve]:
    """A curve for each class; its kind depends on the number of positives.

    Rows of one group are similar, so the number of groups counts as well as the number of rows.
    """
    x, known, present = to_logits(table.scores), table.targets >= 0, table.targets == 1
    pooled = _temperature(x[known], present[known], "pooled")
    groups = table.group_of_rows
    curves = []
    for column in range(len(table.labels)):
        rows, positive = known[:, column], present[:, column]
        n_positive, n_groups = int(positive.sum()), len(np.unique(groups[positive]))
        if n_positive >= ISOTONIC_FROM and n_groups >= ISOTONIC_GROUPS:
            curves.append(_isotonic(x[rows, column], positive[rows]))
        elif n_positive >= OWN_FROM and n_groups >= OWN_GROUPS and not positive[rows].all():
            curves.append(_temperature(x[rows, column], positive[rows], "temperature", prior=pooled))
        else:
            curves.append(pooled)
    return curves


def calibrate(curves: list[Curve], scores: np.ndarray) -> np.ndarray:
    """``(rows, classes)`` scores -> probabilities of the same shape, float32."""
    return np.stack([curve(scores[:, column]) for column, curve in enumerate(curves)], axis=1).astype(np.float32)


def _temperature(x: np.ndarray, present: np.ndarray, kind: str, prior: Curve | None = None) -> Curve:
    """Fit slope and offset, with scikit-learn's default penalty for the difference from ``prior``."""
    from sklearn.linear_model import LogisticRegression  # it takes seconds to import

    if not present.any() or present.all():
        return Curve(kind)
    if prior is None:
        model = LogisticRegression(C=np.inf).fit(x[:, None], present)
        slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
    else:  # the input is the output of the pooled curve, and the change is penalised
        base = prior.slope * x + prior.offset
        model = LogisticRegression(C=1.0).fit(base[:, None], present)
        slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
        slope, offset = slope * prior.slope, offset + slope * prior.offset
    if slope <= 0:  # scores that rank in the wrong direction are not reversed
        return prior or Curve(kind)
    return Curve(kind, slope, offset)


def _isotonic(x: np.ndarray, present: np.ndarray) -> Curve:
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(x, present.astype(float))
    corners, heights = model.X_thresholds_, model.y_thresholds_
    if len(corners) > _MOST_STEPS:
        kept = np.unique(np.linspace(0, len(corners) - 1, _MOST_STEPS).round().astype(int))
        corners, heights = corners[kept], heights[kept]
    return Curve("isotonic", logits=tuple(map(float, corners)), probabilities=tuple(map(float, heights)))


@dataclass(frozen=True)
class Reliability:
    """Is a score the share of rows in which the class is present? In bins of equal width from 0 to 1.

    Attributes:
        mean_score, share_present: of the cells in each bin, NaN for an empty one.
        cells: their number in each bin.
        error: the expected calibration error: the mean over the cells of |mean score - share present| of their bin
            (Naeini et al. 2015). Most cells are of absent species with a score near 0, so it is small.
        error_of_highest: the same for the highest class of each row only.
    """

    mean_score: np.ndarray
    share_present: np.ndarray
    cells: np.ndarray
    error: Estimate
    error_of_highest: Estimate


def reliability(table: ScoreTable, weights: np.ndarray) -> Reliability:
    """Compare scores with the share of rows in which the class is present.

    Args:
        weights: ``(groups, resamples)`` of ``evaluation.intervals.draw_weights``.
    """
    known, group = table.targets >= 0, table.group_of_rows
    of_cells = np.broadcast_to(group[:, None], known.shape)
    counts, scores, presents = _bins(table.scores[known], table.targets[known], of_cells[known], weights)
    highest = np.where(table.targets >= 0, table.scores, -np.inf).argmax(axis=1)
    rows = np.flatnonzero(table.targets[np.arange(len(highest)), highest] >= 0)
    top = _bins(table.scores[rows, highest[rows]], table.targets[rows, highest[rows]], group[rows], weights)
    with np.errstate(invalid="ignore"):
        return Reliability(
            scores[:, 0] / counts[:, 0], presents[:, 0] / counts[:, 0], counts[:, 0].astype(int),
            estimate(_error(counts, scores, presents), table.n_groups), estimate(_error(*top), table.n_groups),
        )  # fmt: skip


def _bins(score: np.ndarray, present: np.ndarray, group: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    """Cells, the sum of their scores and the present ones, each ``(bins, resamples)``."""
    n_groups = len(weights)
    at = np.clip((score * BINS).astype(int), 0, BINS - 1) * n_groups + group
    return [
        np.bincount(at, value, minlength=BINS * n_groups).reshape(BINS, n_groups) @ weights
        for value in (None, score, present)
    ]


def _error(counts: np.ndarray, scores: np.ndarray, presents: np.ndarray) -> np.ndarray:
    return np.abs(scores - presents).sum(axis=0) / counts.sum(axis=0)
