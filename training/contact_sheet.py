"""What does each augmentation do to a recording? Two of its windows become images, with each change as in training."""

from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np
import torch

from dataloader.batches.augment import Augmenter
from dataloader.batches.background import load_background
from dataloader.batches.dataset import Batch
from dataloader.batches.images import ImageTransform
from dataloader.batches.windows import window_frames
from dataloader.cache.spectrogram import BandStatistics, MelSpectrogram
from factory.frontend import frontend_of
from training.mixer import Mixer
from utils.errors import ConfigError, Problem
from utils.settings import Augmentation, Config, DataProcess, Mixing

_STEP_KEY = (1, 0, 0)  # epoch, step and rank of some batch
_HALF = 1e6  # with this alpha every share is a half


class Panel(NamedTuple):
    """One picture of the sheet, with only these settings switched on."""

    title: str
    augmentation: dict[str, object] = {}  # noqa: RUF012 - never changed
    mixing: dict[str, object] = {}  # noqa: RUF012


_OFF = {"augment_add_noise": False, "augment_spec_augment": False, "data_augmentation": True}
_OFF |= {field.name: 0.0 for field in fields(Augmentation) if field.name.endswith("_p")}


def changes_of(a: Augmentation) -> list[Panel]:
    """A panel for each augmentation and mixture, with the strongest change that the settings allow."""
    loudest = {"background_p": 1.0, "background_max_snr_db": a.background_min_snr_db}
    half = {"power_mix_alpha": _HALF, "mixup_alpha": _HALF, "cutmix_alpha": _HALF}
    return [
        Panel(f"background at {a.background_min_snr_db:g} dB", loudest),
        Panel(f"noise on the image, up to {a.noise_max_deviation:g} deviations", {"augment_add_noise": True}),
        Panel("SpecAugment", {"augment_spec_augment": True}),
        Panel("XY masking", {"xy_masks_p": 1.0}),
        Panel("mixup, half and half", mixing={"mixup_p": 1.0, **half}),
        Panel("CutMix, half and half", mixing={"cutmix_p": 1.0, **half}),
        Panel("mixed on power, half and half", mixing={"power_mix_p": 1.0, **half}),
    ]


def in_force(change: Panel, config: Config) -> str:
    """Whether training with this config makes the change, in words."""
    augmentation = config.augmentation
    if change.augmentation and not augmentation.data_augmentation:
        return "off: data_augmentation = false"
    section, wanted = (augmentation, change.augmentation) if change.augmentation else (config.mixing, change.mixing)
    (switch,) = (key for key in wanted if key.endswith("_p") or key.startswith("augment_"))
    value = getattr(section, switch)
    if not value:
        return f"off: {switch} = {'false' if value is False else '0'}"
    return f"on: {switch} = {'true' if value is True else format(value, 'g')}"


def contact_sheet(log_mel: np.ndarray, config: Config) -> list[tuple[str, np.ndarray]]:
    """A title and an image ``(n_mels, frames)`` for the first window, its partner in mixtures, and each change.

    The title also says whether the change is on in this config.

    Args:
        log_mel: the recording, ``(n_mels, frames)``, dB re full scale, at least two frames.

    Raises:
        ConfigError: the model uses waveforms, and these are changes of images.
    """
    process, over = config.data_process, config.data.standardize_over
    if not frontend_of(config.model.type).sees_images:
        text = "uses the waveform, but these are changes of images; choose an image model"
        raise ConfigError(Problem(text, "model", "type", config.model.type))
    batch = _two_windows(log_mel, process)
    background = _background(config)
    off = replace(config.augmentation, **_OFF)
    plain, _ = ImageTransform(process, over)(batch)
    panels = [("unchanged", plain[0]), ("the partner: its second window", plain[1])]
    for change in changes_of(config.augmentation):
        augmenter = Augmenter(replace(off, **change.augmentation), process, config.trainer.seed, background)
        mixer = Mixer(replace(Mixing(), **change.mixing), config.trainer.seed)
        images, _ = ImageTransform(process, over, augmenter, mixer)(batch, _STEP_KEY)
        panels.append((f"{change.title}\n{in_force(change, config)}", images[0]))
    return [(title, image[0].numpy()) for title, image in panels]


def _two_windows(log_mel: np.ndarray, process: DataProcess) -> Batch:
    """The first window and the next one, or the one from the middle if the recording is short, as in the cache."""
    statistics = BandStatistics()
    statistics.add(log_mel.T)
    mean, scale = statistics.mean_and_scale(process)
    length, frames = window_frames(process), log_mel.shape[1]
    starts = (0, length if frames >= 2 * length else frames // 2)
    rows = np.array([(start + np.arange(length)) % frames for start in starts])
    windows = torch.from_numpy((log_mel.T[rows] - mean) / scale).half()
    both = (torch.from_numpy(values).expand(2, -1) for values in (mean, scale))
    return Batch(windows, *both, torch.eye(2), torch.arange(2))


def _background(config: Config) -> torch.Tensor:
    """A minute of the config's background; if it has none, ten seconds of synthetic wind.

    Raises:
        DataError: the folder of the config has no recording that can be used.
    """
    process, folder = config.data_process, config.augmentation.background_dir
    if folder:
        return load_background(folder, process, minutes=1.0)
    rng, samples = np.random.default_rng(config.trainer.seed), 10 * process.sample_rate
    gusts = np.interp(np.arange(samples), np.linspace(0, samples, 40), rng.uniform(0.02, 1.0, 40))
    rumble = np.cumsum(rng.standard_normal(samples))
    wind = gusts * (rumble - np.convolve(rumble, np.ones(512) / 512, mode="same"))
    return torch.from_numpy(MelSpectrogram(process).db((0.01 * wind).astype(np.float32)).T.copy()).half()
