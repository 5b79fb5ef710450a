"""Are the spectrograms kept in the memory of the device? If they fit, an epoch does not read the disk."""

import logging
from collections.abc import Iterator

import numpy as np
import torch

from dataloader.batches.dataset import Batch, EpochBatches, WindowDataset
from dataloader.cache.entries import read_window
from utils.errors import UserError, counted

log = logging.getLogger(__name__)

_SHARE = 0.5  # of the free memory; the rest is for the model


def fits_on(device: torch.device, n_bytes: int, wanted: str) -> bool:
    """Whether to keep spectrograms of ``n_bytes`` on ``device``: ``wanted`` is auto, yes or no.

    ``auto`` means yes on a GPU where they take at most half of the memory that is free now.
    """
    if wanted != "auto":
        return wanted == "yes"
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return n_bytes <= _SHARE * free


class DeviceBatches:
    """Batches from spectrograms that are on the device, one after another; in place of a loader.

    Args:
        order: the rows of each batch.

    Raises:
        UserError: the device has too little memory for them.
    """

    def __init__(self, dataset: WindowDataset, order: EpochBatches, device: torch.device):
        self._dataset, self._order, self._device = dataset, order, device
        frames = torch.tensor(dataset.frames)
        self._start = (frames.cumsum(0) - frames).to(device)  # of each recording
        self._frames = frames.to(device)
        self._targets = torch.from_numpy(dataset.targets).to(device)
        self._within = torch.arange(dataset.length, device=device)
        shape = int(frames.sum()), dataset.n_mels
        try:
            self._spectrograms = torch.empty(shape, dtype=torch.float16, device=device)
        except torch.OutOfMemoryError:
            raise UserError(
                f"{device} has too little memory for spectrograms of {dataset.bytes / 1e9:.2f} GB; "
                "set [trainer] cache_on_device to auto or no"
            ) from None
        self._statistics = torch.empty((2, len(frames), dataset.n_mels), device=device)  # mean and scale
        log.info("keeping %s (%.2f GB) on %s", counted(len(frames), "spectrogram"), dataset.bytes / 1e9, device)
        for row, (entry, count) in enumerate(zip(dataset.entries, dataset.frames, strict=True)):
            spectrogram = np.empty((count, dataset.n_mels), dtype=np.float16)
            statistics = read_window(entry, dataset.n_mels, count, 0, spectrogram).copy()
            self._statistics[:, row] = torch.from_numpy(statistics).to(device)
            self._spectrograms[self._start[row] : self._start[row] + count] = torch.from_numpy(spectrogram).to(device)

    def __iter__(self) -> Iterator[Batch]:
        for drawn in self._order:
            rows = self._dataset.where(drawn)
            recording, first = (torch.from_numpy(array).to(self._device, non_blocking=True) for array in rows)
            # A recording shorter than a window is repeated until the window is full.
            inside = (first[:, None] + self._within) % self._frames[recording, None]
            frames = self._start[recording, None] + inside
            statistics = self._statistics[:, recording]
            targets = self._targets[recording]
            if self._dataset.timed.any():
                targets = torch.from_numpy(self._dataset.targets_of(*rows)).to(self._device, non_blocking=True)
            yield Batch(self._spectrograms[frames], *statistics, targets, recording)
