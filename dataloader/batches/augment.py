"""How are training windows augmented? A whole batch at a time, on its device.

Each change has its own random generator, which is seeded by the run's seed, the name of the change, the epoch, the step
and the rank. So the changes of a batch depend only on its step key, not on what ran before or where a run was resumed;
and switching one change on does not alter what another draws.
"""

from collections.abc import Callable
from functools import partial

import torch

from dataloader.batches.power import add_background, between, chosen
from dataloader.cache.spectrogram import band_widths
from utils.settings import Augmentation, DataProcess
from utils.utils import seed_for

Change = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


class Augmenter:
    """The changes that an [augmentation] section switches on.

    Args:
        background: ``(frames, n_mels)``, dB, of ``load_background``; needed if background_p is above 0.
    """

    def __init__(
        self, augmentation: Augmentation, process: DataProcess, seed: int, background: torch.Tensor | None = None
    ):
        self._seed = seed
        self._on_power: dict[str, Change] = {}
        self._on_images: dict[str, Change] = {}
        if augmentation.data_augmentation:
            self._on_power = _power_changes(augmentation, process, background)
            self._on_images = _image_changes(augmentation, process)

    @property
    def on_power(self) -> bool:
        """Whether ``power`` can change anything."""
        return bool(self._on_power)

    def power(self, power: torch.Tensor, step_key: tuple[int, ...]) -> torch.Tensor:
        """Add to mixed sounds what a microphone also records, such as wind.

        Args:
            power: ``(batch, n_mels, frames)``, not in dB.
            step_key: (epoch, step, rank) of the batch.
        """
        return self._change(self._on_power, power, step_key)

    def __call__(self, images: torch.Tensor, step_key: tuple[int, ...]) -> torch.Tensor:
        """Change ``images`` ``(batch, n_mels, frames)``, standardised; ``step_key`` is that of ``power``."""
        return self._change(self._on_images, images, step_key)

    def _change(self, changes: dict[str, Change], windows: torch.Tensor, step_key: tuple[int, ...]) -> torch.Tensor:
        for name, change in changes.items():
            generator = torch.Generator(windows.device).manual_seed(seed_for(self._seed, name, *step_key))
            windows = change(windows, generator)
        return windows


def _power_changes(a: Augmentation, process: DataProcess, background: torch.Tensor | None) -> dict[str, Change]:
    if not a.background_p:
        return {}
    widths = torch.from_numpy(band_widths(process)).float()
    change = partial(
        add_background,
        p=a.background_p,
        floor_db=process.floor_db,
        min_snr_db=a.background_min_snr_db,
        max_snr_db=a.background_max_snr_db,
    )
    return {"background": _on_device(change, background_db=background, widths=widths)}


def _image_changes(a: Augmentation, process: DataProcess) -> dict[str, Change]:
    """Noise comes before the masks, so that what they hide is not noisy."""
    changes: dict[str, Change] = {}
    frames_per_second = process.sample_rate / process.hop_length
    fill = process.floor_db if process.standardize == "none" else 0.0  # the value of masks: silence, or the mean
    if a.augment_add_noise:
        changes["noise"] = partial(add_noise, max_deviation=a.noise_max_deviation)
    if a.augment_spec_augment:
        changes["spec_augment"] = partial(
            spec_augment,
            time_masks=a.time_masks,
            time_width=max(1, round(a.time_mask_max_s * frames_per_second)),
            frequency_masks=a.frequency_masks,
            frequency_width=a.frequency_mask_max_bands,
            fill=fill,
        )
    if a.xy_masks_p:
        changes["xy_masks"] = partial(
            xy_masks,
            p=a.xy_masks_p,
            time_masks=a.xy_time_masks,
            frequency_masks=a.xy_frequency_masks,
            widths=(a.xy_mask_min, a.xy_mask_max),
            fill=fill,
        )
    return changes


def _on_device(change: Callable[..., torch.Tensor], **tables: torch.Tensor) -> Change:
    """``change`` with its tables, which are moved to the device of the windows once."""

    def changed(windows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        for name, table in tables.items():
            tables[name] = table.to(windows.device)
        return change(windows, generator, **tables)

    return changed


def add_noise(images: torch.Tensor, generator: torch.Generator, max_deviation: float) -> torch.Tensor:
    """Add white noise to each image, with a standard deviation drawn between 0 and ``max_deviation``.

    Args:
        images: ``(batch, n_mels, frames)``, standardised, so that 1 is the standard deviation of a band.
    """
    strength = torch.rand((len(images), 1, 1), generator=generator, device=images.device) * max_deviation
    return images + strength * torch.randn(images.shape, generator=generator, device=images.device)


def spec_augment(
    images: torch.Tensor, generator: torch.Generator, *, time_masks: int, time_width: int,
    frequency_masks: int, frequency_width: int, fill: float = 0.0,
) -> torch.Tensor:  # fmt: skip
    """Set stretches of time and of frequency to ``fill`` (SpecAugment, Park et al. 2019, without warping).

    Args:
        images: ``(batch, n_mels, frames)``.
        time_masks, frequency_masks: the number of each.
        time_width: largest width of a time mask, frames (T of the paper).
        frequency_width: largest width of a frequency mask, bands (F of the paper).
    """
    batch, n_mels, frames = images.shape
    for_time, for_frequency = _generators(generator, "time", "frequency")
    hidden = _stretches(batch, frames, time_masks, (0, time_width), for_time).any(dim=1)[:, None, :]
    bands = _stretches(batch, n_mels, frequency_masks, (0, frequency_width), for_frequency).any(dim=1)[:, :, None]
    return images.masked_fill(hidden | bands, fill)


def xy_masks(
    images: torch.Tensor, generator: torch.Generator, *, p: float, time_masks: int, frequency_masks: int,
    widths: tuple[int, int], fill: float = 0.0,
) -> torch.Tensor:  # fmt: skip
    """Set stretches of time and of frequency to ``fill``; their number is drawn for each image.

    XY masking, as in albumentations and the first place of BirdCLEF 2024.

    Args:
        images: ``(batch, n_mels, frames)``.
        time_masks, frequency_masks: the largest number of each; at least 1 is drawn, or none if it is 0.
        widths: narrowest and widest, in frames or bands.
    """
    for_time, for_frequency = _generators(generator, "time", "frequency")
    hidden = _some(images, images.shape[2], time_masks, widths, for_time)[:, None, :]
    hidden = hidden | _some(images, images.shape[1], frequency_masks, widths, for_frequency)[:, :, None]
    return images.masked_fill(hidden & chosen(images, p, generator), fill)


def _generators(generator: torch.Generator, *names: str) -> list[torch.Generator]:
    """A generator for each part of a change, so that the settings of one do not alter what the others draw."""
    seed = generator.initial_seed()
    return [torch.Generator(generator.device).manual_seed(seed_for(seed, name)) for name in names]


def _some(
    images: torch.Tensor, length: int, most: int, widths: tuple[int, int], generator: torch.Generator
) -> torch.Tensor:
    """``(batch, length)`` bool: from 1 to ``most`` stretches for each image."""
    count = between(images, 1, most + 1, generator)[:, :, 0].floor()
    stretches = _stretches(len(images), length, most, widths, generator)
    return (stretches & (torch.arange(most, device=images.device) < count)[:, :, None]).any(dim=1)


def _stretches(
    batch: int, length: int, count: int, widths: tuple[int, int], generator: torch.Generator
) -> torch.Tensor:
    """``(batch, count, length)`` bool: stretches whose width is between the two, within the length."""
    low, high = (min(width, length) for width in widths)
    drawn = torch.rand((2, batch, count, 1), generator=generator, device=generator.device)
    width = low + (drawn[0] * (high - low + 1)).floor()
    start = (drawn[1] * (length - width + 1)).floor()
    position = torch.arange(length, device=generator.device)
    return (position >= start) & (position < start + width)
