"""Which segments of a recording are the rows of the result, and which windows does each model score for a row?

A row is a segment of ``window_s`` seconds; a new row starts every ``step_s`` seconds. The end of a recording is treated
as in training: a tail of at least half a step (half a row, where rows do not touch) gives a last row that ends with the
recording; a shorter tail is left out.
For each row a model scores one or more windows of the length that it was trained on. If its windows are longer than
the row, one window has the row in its middle; if they are shorter, several are spread over the row.
A window never reaches beyond the recording; a recording that is shorter than a window is repeated to fill it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dataloader.batches.dataset import Batch
from dataloader.batches.windows import makes_a_window
from dataloader.cache.spectrogram import BandStatistics
from utils.settings import DataProcess

# Seconds around a window that stand for the recording, where a model was trained on images standardised over that.
SPAN_S = 60.0
_SHIFTS = ((0.0, 0.5), (-0.5, 0.25), (0.5, 0.25))  # of shift_tta: (lengths of a window, weight)


@dataclass(frozen=True)
class Grid:
    """The rows of a recording.

    Args:
        window_s: length of a row, seconds.
        step_s: from the start of a row to the start of the next, seconds.
        shift_tta: also score the windows half a window earlier and later, each with half the weight.
    """

    window_s: float
    step_s: float
    shift_tta: bool = False


@dataclass(frozen=True)
class WindowPlan:
    """Which windows of a recording one model scores for each row.

    Args:
        rate: frames (of a spectrogram, or samples) per second.
        length: frames in a window.
        span: frames over which a window is standardised; 0: the transform does that over the window itself.
        transform: turns windows into the input of the model, as in training.
    """

    grid: Grid
    rate: float
    length: int
    process: DataProcess
    span: int = 0
    transform: Callable[[Batch], tuple] | None = None

    def windows(self, start_s: float, row: int | None = None) -> list[tuple[int, float]]:
        """``(first frame, weight)`` of each window for a row; a window may still reach beyond the recording.

        Args:
            row: frames in the row, if the recording is shorter than a row.
        """
        row = self.row_frames if row is None else row
        low, high = self._outermost(start_s, row)
        gaps = max(0, -(-row // self.length) - 1)
        firsts = [low + round(number * (high - low) / gaps) for number in range(gaps + 1)] if gaps else [low]
        return [
            (first + round(shift * self.length), weight / len(firsts))
            for first in firsts
            for shift, weight in self._shifts
        ]

    def _outermost(self, start_s: float, row: int) -> tuple[int, int]:
        """First frame of the first and of the last window for a row, before any shift."""
        start = round(start_s * self.rate)
        if row <= self.length:
            return (middle := start - (self.length - row) // 2), middle
        return start, start + row - self.length

    @property
    def _shifts(self) -> tuple[tuple[float, float], ...]:
        return _SHIFTS if self.grid.shift_tta else ((0.0, 1.0),)

    @property
    def row_frames(self) -> int:
        return round(self.grid.window_s * self.rate)

    def reach(self, start_s: float) -> tuple[int, int]:
        """The first frame that the row needs, and the frame after the last one, while the recording continues."""
        low, high = self._outermost(start_s, self.row_frames)
        shifts = [round(shift * self.length) for shift, _ in self._shifts]
        around = max(0, self.span - self.length)
        # No window starts before the recording; for the first windows, the whole span is after the window.
        low, high = low + min(shifts) - around, high + max(shifts) + self.length + around - around // 2
        return max(0, low), max(high, self.length, self.span)

    @property
    def keeps(self) -> int:
        """How many frames back a last row, which is moved to end with the recording, may reach."""
        return max(self.row_frames, self.length) + self.length + self.span

    def cut(self, frames: np.ndarray, offset: int, total: int | None, first: int) -> np.ndarray:
        """The window at ``first``, ``(length, features)`` float32, standardised over its span if there is one.

        Args:
            frames: the frames that are held in memory, ``(held, features)``, from frame ``offset`` on.
            total: frames in the recording; None while it continues.
        """
        first = self.kept_inside(first, total)
        window = frames[first - offset : first - offset + self.length]
        if len(window) < self.length:  # the whole recording is shorter
            window = np.take(window, np.arange(self.length), axis=0, mode="wrap")
        if not self.span:
            return window
        middle = first - (self.span - self.length) // 2
        start = max(0, middle if total is None else min(middle, total - self.span))
        statistics = BandStatistics()
        statistics.add(frames[start - offset : start - offset + self.span])
        mean, scale = statistics.mean_and_scale(self.process)
        return (window - mean) / scale

    def kept_inside(self, first: int, total: int | None) -> int:
        """The first frame of a window, moved so that the window is inside the recording."""
        return max(0, first if total is None else min(first, total - self.length))


class Row(NamedTuple):
    """A row of the result.

    Attributes:
        start_s, end_s: start and end in the recording, seconds.
        windows: for each plan, ``(number, weight)`` of its windows; the numbers count through the whole recording.
    """

    start_s: float
    end_s: float
    windows: list[list[tuple[int, float]]]


class Completed(NamedTuple):
    """The rows and windows that a new piece of a recording completes.

    Attributes:
        rows: the new rows.
        windows: for each plan, its new windows, each ``(length, features)`` float32.
    """

    rows: list[Row]
    windows: list[list[np.ndarray]]


class Windower:
    """Cuts windows from a recording that arrives in pieces; holds only the frames that later rows need.

    Args:
        plans: one for each model; the first one decides how many rows a recording has.
        sources: for each plan, the index of its spectrogram among those that arrive.
    """

    def __init__(self, plans: Sequence[WindowPlan], sources: Sequence[int]):
        self._plans, self._sources = plans, sources
        self._held = [_Held() for _ in range(max(sources) + 1)]
        self._rows = 0
        self._known: list[dict[int, int]] = [{} for _ in plans]  # first frame -> window, for the last row
        self._windows = [0] * len(plans)

    def push(self, pieces: Sequence[np.ndarray]) -> Completed:
        """Add the next ``(frames, features)`` of each source; return what they complete."""
        for held, piece in zip(self._held, pieces, strict=True):
            held.add(piece)
        completed = self._nothing()
        while all(plan.reach(self._next)[1] <= held.end for plan, held in self._pairs()):
            self._add_row(completed, self._next, self._next + self._plans[0].grid.window_s)
        for held in self._held:
            plans = [plan for plan, other in self._pairs() if other is held]
            held.forget(min(min(plan.reach(self._next)[0], held.end - plan.keeps) for plan in plans))
        return completed

    def finish(self, duration_s: float) -> Completed:
        """The rows that the end of the recording completes.

        Args:
            duration_s: length of the recording; the end of the row, if the recording is shorter than a row.
        """
        completed = self._nothing()
        first, total = self._plans[0], self._held[self._sources[0]].end
        grid, row = first.grid, first.row_frames
        while round(self._next * first.rate) + row <= total:
            self._add_row(completed, self._next, self._next + grid.window_s, ended=True)
        if self._rows == 0 and total > 0:
            self._add_row(completed, 0.0, duration_s, ended=True)
        elif self._rows:
            step, begun = round(grid.step_s * first.rate), round((self._next - grid.step_s) * first.rate)
            tail = total - max(begun + row, round(self._next * first.rate))
            if makes_a_window(tail, row, step):
                end_s = total / first.rate
                self._add_row(completed, end_s - grid.window_s, end_s, ended=True)
        return completed

    @property
    def has_frames(self) -> bool:
        """Whether at least one frame of every source has arrived."""
        return all(held.end for held in self._held)

    @property
    def _next(self) -> float:
        return self._rows * self._plans[0].grid.step_s

    def _pairs(self) -> Iterator[tuple[WindowPlan, "_Held"]]:
        return ((plan, self._held[source]) for plan, source in zip(self._plans, self._sources, strict=True))

    def _nothing(self) -> Completed:
        return Completed([], [[] for _ in self._plans])

    def _add_row(self, completed: Completed, start_s: float, end_s: float, *, ended: bool = False) -> None:
        row = Row(start_s, end_s, [])
        for number, (plan, held) in enumerate(self._pairs()):
            total, known = held.end if ended else None, {}
            row_frames = min(plan.row_frames, total) if ended else plan.row_frames
            for first, _ in (windows := plan.windows(start_s, row_frames)):
                first = plan.kept_inside(first, total)
                if first in self._known[number]:  # neighbouring rows often share a window
                    known[first] = self._known[number][first]
                elif first not in known:
                    known[first] = self._windows[number]
                    self._windows[number] += 1
                    completed.windows[number].append(plan.cut(held.frames, held.offset, total, first))
            self._known[number] = known
            row.windows.append([(known[plan.kept_inside(first, total)], weight) for first, weight in windows])
        completed.rows.append(row)
        self._rows += 1


class _Held:
    """The frames of a recording that are still in memory."""

    def __init__(self) -> None:
        self._pieces: list[np.ndarray] = []
        self.offset = self.end = 0  # the first frame that is held; the number of frames that arrived

    @property
    def frames(self) -> np.ndarray:
        """``(held, features)``; the pieces are joined only when a window is cut, because a row may be hours long."""
        if len(self._pieces) > 1:
            self._pieces = [np.concatenate(self._pieces)]
        return self._pieces[0] if self._pieces else np.empty((0, 0), np.float32)

    def add(self, piece: np.ndarray) -> None:
        if len(piece):
            self._pieces.append(piece)
            self.end += len(piece)

    def forget(self, first: int) -> None:
        """Drop the frames before ``first``."""
        while self._pieces and self.offset < first:
            drop = min(len(self._pieces[0]), first - self.offset)
            piece = self._pieces[0][drop:]
            if 2 * piece.nbytes < getattr(piece.base, "nbytes", 0):  # a view would keep the whole array in memory
                piece = piece.copy()
            self._pieces[0] = piece
            self.offset += drop
            if not len(self._pieces[0]):
                self._pieces.pop(0)
