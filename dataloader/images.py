"""What the model sees: cached windows -> standardised images, on the device, a batch at a time."""

import torch

from dataloader.augment import Augmenter
from dataloader.dataset import Batch
from dataloader.spectrogram import standardise_windows
from utils.config import DataProcess


class ImageMaker:
    """Makes images of batches; training and prediction share it.

    Args:
        standardize_over: ``window`` or ``recording`` ([data]).
        augmenter: changes training images; None changes none.
    """

    def __init__(self, process: DataProcess, standardize_over: str, augmenter: Augmenter | None = None):
        self._process, self._over_window = process, standardize_over == "window"
        self._augmenter = augmenter

    def __call__(self, batch: Batch, place: tuple[int, ...] | None = None) -> torch.Tensor:
        """Images ``(batch, 1, n_mels, frames)`` float32, channels last.

        Args:
            place: where in the training the batch stands, (epoch, step, rank); None: not training.
        """
        images = batch.windows.transpose(1, 2).float()
        if self._over_window:
            images = standardise_windows(images, batch.scale, self._process)
        if place is not None and self._augmenter is not None:
            images = self._augmenter(images, place)
        return images[:, None].contiguous(memory_format=torch.channels_last)
