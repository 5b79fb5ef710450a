"""Labels with times: which windows of an annotated recording are used, and which labels does each have?

A window has the label of an annotation if at least ``min_overlap_s`` of the annotation lie in the window. If the
annotation or the window is short, half of it is enough. So every annotation is in at least one of two adjacent windows.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dataloader.batches.windows import make_segments, make_windows, window_frames
from dataloader.tables import schema
from dataloader.tables.schema import NEGATIVE, UNKNOWN, Annotation
from utils.errors import DataError
from utils.settings import Data, DataProcess

if TYPE_CHECKING:
    import pandas as pd

_CLOSE_S = 1e-6  # times that differ by less are equal
NOT_KNOWN = -1.0  # the target of a species that may be present or absent; the losses leave it out


def needed_overlap(start_s: np.ndarray, end_s: np.ndarray, window_s: float, min_overlap_s: float) -> np.ndarray:
    """The seconds of each annotation that must lie in a window, ``(annotations,)``."""
    return np.minimum(min(min_overlap_s, window_s / 2), (end_s - start_s) / 2)


class TimedLabels:
    """The labels of each window, for the annotated recordings in a table.

    Args:
        metadata: recordings, with the columns ``annotations``, ``unannotated``, ``known_for`` and ``seconds`` where
            they have them.
        labels: the classes.
        min_overlap_s: of [data].
    """

    def __init__(self, metadata: "pd.DataFrame", labels: Sequence[str], min_overlap_s: float):
        self._index = {label: index for index, label in enumerate(labels)}
        self._min_overlap_s = min_overlap_s
        annotations = metadata[schema.ANNOTATIONS] if schema.ANNOTATIONS in metadata else [None] * len(metadata)
        known = metadata[schema.KNOWN_FOR] if schema.KNOWN_FOR in metadata else [None] * len(metadata)
        self.timed = np.array([isinstance(found, tuple) for found in annotations], dtype=bool)  # (recordings,)
        self._seconds = metadata["seconds"].tolist() if "seconds" in metadata else [math.inf] * len(metadata)
        self.unannotated = list(metadata[schema.UNANNOTATED]) if schema.UNANNOTATED in metadata else []
        self._times = {}
        for row in np.flatnonzero(self.timed):
            found = annotations.iloc[row]
            spans = np.array([annotation[:2] for annotation in found], dtype=np.float64).reshape(-1, 2)
            self._times[int(row)] = spans[:, 0], spans[:, 1], [annotation.label for annotation in found]
        self._not_known = np.zeros((len(metadata), len(labels)), dtype=bool)
        for row, names in enumerate(known):
            if isinstance(names, tuple):
                self._not_known[row] = [label not in names for label in labels]

    def span(self, recording: int, first: int, length: int, frames: int, frame_s: float) -> tuple[float, float]:
        """Start and end of a window in seconds.

        A window that is longer than its recording holds all of it, from anywhere. One that would reach beyond the end
        ends there: the last one of an encoder, whose frames are windows that follow one another.
        """
        if frames <= length:
            return 0.0, frames * frame_s
        start_s, end_s = first * frame_s, (first + length) * frame_s
        beyond = max(0.0, end_s - self._seconds[recording])
        return max(0.0, start_s - beyond), end_s - beyond

    def inside(self, recording: int, start_s: float, end_s: float) -> list[str]:
        """The labels of the annotations of which enough lies in a window."""
        starts, ends, labels = self._times[recording]
        overlap = np.minimum(ends, end_s) - np.maximum(starts, start_s)
        needed = needed_overlap(starts, ends, end_s - start_s, self._min_overlap_s)
        return [labels[index] for index in np.flatnonzero(overlap >= needed - _CLOSE_S)]

    def mark_not_known(self, targets: np.ndarray) -> None:
        """Set unknown species to ``NOT_KNOWN`` in ``(recordings, classes)`` targets of whole recordings."""
        targets[self._not_known & (targets == 0)] = NOT_KNOWN

    def targets(self, recording: int, start_s: float, end_s: float, present: float = 1.0) -> np.ndarray:
        """The targets of a window of an annotated recording.

        Args:
            present: the target of a species that is present.

        Returns:
            ``(classes,)`` float32: ``present``, 0, or ``NOT_KNOWN``.
        """
        found = self.inside(recording, start_s, end_s)
        examined = bool(found) if self.unannotated[recording] == "left_out" else schema.NOCALL in found
        absent = self.unannotated[recording] == "absent" or examined
        targets = np.full(len(self._index), 0.0 if absent and UNKNOWN not in found else NOT_KNOWN, dtype=np.float32)
        targets[self._not_known[recording]] = NOT_KNOWN
        for label in found:
            if label.startswith(NEGATIVE) and (index := self._index.get(label.removeprefix(NEGATIVE))) is not None:
                targets[index] = 0.0
        for label in found:
            if (index := self._index.get(label)) is not None:
                targets[index] = present
        return targets

    def is_labelled(self, recording: int, start_s: float, end_s: float) -> bool:
        """Whether the window has a label of an annotation."""
        return any(label != UNKNOWN for label in self.inside(recording, start_s, end_s))

    def of(self, recording: int) -> list[Annotation]:
        """The annotations of a recording that are not empty, in order of time."""
        starts, ends, labels = self._times[recording]
        return [Annotation(*row) for row in zip(starts, ends, labels, strict=True) if row[2] != UNKNOWN]


def training_windows(
    metadata: "pd.DataFrame", labels: Sequence[str], process: DataProcess, data: Data, *, crop: bool
) -> "pd.DataFrame":
    """The windows of an epoch of training, or with ``crop`` the segments from which windows are drawn.

    Returns:
        Rows ``recording``, ``first_frame``, ``n_frames``.

    Raises:
        DataError: there is none, because the recordings have no annotation.
    """
    if crop:
        windows = make_segments(metadata, process, data.segment_max_s, data.crops_per_segment)
    else:
        windows = make_windows(metadata, process)
    timed = TimedLabels(metadata, labels, data.min_overlap_s)
    if not timed.timed.any():
        return windows
    frames, length = metadata["frames"].tolist(), window_frames(process)
    frame_s = process.hop_length / process.sample_rate
    if crop:
        windows = choose_segments(windows, timed, frames, length, frame_s, data)
    else:
        windows = choose_windows(windows, timed, frames, length, frame_s, data.empty_windows)
    if windows.empty:
        raise DataError("no training window has a label: the recordings to train on have no annotation; annotate more")
    return windows


def choose_windows(
    windows: "pd.DataFrame", timed: TimedLabels, frames: Sequence[int], length: int, frame_s: float,
    empty_windows: float,
) -> "pd.DataFrame":  # fmt: skip
    """The windows that training uses of annotated recordings; those of other recordings do not change.

    These are all windows with a label and, if ``unannotated`` is absent, a number of windows without, evenly over the
    recording. So a night with ten annotations adds ten windows to an epoch, and with ``empty_windows`` = 1 ten more. An
    annotation in a tail that no window reaches has its own window.

    Args:
        windows: rows ``recording, first_frame, n_frames`` of ``make_windows``.
        frames: of each recording.
        length: frames in a window.
        frame_s: seconds from frame to frame.
        empty_windows: of [data]: the number of windows without a label for each window with one.
    """
    import pandas as pd

    rows = []
    firsts_of: dict[int, list[int]] = {}
    for recording, first, n_frames in windows.itertuples(index=False, name=None):
        if timed.timed[recording]:
            firsts_of.setdefault(recording, []).append(first)
        else:
            rows.append((recording, first, n_frames))
    for recording, firsts in firsts_of.items():
        spans = [timed.span(recording, first, length, frames[recording], frame_s) for first in firsts]
        labelled = [timed.is_labelled(recording, *span) for span in spans]
        chosen = {first for first, has in zip(firsts, labelled, strict=True) if has}
        chosen |= set(_unreached(timed.of(recording), spans, frames[recording], length, frame_s))
        if timed.unannotated[recording] == "absent":
            empty = [first for first, has in zip(firsts, labelled, strict=True) if not has]
            chosen |= set(_evenly(empty, math.ceil(empty_windows * max(1, len(chosen)))))
        rows += [(recording, first, min(length, frames[recording])) for first in sorted(chosen)]
    return pd.DataFrame(sorted(rows), columns=["recording", "first_frame", "n_frames"])


def choose_segments(
    segments: "pd.DataFrame", timed: TimedLabels, frames: Sequence[int], length: int, frame_s: float, data: Data
) -> "pd.DataFrame":
    """The same for windows that are drawn at random: segments in which all windows have a label, or none has.

    Args:
        segments: rows of ``make_segments``.
        data: [data]; an annotation longer than ``segment_max_s`` makes several segments.
    """
    import pandas as pd

    times, longest = data.crops_per_segment, round(data.segment_max_s / frame_s)
    rows = [row for row in segments.itertuples(index=False, name=None) if not timed.timed[row[0]]]
    for recording in np.flatnonzero(timed.timed).tolist():
        count = frames[recording]
        if count <= length:  # one window holds all of it
            span = timed.span(recording, 0, length, count, frame_s)
            if timed.is_labelled(recording, *span) or timed.unannotated[recording] == "absent":
                rows += times * [(recording, 0, count)]
            continue
        found = timed.of(recording)
        with_label = list(_around(found, count, length, frame_s, data.min_overlap_s, longest))
        without = []
        if timed.unannotated[recording] == "absent":
            gaps = list(_between(found, count, length, frame_s))
            without = _share_out(gaps, math.ceil(data.empty_windows * max(1, len(with_label))))
        rows += times * [(recording, first, n) for first, n in with_label + without]
    return pd.DataFrame(sorted(rows), columns=["recording", "first_frame", "n_frames"])


def _unreached(
    found: list[Annotation], spans: list[tuple[float, float]], frames: int, length: int, frame_s: float
) -> Iterator[int]:
    """First frames of windows for the annotations that no window touches, such as those in a short tail."""
    length_s = frames * frame_s
    for begin, end, *_ in found:
        if begin < length_s and all(begin >= window_end or end <= window_begin for window_begin, window_end in spans):
            middle = (begin + min(end, length_s)) / 2
            yield max(0, min(round(middle / frame_s) - length // 2, frames - length))


def _evenly(items: list[int], count: int) -> list[int]:
    """At most ``count`` of the items, evenly spaced."""
    if len(items) <= count:
        return items
    return [items[(2 * index + 1) * len(items) // (2 * count)] for index in range(count)]


def _around(
    found: list[Annotation], frames: int, length: int, frame_s: float, min_overlap_s: float, longest: int
) -> Iterator[tuple[int, int]]:
    """``(first frame, frames)`` of segments whose windows all have an annotation; near annotations share a segment."""
    reached = -1.0  # seconds up to which annotations have their segment
    window_s = length * frame_s
    for begin, stop, *_ in sorted(found):
        needed = float(needed_overlap(np.array(begin), np.array(stop), window_s, min_overlap_s))
        start, end = max(begin, reached), min(stop, frames * frame_s)
        # The segment before contains it, or too little of it lies before the end of the recording.
        if end - start < needed:
            continue
        first = max(0, math.ceil((start + needed) / frame_s) - length)
        last = min(frames - length, math.floor((end - needed) / frame_s))
        if last < first:
            continue
        count = max(1, -(-(last - first + length) // longest))
        edges = [first + (last - first) * number // count for number in range(count + 1)]
        for low, high in itertools.pairwise(edges):
            yield low, high - low + length
        reached = max(end, start + window_s / 2)


def _between(found: list[Annotation], frames: int, length: int, frame_s: float) -> Iterator[tuple[int, int]]:
    """``(first frame, frames)`` of segments without annotations that are long enough for a window."""
    after = 0
    edges = [annotation[:2] for annotation in sorted(found)] + [(frames * frame_s, math.inf)]
    for start, end in edges:
        before = min(frames, math.floor(start / frame_s))
        if before - after >= length:
            yield after, before - after
        after = max(after, math.ceil(end / frame_s) if end < math.inf else frames)


def _share_out(gaps: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """``count`` segments of these, with a long one cut into several; fewer if there is no space for more."""
    total = sum(n for _, n in gaps)
    chosen, left = [], count
    for first, n in sorted(gaps, key=lambda gap: -gap[1]):
        share = min(left, max(1, round(count * n / total)))
        chosen += share * [(first, n)]
        left -= share
        if not left:
            break
    return chosen
