"""Would an earlier check of a recording have the same result today? The cache asks this instead of decoding again."""

from pathlib import Path

from dataloader.audio import endings
from dataloader.audio.decoder import info_of, open_source

READER = "3"  # the version of the checks; with a new one the cache checks all recordings again, once


def reader() -> str:
    """The version of the checks, and ``+av`` if the second decoder is installed."""
    return f"{READER}+av" if endings.HAS_FFMPEG else READER


def verdict_holds(by: str, *, is_good: bool) -> bool:
    """Whether an earlier check of a recording would have the same result today.

    Args:
        by: the ``reader`` of that check; empty: an earlier version.
        is_good: its result. A recording that is bad without the second decoder may be good with it.
    """
    version, _, optional = by.partition("+")
    return version == READER and (is_good or bool(optional) or not endings.HAS_FFMPEG)


def length_holds(path: Path | str, frames: int, sample_rate: int, time_expansion: float) -> bool:
    """Whether a length found by an earlier version would be the same today. Nothing is decoded.

    Args:
        frames: samples of each channel.
        sample_rate: Hz, of the file, with the time expansion.

    Raises:
        BadRecording: the recording is bad, as far as can be seen without decoding it.
    """
    source, problem = open_source(path)
    source.close()
    if problem:
        raise problem
    info = info_of(source, time_expansion)
    off = abs(frames - info.frames) if info.frames else 0
    return info.sample_rate == sample_rate and off <= source.slack
