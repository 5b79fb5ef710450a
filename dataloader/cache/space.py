"""Does the cache fit on the disk? Asked before the work starts, not when the disk is full."""

import logging
import math
import os
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

from dataloader.audio.decoding import BadRecording, audio_info
from dataloader.cache.entries import entry_size
from dataloader.cache.prepare import Job
from utils.config import DataProcess
from utils.errors import DataError

log = logging.getLogger(__name__)

_SAMPLE = 200  # recordings whose headers are read; the others are assumed to be like them


def estimate_bytes(jobs: Sequence[Job], process: DataProcess) -> int:
    """About how many bytes the entries of ``jobs`` will take.

    The length of a recording stands in its header, but reading 24,459 headers takes half a minute. So the bytes of
    cache for each byte of recording are measured on a sample, and assumed for all.
    """
    sizes = [_size(job.path) for job in jobs]
    sample = [i for i in range(0, len(jobs), max(1, len(jobs) // _SAMPLE)) if sizes[i]]
    if not sample:
        return 0
    cached = [_entry_bytes(jobs[i], process) for i in sample]
    # A damaged header may promise any length, so no recording counts for more than 20 times what is usual.
    usual = statistics.median(of_cache / sizes[i] for i, of_cache in zip(sample, cached, strict=True))
    counted = sum(min(of_cache, 20 * usual * sizes[i]) for i, of_cache in zip(sample, cached, strict=True))
    return round(counted * sum(sizes) / sum(sizes[i] for i in sample))


def check_space(jobs: Sequence[Job], process: DataProcess, folder: Path) -> None:
    """Refuse work whose result would not fit.

    Args:
        folder: where it goes.

    Raises:
        DataError: says how much is needed, how much is free, and what would fit.
    """
    needed, free = estimate_bytes(jobs, process), shutil.disk_usage(folder).free
    takes = (
        f"the spectrograms of {len(jobs)} recordings take about {needed / 1e9:.3f} GB and {free / 1e9:.3f} GB is free"
    )
    if needed <= free:
        log.info("%s", takes)
        return
    share = free / needed
    fitting = int(process.hop_length / share) + 1 if share else math.inf
    ways = {
        f"[data_process] hop_length = {fitting}": fitting <= process.n_fft,
        f"[data_process] n_mels = {int(process.n_mels * share)}": process.n_mels * share >= 1,
        f"{int(len(jobs) * share)} of the recordings": len(jobs) * share >= 1,
        "another disk as [data] output_dir": True,
    }
    fit = [way for way, would_fit in ways.items() if would_fit]
    raise DataError(f"{folder}: {takes}; what would fit: {', '.join(fit[:-1])}{', or ' * (len(fit) > 1)}{fit[-1]}")


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _entry_bytes(job: Job, process: DataProcess) -> int:
    try:
        info = audio_info(job.path, time_expansion=job.time_expansion)
    except BadRecording:
        return 0
    seconds = info.frames / info.sample_rate
    if process.max_recording_s:
        seconds = min(seconds, process.max_recording_s)
    return entry_size(process.n_mels, int(seconds * process.sample_rate / process.hop_length))
