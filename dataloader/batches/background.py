"""Recordings that are noise: a folder of them -> one spectrogram in dB, kept in memory to be added to others."""

import logging
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from dataloader.audio.decoding import AudioStream, BadRecording
from dataloader.audio.endings import ENDINGS, sound_files_not_used
from dataloader.cache.spectrogram import MelSpectrogram
from utils.config import DataProcess
from utils.errors import DataError

log = logging.getLogger(__name__)

_BLOCK_S = 30.0  # seconds decoded and transformed at once


def background_files(folder: Path) -> list[Path]:
    """The sound files anywhere below ``folder``, sorted: the same order on every machine. None if it is not there."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)


def load_background(folder: Path, process: DataProcess, minutes: float, held_out: Collection[str] = ()) -> torch.Tensor:
    """The recordings end to end, ``(frames, n_mels)`` float16, dB re full scale.

    Args:
        minutes: kept at most; what comes after is not read. A recording that cannot be used is warned of.
        held_out: files that training must not hear, as they are scored.

    Raises:
        DataError: there is none that can be used.
    """
    mel, left_s = MelSpectrogram(process), 60 * minutes
    kept: list[np.ndarray] = []
    files, scored = background_files(folder), {os.path.realpath(path) for path in held_out}
    heard = [path for path in files if os.path.realpath(path) not in scored]
    if unused := sound_files_not_used(folder.rglob("*")):
        log.warning("%s: %s", folder, unused)
    if len(heard) < len(files):
        log.warning("%s: %d recordings of it are for val or test, and no background", folder, len(files) - len(heard))
    for path in heard:
        if left_s < 1 / mel.frames_per_second:
            log.info("%s: background_minutes = %g are full; the rest of the background is not read", folder, minutes)
            break
        try:
            stream = AudioStream(path, process.sample_rate, _BLOCK_S, max_s=left_s)
            blocks = [torch.from_numpy(block).half().numpy() for block in mel.blocks(stream)]
        except BadRecording as bad:
            log.warning("%s: left out of the background: %s", path, bad)
            continue
        kept += blocks
        left_s -= sum(map(len, blocks)) / mel.frames_per_second
    if not sum(map(len, kept)):
        raise DataError(f"{folder}: no recording in it can be used; put others there or set background_p to 0")
    return torch.from_numpy(np.concatenate(kept))
