"""How are training windows augmented? A whole batch at a time, on its device.

Each change has its own random generator, which is seeded by the run's seed, the name of the change, the epoch, the step
and the rank. So the changes of a batch depend only on its step key, not on what ran before or where a run was resumed;
and switching one change on does not alter what another draws.
"""

from collections.abc import Callable
from functools import partial

import torch

from dataloader.batches.power import add_background, add_hiss, between, change_gain, chosen, equalise
from dataloader.cache.spectrogram import band_widths, mel_frequencies
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
        self._on_sounds: dict[str, Change] = {}
        self._on_scenes: dict[str, Change] = {}
        self._on_images: dict[str, Change] = {}
        if augmentation.data_augmentation:
            self._on_sounds = _sound_changes(augmentation)
            self._on_scenes = _scene_changes(augmentation, process, background)
            self._on_images = _image_changes(augmentation, process)

    @property
    def on_power(self) -> bool:
        """Whether ``sounds`` or ``scenes`` can change anything."""
        return bool(self._on_sounds or self._on_scenes)

    def sounds(self, power: torch.Tensor, step_key: tuple[int, ...]) -> torch.Tensor:
        """Change single sounds before they are mixed: by the distance and the microphone.

        Args:
            power: ``(batch, n_mels, frames)``, not in dB.
            step_key: (epoch, step, rank) of the batch.
        """
        return self._change(self._on_sounds, power, step_key)

    def scenes(self, power: torch.Tensor, step_key: tuple[int, ...]) -> torch.Tensor:
        """Add to mixed sounds what a microphone also records, such as wind; arguments as in ``sounds``."""
        return self._change(self._on_scenes, power, step_key)

    def __call__(self, images: torch.Tensor, step_key: tuple[int, ...]) -> torch.Tensor:
        """Change ``images`` ``(batch, n_mels, frames)``, standardised."""
        return self._change(self._on_images, images, step_key)

    def _change(self, changes: dict[str, Change], windows: torch.Tensor, step_key: tuple[int, ...]) -> torch.Tensor:
        for name, change in changes.items():
            generator = torch.Generator(windows.device).manual_seed(seed_for(self._seed, name, *step_key))
            windows = change(windows, generator)
        return windows


def _sound_changes(a: Augmentation) -> dict[str, Change]:
    changes: dict[str, Change] = {}
    if a.eq_p:
        changes["eq"] = partial(equalise, p=a.eq_p, max_db=a.eq_max_db)
    if a.gain_p:
        changes["gain"] = partial(change_gain, p=a.gain_p, max_db=a.gain_max_db)
    return changes


def _scene_changes(a: Augmentation, process: DataProcess, background: torch.Tensor | None) -> dict[str, Change]:
    changes: dict[str, Change] = {}
    widths = torch.from_numpy(band_widths(process)).float() if a.background_p or a.hiss_p else None
    if a.background_p:
        changes["background"] = _on_device(
            partial(
                add_background,
                p=a.background_p,
                floor_db=process.floor_db,
                min_snr_db=a.background_min_snr_db,
                max_snr_db=a.background_max_snr_db,
            ),
            background_db=background,
            widths=widths,
        )
    if a.hiss_p:
        changes["hiss"] = _on_device(
            partial(
                add_hiss,
                p=a.hiss_p,
                colour=a.hiss_colour,
                min_snr_db=a.hiss_min_snr_db,
                max_snr_db=a.hiss_max_snr_db,
                bin_hz=process.sample_rate / process.n_fft,
            ),
            frequencies=torch.from_numpy(mel_frequencies(process)).float(),
            widths=widths,
        )
    return changes


def _image_changes(a: Augmentation, process: DataProcess) -> dict[str, Change]:
    """Changes that move the image come before those that hide parts of it."""
    changes: dict[str, Change] = {}
    frames_per_second = process.sample_rate / process.hop_length
    fill = process.floor_db if process.standardize == "none" else 0.0  # the value of masks: silence, or the mean
    if a.time_shift_p:
        frames = max(1, round(a.time_shift_max_s * frames_per_second))
        changes["time_shift"] = partial(shift_time, p=a.time_shift_p, max_frames=frames)
    if a.frequency_shift_p:
        bands = a.frequency_shift_max_bands
        changes["frequency_shift"] = partial(shift_frequency, p=a.frequency_shift_p, max_bands=bands)
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


def shift_time(images: torch.Tensor, generator: torch.Generator, *, p: float, max_frames: int) -> torch.Tensor:
    """Move images ``(batch, n_mels, frames)`` in time, by up to ``max_frames`` in either direction, around the ends."""
    n_mels, frames = images.shape[1:]
    shift = _whole_shift(images, p, max_frames, generator)[:, 0]
    source = (torch.arange(frames, device=images.device) - shift) % frames
    return images.gather(2, source[:, None, :].expand(-1, n_mels, -1))


def shift_frequency(images: torch.Tensor, generator: torch.Generator, *, p: float, max_bands: int) -> torch.Tensor:
    """Move images ``(batch, n_mels, frames)`` by up to ``max_bands`` up or down; the outermost band is repeated."""
    n_mels, frames = images.shape[1:]
    shift = _whole_shift(images, p, max_bands, generator)[:, 0]
    source = (torch.arange(n_mels, device=images.device) - shift).clamp(0, n_mels - 1)
    return images.gather(1, source[:, :, None].expand(-1, -1, frames))


def _whole_shift(images: torch.Tensor, p: float, most: int, generator: torch.Generator) -> torch.Tensor:
    """``(batch, 1, 1)`` int64 from ``-most`` to ``most``; 0 for an image that is not chosen."""
    drawn = between(images, 0, 2 * most + 1, generator).floor().clamp(max=2 * most).long() - most
    return torch.where(chosen(images, p, generator), drawn, 0)


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
