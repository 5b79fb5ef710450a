"""Changes to training images, a whole batch at a time on its device, each with its own random generator.

The generator of a change is seeded by the run's seed, the change's name, the epoch and the step: what
happens to a batch depends on its place alone, whatever ran before and wherever a run was resumed.
"""

from collections.abc import Callable

import torch

from utils.config import Augmentation, DataProcess
from utils.utils import seed_for

Change = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


class Augmenter:
    """The changes that an [augmentation] section switches on."""

    def __init__(self, augmentation: Augmentation, process: DataProcess, seed: int):
        self._seed = seed
        self._changes: dict[str, Change] = {}
        if not augmentation.data_augmentation:
            return
        if augmentation.augment_add_noise:
            self._changes["noise"] = lambda images, rng: add_noise(images, rng, augmentation.noise_max_deviation)
        if augmentation.augment_spec_augment:
            width = max(1, round(augmentation.time_mask_max_s * process.sample_rate / process.hop_length))
            self._changes["spec_augment"] = lambda images, rng: spec_augment(
                images,
                rng,
                time_masks=augmentation.time_masks,
                time_width=width,
                frequency_masks=augmentation.frequency_masks,
                frequency_width=augmentation.frequency_mask_max_bands,
            )

    def __call__(self, images: torch.Tensor, place: tuple[int, ...]) -> torch.Tensor:
        """Change ``images`` ``(batch, n_mels, frames)``; ``place`` is where in the run they stand."""
        for name, change in self._changes.items():
            generator = torch.Generator(images.device).manual_seed(seed_for(self._seed, name, *place))
            images = change(images, generator)
        return images


def add_noise(images: torch.Tensor, generator: torch.Generator, max_deviation: float) -> torch.Tensor:
    """Add white noise to each image, of a deviation drawn between 0 and ``max_deviation``.

    Args:
        images: ``(batch, n_mels, frames)``, standardised, so the deviation is in those of a band.
    """
    strength = torch.rand((len(images), 1, 1), generator=generator, device=images.device) * max_deviation
    return images + strength * torch.randn(images.shape, generator=generator, device=images.device)


def spec_augment(
    images: torch.Tensor, generator: torch.Generator, *, time_masks: int, time_width: int,
    frequency_masks: int, frequency_width: int,
) -> torch.Tensor:  # fmt: skip
    """Set stretches of time and of frequency to the mean, 0 (SpecAugment, Park et al. 2019, without warping).

    Args:
        images: ``(batch, n_mels, frames)``, standardised.
        time_masks, frequency_masks: how many of each.
        time_width: largest width of a time mask, frames (T of the paper).
        frequency_width: largest width of a frequency mask, bands (F of the paper).
    """
    batch, n_mels, frames = images.shape
    hidden = _stretches(batch, frames, time_masks, time_width, generator, images.device)[:, None, :]
    hidden = hidden | _stretches(batch, n_mels, frequency_masks, frequency_width, generator, images.device)[:, :, None]
    return images.masked_fill(hidden, 0.0)


def _stretches(
    batch: int, length: int, count: int, max_width: int, generator: torch.Generator, device: torch.device
) -> torch.Tensor:
    """``(batch, length)`` bool: ``count`` stretches, each of a width from 0 to ``max_width``, inside the length."""
    drawn = torch.rand((2, batch, count, 1), generator=generator, device=device)
    width = (drawn[0] * (min(max_width, length) + 1)).floor()
    start = (drawn[1] * (length - width + 1)).floor()
    place = torch.arange(length, device=device)
    return ((place >= start) & (place < start + width)).any(dim=1)
