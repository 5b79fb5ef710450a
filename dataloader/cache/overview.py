"""How does a recording of any length fit into the columns of a picture? It is read in constant memory."""

from pathlib import Path

import numpy as np

from dataloader.audio.decoding import AudioStream
from dataloader.cache.spectrogram import BandStatistics, MelSpectrogram

_BLOCK_S = 10.0  # seconds decoded at once


def overview(
    path: Path, mel: MelSpectrogram, seconds: float, columns: int, *, start_s: float = 0.0,
    statistics: BandStatistics | None = None, time_expansion: float = 1.0,
) -> np.ndarray:  # fmt: skip
    """A stretch of a recording as a spectrogram of at most ``columns`` columns.

    Each column has the highest values of the frames that it shows, so that no call is lost among hours.

    Args:
        seconds: how long the stretch is.
        start_s: where it begins; the sound before it is decoded as well.
        statistics: gets every frame of the stretch, if they are wanted.
        time_expansion: see ``AudioStream``; all times here are those of the real sound.

    Returns:
        ``(n_mels, columns)``, dB.

    Raises:
        BadRecording: it cannot be read.
    """
    rate = mel.frames_per_second
    frames = max(1, int(seconds * rate))
    columns = min(columns, frames)
    picture = np.full((columns, mel.process.n_mels), mel.process.floor_db, dtype=np.float32)
    next_frame = -round(start_s * rate)  # counted from the beginning of the stretch
    how = {"max_s": start_s + seconds, "strict": False, "time_expansion": time_expansion}
    sound = AudioStream(path, mel.process.sample_rate, _BLOCK_S, **how)
    for block in mel.blocks(sound):
        first = max(0, next_frame)
        block, next_frame = block[first - next_frame :], next_frame + len(block)  # without what is before the stretch
        if not len(block):
            continue
        column_of = np.minimum(np.arange(first, first + len(block)) * columns // frames, columns - 1)
        starts = np.flatnonzero(np.diff(column_of, prepend=-1))
        highest = np.maximum.reduceat(block, starts, axis=0)
        picture[column_of[starts]] = np.maximum(picture[column_of[starts]], highest)
        if statistics is not None:
            statistics.add(block)
    return picture.T


def narrowed(db: np.ndarray, columns: int) -> np.ndarray:
    """The same picture in at most ``columns`` columns, each with the highest values of those that it replaces."""
    if db.shape[1] <= columns:
        return db
    starts = np.arange(columns) * db.shape[1] // columns
    return np.maximum.reduceat(db, starts, axis=1)
