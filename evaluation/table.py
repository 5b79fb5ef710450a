"""What is scored? Rows with the scores of each class and the true labels."""

from dataclasses import dataclass, replace

import numpy as np

from utils.errors import DataError
from utils.metrics import mean_by_recording

PRESENT, ABSENT, UNKNOWN = 1, 0, -1
NOCALL = "nocall"  # a class for recordings in which no bird calls; it is not a species


@dataclass(frozen=True)
class ScoreTable:
    """Scores and labels of the same rows; a row is a window or a recording.

    Attributes:
        labels: the classes, in the order of the columns.
        scores: ``(rows, classes)`` float, finite.
        targets: ``(rows, classes)`` int8: 1 present, 0 absent, -1 unknown.
        recordings: the names of the recordings.
        recording: ``(rows,)``, the index of each row's recording.
        group: ``(recordings,)``, the name of each recording's group: recordist and place.
        seconds: ``(rows,)``, the length of each row.
        timed: whether labels have times; otherwise each row has the labels of its whole recording.
        source: where it comes from, for messages.
        with_others: ``(recordings,)``, whether a species that is none of the classes calls in the recording; ``()``: in
            none of them.
    """

    labels: tuple[str, ...]
    scores: np.ndarray
    targets: np.ndarray
    recordings: tuple[str, ...]
    recording: np.ndarray
    group: tuple[str, ...]
    seconds: np.ndarray
    timed: bool
    source: str = ""
    with_others: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        shape = (len(self.recording), len(self.labels))
        if self.scores.shape != shape or self.targets.shape != shape or len(self.seconds) != len(self.recording):
            raise ValueError(f"expected {shape} of both, got scores {self.scores.shape}, targets {self.targets.shape}")
        if len(self.group) != len(self.recordings):
            raise ValueError(f"expected a group for each of {len(self.recordings)} recordings, got {len(self.group)}")
        if not len(self.recording):
            raise DataError(f"{self.source}: there is nothing to score")
        if not np.isfinite(self.scores).all():
            row, column = np.argwhere(~np.isfinite(self.scores))[0]
            name = self.recordings[self.recording[row]]
            raise DataError(f"{self.source}: the score of {self.labels[column]} in {name} is not a finite number")

    @property
    def group_of_rows(self) -> np.ndarray:
        """``(rows,)``, the index of each row's group."""
        _, index = np.unique(np.asarray(self.group, dtype=object).astype(str), return_inverse=True)
        return index[self.recording]

    @property
    def n_groups(self) -> int:
        return len(set(self.group))

    @property
    def grouped_by(self) -> str:
        """What the groups are; single recordings if no recordist or place is known."""
        return "recordings" if self.n_groups == len(self.recordings) else "recordists and places"

    @property
    def hours(self) -> float:
        return float(self.seconds.sum()) / 3600

    def by_recording(self) -> "ScoreTable":
        """A row for each recording, with the mean score; a class is present if any row has it, absent if no row has."""
        order = np.argsort(self.recording, kind="stable")
        starts = np.searchsorted(self.recording[order], np.arange(len(self.recordings)))
        highest = np.maximum.reduceat(self.targets[order], starts, axis=0)
        lowest = np.minimum.reduceat(self.targets[order], starts, axis=0)
        targets = np.where((highest < PRESENT) & (lowest == UNKNOWN), UNKNOWN, highest).astype(np.int8)
        return replace(
            self,
            scores=mean_by_recording(self.scores, self.recording, len(self.recordings)),
            targets=targets,
            recording=np.arange(len(self.recordings)),
            seconds=np.bincount(self.recording, self.seconds),
        )

    def choose(self, rows: np.ndarray) -> "ScoreTable":
        """Some of the rows, as a mask or indices; recordings without a row are left out."""
        kept, recording = np.unique(self.recording[rows], return_inverse=True)
        return replace(
            self,
            scores=self.scores[rows],
            targets=self.targets[rows],
            seconds=self.seconds[rows],
            recording=recording,
            recordings=tuple(self.recordings[index] for index in kept),
            group=tuple(self.group[index] for index in kept),
            with_others=tuple(self.with_others[index] for index in kept) if self.with_others else (),
        )


def concatenate(tables: list[ScoreTable]) -> ScoreTable:
    """One table of several, such as those of all folds, each with its own recordings.

    Raises:
        DataError: they have other classes, or a recording in common.
    """
    first = tables[0]
    for other in tables[1:]:
        if other.labels != first.labels:
            raise DataError(f"{other.source}: it has other classes than {first.source}; they cannot be pooled")
    names = [name for table in tables for name in table.recordings]
    if len(set(names)) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise DataError(f"{first.source}: {twice} is scored twice, so these are not the folds of one split")
    offsets = np.cumsum([0] + [len(table.recordings) for table in tables[:-1]])
    return replace(
        first,
        scores=np.concatenate([table.scores for table in tables]),
        targets=np.concatenate([table.targets for table in tables]),
        seconds=np.concatenate([table.seconds for table in tables]),
        recordings=tuple(names),
        recording=np.concatenate([table.recording + offset for table, offset in zip(tables, offsets, strict=True)]),
        group=tuple(name for table in tables for name in table.group),
        with_others=tuple(flag for table in tables for flag in table.with_others or (False,) * len(table.recordings)),
    )
