"""Does the cache fit on the disk? Asked before the work starts, not when the disk is full."""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from dataloader.audio import BadRecording, audio_info
from dataloader.cache import entry_size
from dataloader.entry import Job
from utils.config import DataProcess
from utils.errors import DataError

_SAMPLE = 200  # recordings whose length is looked up; the others are taken to be like them


def estimate_bytes(
    jobs: Sequence[Job], process: DataProcess, in_hand: Callable[[Job], AbstractContextManager] = nullcontext
) -> int:
    """About how many bytes the entries of ``jobs`` will take.

    A recording's header tells its length, but 24,459 headers take half a minute: a sample's bytes of
    cache per byte of recording stand for all.
    """
    sizes = [_size(job.path) for job in jobs]
    sample = range(0, len(jobs), max(1, len(jobs) // _SAMPLE))
    cached = sum(_entry_bytes(jobs[i], process, in_hand) for i in sample)
    recorded = sum(sizes[i] for i in sample)
    return round(cached * sum(sizes) / recorded) if recorded else 0


def check_space(
    jobs: Sequence[Job],
    process: DataProcess,
    output_dir: Path,
    in_hand: Callable[[Job], AbstractContextManager] = nullcontext,
) -> None:
    """Refuse work whose result would not fit.

    Args:
        in_hand: entered around a recording whose header is read.

    Raises:
        DataError: says how much is needed, how much is free, and what would fit.
    """
    needed, free = estimate_bytes(jobs, process, in_hand), shutil.disk_usage(output_dir).free
    if needed <= free:
        return
    share = free / needed
    fitting = int(process.hop_length / share) + 1
    hop = f"[data_process] hop_length = {fitting}, " if fitting <= process.n_fft else ""
    raise DataError(
        f"{output_dir}: the spectrograms of {len(jobs)} recordings take about {needed / 1e9:.2f} GB and "
        f"{free / 1e9:.2f} GB is free; what would fit: {hop}[data_process] n_mels = {int(process.n_mels * share)}, "
        f"{int(len(jobs) * share)} of the recordings, or another disk as [data] output_dir"
    )


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _entry_bytes(job: Job, process: DataProcess, in_hand: Callable[[Job], AbstractContextManager]) -> int:
    try:
        with in_hand(job):
            info = audio_info(job.path)
    except BadRecording:
        return 0
    seconds = info.frames / info.sample_rate
    if process.max_recording_s:
        seconds = min(seconds, process.max_recording_s)
    return entry_size(process.n_mels, int(seconds * process.sample_rate / process.hop_length))
