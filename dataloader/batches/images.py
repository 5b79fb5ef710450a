"""How do cached windows become the images that the model sees? They are standardised on the device, by batch."""

from typing import Protocol

import torch
from torch import Tensor

from dataloader.batches.augment import Augmenter
from dataloader.batches.dataset import Batch
from dataloader.batches.power import to_db, to_power
from dataloader.cache.spectrogram import move_statistics, standardise_windows
from utils.settings import DataProcess

StepKey = tuple[int, ...]


class Mixes(Protocol):
    """The methods of training.mixer.Mixer."""

    on_power: bool

    def power(self, power: Tensor, targets: Tensor, step_key: StepKey) -> tuple[Tensor, Tensor]: ...
    def images(self, images: Tensor, targets: Tensor, step_key: StepKey) -> tuple[Tensor, Tensor]: ...


class ImageTransform:
    """Makes the images of a batch; training and prediction share it.

    Args:
        standardize_over: ``window`` or ``recording`` ([data]).
        augmenter: changes training images; None: nothing is changed.
        mixer: mixes training examples; None: nothing is mixed.
    """

    def __init__(
        self,
        process: DataProcess,
        standardize_over: str,
        augmenter: Augmenter | None = None,
        mixer: Mixes | None = None,
    ):
        self._process, self._over_window = process, standardize_over == "window"
        self._augmenter, self._mixer = augmenter, mixer

    def __call__(self, batch: Batch, step_key: StepKey | None = None) -> tuple[Tensor, Tensor]:
        """Images ``(batch, 1, n_mels, frames)`` float32, channels last, and targets ``(batch, classes)``.

        Args:
            step_key: (epoch, step, rank) of the batch in training; None: not in training, so nothing is changed.
        """
        augmenter, mixer = (None, None) if step_key is None else (self._augmenter, self._mixer)
        images, targets = batch.windows.transpose(1, 2).float(), batch.targets
        if (augmenter and augmenter.on_power) or (mixer and mixer.on_power):
            images, targets = self._change_power(batch, images, targets, step_key)
        if self._over_window:
            images = standardise_windows(images, batch.scale, self._process)
        if augmenter:
            images = augmenter(images, step_key)
        if mixer:
            images, targets = mixer.images(images, targets, step_key)
        return images[:, None].contiguous(memory_format=torch.channels_last), targets

    def _change_power(self, batch: Batch, images: Tensor, targets: Tensor, step_key: StepKey) -> tuple[Tensor, Tensor]:
        """Mix and change the power, which is computed from the cached values and the statistics of their recording."""
        mean, scale, floor_db = batch.mean[:, :, None], batch.scale[:, :, None], self._process.floor_db
        db = images * scale + mean
        before = power = to_power(db, floor_db)
        if self._mixer:
            power, targets = self._mixer.power(power, targets, step_key)
        if self._augmenter:
            power = self._augmenter.power(power, step_key)
        # Converting to power and back changes the last bit, so a window that nothing changed keeps its cached values.
        changed = (power != before).flatten(1).any(dim=1)[:, None, None]
        after = to_db(power, floor_db)
        if not self._over_window:
            mean, scale = move_statistics(mean, scale, db, after, self._process)
        return torch.where(changed, (after - mean) / scale, images), targets
