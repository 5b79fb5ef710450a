"""Does the cache fit on the disk? This is checked before the work starts, not when the disk is full."""

import logging
import math
import os
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

from dataloader.audio.decoding import BadRecording, audio_info
from dataloader.cache.entries import entry_size
from dataloader.cache.prepare import Job, Spectrograms, Stage
from utils.errors import DataError, counted

log = logging.getLogger(__name__)

_SAMPLE = 200  # recordings whose headers are read; the others are assumed to be similar


def estimate_bytes(jobs: Sequence[Job], stage: Stage, max_s: float) -> int:
    """The approximate number of bytes of the entries of ``jobs``.

    The length of a recording is in its header, but reading 24,459 headers takes half a minute. So the bytes of cache
    for each byte of a recording are measured for some recordings, and assumed for all.
    """
    sizes = [_size(job.path) for job in jobs]
    sample = [i for i in range(0, len(jobs), max(1, len(jobs) // _SAMPLE)) if sizes[i]]
    if not sample:
        return 0
    cached = [_entry_bytes(jobs[i], stage, max_s) for i in sample]
    # A damaged header may state any length, so no recording counts as more than 20 times the usual length.
    usual = statistics.median(of_cache / sizes[i] for i, of_cache in zip(sample, cached, strict=True))
    total = sum(min(of_cache, 20 * usual * sizes[i]) for i, of_cache in zip(sample, cached, strict=True))
    return round(total * sum(sizes) / sum(sizes[i] for i in sample))


def check_space(jobs: Sequence[Job], stage: Stage, max_s: float, folder: Path) -> None:
    """Refuse to start if the entries would not fit on the disk.

    Args:
        stage: makes the entries, of the first ``max_s`` seconds of each recording; 0: of all.
        folder: the cache folder.

    Raises:
        DataError: how much is needed, how much is free, and what would fit.
    """
    needed, free = estimate_bytes(jobs, stage, max_s), shutil.disk_usage(folder).free
    recordings = counted(len(jobs), "recording")
    takes = f"the {stage.what} of {recordings} take about {needed / 1e9:.3f} GB and {free / 1e9:.3f} GB is free"
    if needed <= free:
        log.info("%s", takes)
        return
    share = free / needed
    ways = _coarser(stage, share) | {
        f"{int(len(jobs) * share)} of the recordings": len(jobs) * share >= 1,
        "another disk as [data] output_dir": True,
    }
    fit = [way for way, would_fit in ways.items() if would_fit]
    raise DataError(f"{folder}: {takes}; what would fit: {', '.join(fit[:-1])}{', or ' * (len(fit) > 1)}{fit[-1]}")


def _coarser(stage: Stage, share: float) -> dict[str, bool]:
    """Settings with which spectrograms would take this share of the space, and whether they are possible."""
    if not isinstance(stage, Spectrograms):
        return {}
    process = stage.process
    fitting = int(process.hop_length / share) + 1 if share else math.inf
    return {
        f"[data_process] hop_length = {fitting}": fitting <= process.n_fft,
        f"[data_process] n_mels = {int(process.n_mels * share)}": process.n_mels * share >= 1,
    }


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _entry_bytes(job: Job, stage: Stage, max_s: float) -> int:
    try:
        info = audio_info(job.path, time_expansion=job.time_expansion)
    except BadRecording:
        return 0
    seconds = info.frames / info.sample_rate
    return entry_size(stage.n_features, stage.frames(min(seconds, max_s or seconds)))
