"""Which scores are detections? Scores of rows -> labels with a start and an end."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inference.choices import DEFAULT_THRESHOLD

LONGEST_S = 60.0  # of merged detections, unless a longest length is given
_TOUCHING_S = 1e-6  # rows that are no further apart follow on each other


@dataclass(frozen=True)
class Result:
    """The rows of one recording.

    Attributes:
        start_s, end_s: ``(rows,)``, seconds.
        scores: ``(rows, classes)``, in the order of the card's labels; thresholds apply to these.
        seconds, sample_rate: of the recording.
        probabilities: of the same shape, written in place of the scores; None: the scores are written.
        time_expansion: how many times slower the file plays than the original sound; all times here are of the sound.
    """

    path: Path
    start_s: np.ndarray
    end_s: np.ndarray
    scores: np.ndarray
    seconds: float
    sample_rate: int
    probabilities: np.ndarray | None = None
    time_expansion: float = 1.0

    @property
    def values(self) -> np.ndarray:
        """``(rows, classes)``: the values that are written."""
        return self.scores if self.probabilities is None else self.probabilities


@dataclass(frozen=True)
class DetectionFilter:
    """Which scores are detections.

    Args:
        threshold: the least score, one for all classes or one for each (NaN: never a detection); None: any.
        top_k: of each row at most so many labels, the best; None: all.
        merge: make one detection of consecutive ones of a label, with the highest of their scores.
        stop_threshold: a merged detection continues while scores are at least this; None: while its rows would be
            detections on their own.
        longest_s: a longer merged detection is cut into several, before its lowest scores.
    """

    threshold: float | tuple[float, ...] | None = None
    top_k: int | None = None
    merge: bool = False
    stop_threshold: float | None = None
    longest_s: float = LONGEST_S

    def or_default(self) -> "DetectionFilter":
        """The same, with ``DEFAULT_THRESHOLD`` where neither a threshold nor a number of labels is set."""
        if self.threshold is None and self.top_k is None:
            return replace(self, threshold=DEFAULT_THRESHOLD)
        return self

    def description(self) -> str:
        """The filter as a phrase."""
        phrases = []
        if isinstance(self.threshold, tuple):
            phrases += ["scores of at least the threshold of each class"]
        elif self.threshold is not None:
            phrases += [f"scores of at least {self.threshold:g}"]
        phrases += [f"the best {self.top_k} of each row"] if self.top_k is not None else []
        if self.merge:
            merged = "consecutive ones as one"
            merged += f" until a score is below {self.stop_threshold:g}" if self.stop_threshold is not None else ""
            phrases += [f"{merged}, of up to {self.longest_s:g} s"]
        return ", ".join(phrases) or "all scores"


class Detection(NamedTuple):
    """A label somewhere in a recording.

    Attributes:
        label: the index of the label.
        score: the highest score of the rows.
        peak_s: the start of the row with this score.
    """

    start_s: float
    end_s: float
    label: int
    score: float
    peak_s: float


def detections(result: Result, detection_filter: DetectionFilter) -> Iterator[Detection]:
    """The detections in a recording, by time and then by label."""
    kept = _kept(result.scores, detection_filter)
    if detection_filter.merge:
        yield from _merged(result, kept, detection_filter)
        return
    for row in np.flatnonzero(kept.any(axis=1)):
        start_s, end_s, scores = float(result.start_s[row]), float(result.end_s[row]), result.values[row]
        for label in np.flatnonzero(kept[row]):
            yield Detection(start_s, end_s, int(label), float(scores[label]), start_s)


def _kept(scores: np.ndarray, detection_filter: DetectionFilter) -> np.ndarray:
    """Which scores are detections on their own, ``(rows, classes)``."""
    kept = np.ones(scores.shape, dtype=bool)
    if detection_filter.threshold is not None:
        kept &= scores >= np.asarray(detection_filter.threshold, np.float32)
    if detection_filter.top_k is not None:
        kept &= np.argsort(-scores, axis=1, kind="stable").argsort(axis=1) < detection_filter.top_k
    return kept


def _merged(result: Result, kept: np.ndarray, detection_filter: DetectionFilter) -> list[Detection]:
    goes_on = kept.copy()
    if detection_filter.stop_threshold is not None:
        goes_on |= result.scores >= detection_filter.stop_threshold
    found = [
        _joined(result, rows, int(label))
        for label in np.flatnonzero(kept.any(axis=0))
        for rows in _stretches(result, kept[:, label], goes_on[:, label], int(label), detection_filter.longest_s)
    ]
    return sorted(found, key=lambda one: (one.start_s, one.label))


def _stretches(
    result: Result, starts: np.ndarray, goes_on: np.ndarray, label: int, longest_s: float
) -> Iterator[slice]:
    """The rows of each merged detection: from one that starts it to the last that continues it, at most longest_s."""
    row, rows = 0, len(starts)
    while row < rows:
        if not starts[row]:
            row += 1
            continue
        end = row + 1
        while end < rows and goes_on[end] and result.start_s[end] <= result.end_s[end - 1] + _TOUCHING_S:
            end += 1
        if end > row + 1 and result.end_s[end - 1] - result.start_s[row] > longest_s + _TOUCHING_S:
            end = _cut(result, row, end, label, longest_s)
        yield slice(row, end)
        row = end


def _cut(result: Result, first: int, end: int, label: int, longest_s: float) -> int:
    """The row before which a merged detection that is too long is cut: the row with the lowest score in the second half
    of the allowed length, which is a pause in the song if there is one."""
    lengths = result.end_s[first:end] - result.start_s[first]
    most = max(1, int(np.searchsorted(lengths, longest_s + _TOUCHING_S, side="right")))  # rows of the allowed length
    least = min(most, max(1, int(np.searchsorted(lengths, longest_s / 2))))
    candidates = result.scores[first + least : min(first + most + 1, end), label]
    return first + least + len(candidates) - 1 - int(np.argmin(candidates[::-1]))  # of equals the last


def _joined(result: Result, rows: slice, label: int) -> Detection:
    scores = result.values[rows, label]
    best = rows.start + int(scores.argmax())
    return Detection(
        float(result.start_s[rows.start]), float(result.end_s[rows.stop - 1]), label, float(scores.max()),
        float(result.start_s[best]),
    )  # fmt: skip
