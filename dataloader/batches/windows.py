"""Which windows of a recording does training use?

Prediction cuts the same windows from a stream (``inference/window_plan.py``); a test checks that both are equal. If
labels have times, ``timed.py`` chooses among these windows.
"""

import itertools
from typing import TYPE_CHECKING

from utils.settings import DataProcess

if TYPE_CHECKING:
    import pandas as pd


def window_frames(process: DataProcess) -> int:
    """The number of frames in a window."""
    return round(process.max_length_s * process.sample_rate / process.hop_length)


def image_size(process: DataProcess) -> tuple[int, int]:
    """``(n_mels, frames)`` of a window."""
    return process.n_mels, window_frames(process)


def window_starts(frames: int, window: int, *, mode: str = "slice", step: int | None = None) -> list[int]:
    """First frame of each window of a recording.

    Windows follow one another. A tail of at least half a window (or half a step, where windows overlap) becomes a last
    window that ends where the recording ends; a shorter tail is left out. A recording that is shorter than a window
    has one window, which is filled by repeating the recording.

    Args:
        frames: of the recording, at least one.
        window: frames in a window.
        mode: ``slice``, or ``single`` for the first window only.
        step: frames from one window to the next; a window's length unless given.
    """
    step = step or window
    if mode == "single" or frames <= window:
        return [0]
    starts = list(range(0, frames - window + 1, step))
    if makes_a_window(frames - (starts[-1] + max(window, step)), window, step):
        starts.append(frames - window)
    return starts


def makes_a_window(tail: int, window: int, step: int) -> bool:
    """Whether the tail of a recording makes a last window, which ends where the recording ends.

    Training, prediction and waveform models share this rule.

    Args:
        tail: frames from where the last whole window ends, or the next one would begin if that is later; may be
            negative.
        window, step: frames in a window, and from one window to the next.
    """
    return tail > 0 and 2 * tail >= min(window, step)


def ends_the_recording(first: int, window: int, frames: int) -> bool:
    """Whether the window at frame ``first`` is a last one that was moved to end where its recording ends."""
    return first % window != 0 and first + window >= frames


def make_windows(metadata: "pd.DataFrame", process: DataProcess) -> "pd.DataFrame":
    """The windows of every recording: rows ``recording`` (row of ``metadata``), ``first_frame``, ``n_frames``."""
    import pandas as pd

    length = window_frames(process)
    rows = [
        (number, first, min(length, frames))
        for number, frames in enumerate(metadata["frames"])
        for first in window_starts(frames, length, mode=process.mode)
    ]
    return pd.DataFrame(rows, columns=["recording", "first_frame", "n_frames"])


def make_segments(metadata: "pd.DataFrame", process: DataProcess, max_s: float, times: int) -> "pd.DataFrame":
    """The segments from which random windows are drawn, each ``times`` times; rows as in ``make_windows``.

    A segment is a complete recording, or one of its equal pieces of at most ``max_s`` seconds. A
    window begins in its segment and may end in the next one, so every window of the recording is equally likely.
    """
    import pandas as pd

    longest = round(max_s * process.sample_rate / process.hop_length)
    window = window_frames(process)
    rows = []
    for number, frames in enumerate(metadata["frames"]):
        length = min(window, frames)
        count = -(-frames // longest)  # rounded up
        firsts = [(frames - length) * number // count for number in range(count + 1)]
        for first, following in itertools.pairwise(firsts):
            rows += times * [(number, first, following - first + length)]
    return pd.DataFrame(rows, columns=["recording", "first_frame", "n_frames"])
