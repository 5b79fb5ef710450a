"""What does the page of detections show? Detections, counts and recordings, gathered in one pass over the results."""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dataloader.audio.recorder import what_the_recorder_wrote
from utils.errors import counted
from utils.files import printable
from utils.visualise import clock

LISTED = 50_000  # detections on the page; if there are more, the strongest of each species are listed
CLIPS = 10  # the strongest detections of a species, each shown with its picture and sound
_BINS_S = (60, 300, 900, 3600, 7200, 14_400, 86_400)  # columns of the overview, where no start times are known
_COLUMNS = 24  # columns of the overview, at most


class ListedDetection(NamedTuple):
    """A species somewhere in a recording.

    Attributes:
        species: its number among those of the model.
        peak_s: the moment that shows it best: the start of its strongest row.
    """

    start_s: float
    end_s: float
    species: int
    score: float
    peak_s: float


class Recording(NamedTuple):
    """A recording that was scored.

    Attributes:
        detections: rows of the fields of ``ListedDetection``.
        highest: the highest score of any species in it, detection or not.
        started: when it began, if that is known.
        time_expansion: how many times slower the file plays than the original sound; all times here are of the sound.
    """

    path: Path
    seconds: float
    detections: Iterable[Sequence[float]]
    highest: float
    started: datetime | None = None
    time_expansion: float = 1.0


class Species(NamedTuple):
    """The names of a class of the model."""

    label: str
    scientific_name: str = ""
    common_name: str = ""

    @property
    def name(self) -> str:
        return self.common_name or self.label


class Strong(NamedTuple):
    """One of the strongest detections, and the number of its recording."""

    score: float
    recording: int
    detection: ListedDetection


@dataclass
class ListedRecording:
    """What the page shows of a recording.

    Attributes:
        best: the highest score of its detections; 0 if it has none.
    """

    path: Path
    seconds: float
    started: datetime | None
    time_expansion: float = 1.0
    best: float = 0.0

    @property
    def name(self) -> str:
        return printable(self.path)


@dataclass
class Findings:
    """What the page shows of all recordings.

    Attributes:
        listed: the detections of each species, by its number; if there are too many, those of the highest scores.
        counts: the number of all detections of each species.
        strongest: the detections of each species that get a picture, the best first.
        highest: the highest score of any species, detection or not.
    """

    recordings: list[ListedRecording] = field(default_factory=list)
    listed: dict[int, list[Strong]] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)
    strongest: dict[int, list[Strong]] = field(default_factory=dict)
    highest: float = 0.0

    @property
    def ranked(self) -> list[int]:
        """The species that were detected, the one with the strongest detection first."""
        return sorted(self.strongest, key=lambda number: -self.strongest[number][0].score)

    @property
    def total(self) -> int:
        return sum(map(len, self.listed.values()))

    def prune(self, limit: int) -> None:
        """Leave ``limit`` detections listed: of each species the strongest, and as many of each as that allows."""
        if self.total <= limit:
            return
        left, quota = limit, 0
        for number, size in enumerate(sorted(map(len, self.listed.values()))):
            quota = left // (len(self.listed) - number)  # an equal share of what the smaller ones leave
            left -= min(size, quota)
        for number, detections in self.listed.items():
            self.listed[number] = heapq.nlargest(quota, detections)


def gather(recordings: Iterable[Recording]) -> Findings:
    """Read the recordings once, and keep what the page shows of them."""
    findings = Findings()
    for number, recording in enumerate(recordings):
        started = recording.started or _started(recording.path)
        listed = ListedRecording(recording.path, recording.seconds, started, recording.time_expansion)
        by_species: dict[int, list[Strong]] = {}
        for row in recording.detections:
            detection = ListedDetection(*row)
            by_species.setdefault(detection.species, []).append(Strong(detection.score, number, detection))
            listed.best = max(listed.best, detection.score)
        for key, detections in by_species.items():
            findings.counts[key] += len(detections)
            findings.listed.setdefault(key, []).extend(detections)
            candidates = findings.strongest.get(key, []) + _apart(detections)
            findings.strongest[key] = heapq.nlargest(CLIPS, candidates)
        findings.recordings.append(listed)
        findings.highest = max(findings.highest, recording.highest)
        if findings.total > 2 * LISTED:  # what is left out now would be left out at the end as well
            findings.prune(LISTED)
    findings.prune(LISTED)
    return findings


def _started(path: Path) -> datetime | None:
    """When a recording began, according to its file or the file's name; None if neither states it."""
    written = what_the_recorder_wrote(path).recorded_at
    try:
        return datetime.fromisoformat(written) if "T" in written else None  # a day alone does not give the hour
    except ValueError:
        return None


def _apart(detections: Iterable[Strong]) -> list[Strong]:
    """The strongest detections that do not overlap: with overlapping rows, one call is in several."""
    chosen: list[Strong] = []
    for one in sorted(detections, reverse=True):
        if len(chosen) == CLIPS:
            break
        start_s, end_s = one.detection.start_s, one.detection.end_s
        if all(start_s >= other.detection.end_s or end_s <= other.detection.start_s for other in chosen):
            chosen.append(one)
    return chosen


def time_axis(recordings: Sequence[ListedRecording]) -> dict[str, Any]:
    """The columns of the overview: hours of the day if all start times are known, else time within a recording.

    Returns:
        ``starts``, seconds to add to a time within each recording; ``seconds`` of a column; ``bins``, their names;
        ``first``, the number of the first; ``wraps``, whether a column is an hour of any day; ``words``.
    """
    if recordings and all(one.started is not None for one in recordings):
        return _clock_axis(recordings)
    longest = max((one.seconds for one in recordings), default=0.0)
    step = next((step for step in _BINS_S if longest <= step * _COLUMNS), math.ceil(longest / _COLUMNS / 3600) * 3600)
    number = max(1, math.ceil(longest / step))
    return {
        "starts": [0.0] * len(recordings), "seconds": step, "first": 0, "wraps": False,
        "bins": [f"{step * bin // 3600} h" if step >= 3600 else clock(step * bin) for bin in range(number)],
        "words": f"by the time since the start of a recording; a column is {_span_words(step)}",
    }  # fmt: skip


def _clock_axis(recordings: Sequence[ListedRecording]) -> dict[str, Any]:
    starts = [one.started.hour * 3600.0 + one.started.minute * 60 + one.started.second for one in recordings]
    used = np.zeros(24, dtype=bool)
    for start, one in zip(starts, recordings, strict=True):
        last = min(start + one.seconds - 1e-6, start + 86_399)
        used[np.arange(int(start // 3600), int(max(start, last) // 3600) + 1) % 24] = True
    hours = np.flatnonzero(used)
    gaps = np.diff(hours, append=hours[0] + 24)  # a night begins after the longest time without recordings
    first = int(hours[(int(gaps.argmax()) + 1) % len(hours)])
    number = 25 - int(gaps.max())
    bins = [f"{(first + bin) % 24:02}:00" for bin in range(number)]
    words = "by the hour of the day, from the start times of the recordings"
    return {"starts": starts, "seconds": 3600, "first": first, "wraps": True, "bins": bins, "words": words}


def _span_words(seconds: float) -> str:
    return counted(round(seconds / 3600), "hour") if seconds >= 3600 else counted(round(seconds / 60), "minute")
