"""How are background recordings read? A folder of them becomes one spectrogram in dB, which is kept in memory."""

import logging
import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from dataloader.audio.decoding import AudioStream, BadRecording
from dataloader.audio.endings import ENDINGS, sound_files_not_used
from dataloader.cache.spectrogram import MelSpectrogram
from utils.errors import DataError, counted
from utils.settings import DataProcess

log = logging.getLogger(__name__)

_BLOCK_S = 30.0  # seconds decoded and transformed at once


def background_files(folder: Path) -> list[Path]:
    """The sound files in ``folder`` and its sub-folders, sorted; empty if it does not exist."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)


def load_background(folder: Path, process: DataProcess, minutes: float, held_out: Collection[str] = ()) -> torch.Tensor:
    """The recordings one after another, ``(frames, n_mels)`` float16, dB re full scale.

    Args:
        minutes: the most that is kept; the rest is not read. A recording that cannot be used causes a warning.
        held_out: files that training must not use, because they are scored.

    Raises:
        DataError: none of them can be used.
    """
    mel, left_s = MelSpectrogram(process), 60 * minutes
    kept: list[np.ndarray] = []
    files, scored = background_files(folder), {os.path.realpath(path) for path in held_out}
    usable = [path for path in files if os.path.realpath(path) not in scored]
    if unused := sound_files_not_used(folder.rglob("*")):
        log.warning("%s: %s", folder, unused)
    if len(usable) < len(files):
        left_out = counted(len(files) - len(usable), "recording")
        log.warning("%s: %s left out of the background, because val or test contains them", folder, left_out)
    for path in usable:
        if left_s < 1 / mel.frames_per_second:
            log.info("%s: background_minutes = %g is reached; the rest of the background is not read", folder, minutes)
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
        raise DataError(f"{folder}: no recording in it can be used; add others, or set background_p to 0")
    return torch.from_numpy(np.concatenate(kept))
