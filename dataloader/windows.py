"""Which windows of a recording are looked at, in training and in prediction alike."""

from utils.config import DataProcess


def window_frames(process: DataProcess) -> int:
    """Frames in a window."""
    return round(process.max_length_s * process.sample_rate / process.hop_length)


def window_starts(frames: int, window: int, *, mode: str = "slice", step: int | None = None) -> list[int]:
    """First frame of each window of a recording.

    Windows stand one after another. A tail of at least half a window (of half a step, where they
    overlap) becomes a last window that ends at the recording's end; a shorter tail is left out. A
    recording shorter than a window has one window, which is filled by repeating it.

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
    tail = frames - (starts[-1] + window)
    if tail > 0 and 2 * tail >= step:
        starts.append(frames - window)
    return starts
