"""What a model of the waveform hears: rows -> spans cut from the recordings, standardised and changed on the device."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from dataloader.audio import BadRecording, read_audio
from dataloader.dataset import Batch, Drawn, WindowDataset
from dataloader.images import Mixes
from utils.config import Augmentation, DataProcess, Labels
from utils.errors import DataError
from utils.utils import seed_for

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

SAMPLE_RATE = 16_000  # Hz, of what Wav2Vec2 was trained on; sample_rate of [data_process] is that of the spectrograms
_SILENT = 1e-5  # deviation, -100 dB re full scale, that a window is divided by at least


def window_samples(process: DataProcess) -> int:
    """Samples in a window."""
    return round(process.max_length_s * SAMPLE_RATE)


class WaveformDataset(Dataset):
    """The same windows and targets as those of ``WindowDataset``, but cut from the recordings.

    Args:
        metadata: good recordings: ``path``, and what ``WindowDataset`` needs.
        windows, labels, rules: see there.
    """

    def __init__(
        self, metadata: "pd.DataFrame", windows: "pd.DataFrame", labels: Sequence[str], process: DataProcess,
        rules: Labels | None = None,
    ):  # fmt: skip
        self._rows = WindowDataset(metadata, windows, labels, process, rules)
        self.filenames, self.recording, self.targets = self._rows.filenames, self._rows.recording, self._rows.targets
        self.paths: list[str] = metadata["path"].tolist()
        self.length = window_samples(process)
        self._frame_s = process.hop_length / process.sample_rate
        self._end_s = process.max_recording_s or float("inf")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, drawn: Sequence[Drawn]) -> Batch:
        """``windows`` are ``(batch, samples)`` float32, full scale 1; ``mean`` and ``scale`` are ``(batch, 0)``."""
        recordings, firsts = self._rows.where(drawn)
        windows = np.stack(
            [
                self._read(self.paths[recording], first * self._frame_s)
                for recording, first in zip(recordings, firsts.tolist(), strict=True)
            ]
        )
        none = np.empty((len(drawn), 0), np.float32)
        return Batch(*map(torch.from_numpy, (windows, none, none, self.targets[recordings], recordings)))

    def _read(self, path: str, start_s: float) -> np.ndarray:
        """A window; a recording that ends within it goes on with its beginning, until the window is full."""
        window_s = self.length / SAMPLE_RATE
        try:
            span = read_audio(path, SAMPLE_RATE, start_s=start_s, duration_s=min(window_s, self._end_s - start_s))
            if not len(span):
                raise BadRecording("too_short", f"nothing is left at {start_s:.2f} s")
            if len(span) < self.length and start_s > 0:
                before = read_audio(path, SAMPLE_RATE, duration_s=min(start_s, window_s))
                span = np.concatenate([span, before])
        except BadRecording as error:
            raise DataError(f"{path}: {error}; it was another when the run began: bring that back") from None
        return np.resize(span, self.length)


class WaveformMaker:
    """Makes waveforms of batches; training and prediction share it.

    Every window gets zero mean and unit deviation. The pipeline of Wav2Vec2's base size does without
    (``_normalize_waveform`` is False), as its first layer is normalised over time; but that layer adds
    1e-5 to a variance, which is as much as a quiet field recording has. Standardised, a recorder's gain
    makes no difference. Digital silence becomes zeros.

    Args:
        augmenter: changes training waveforms; None changes none.
        mixer: mixes training examples, standardised; None mixes none.
    """

    def __init__(self, augmenter: "WaveformAugmenter | None" = None, mixer: Mixes | None = None):
        self._augmenter, self._mixer = augmenter, mixer

    def __call__(self, batch: Batch, place: tuple[int, ...] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Waveforms ``(batch, samples)`` float32, and targets ``(batch, classes)``.

        Args:
            place: where in the training the batch stands, (epoch, step, rank); None: not training.
        """
        waveforms = batch.windows - batch.windows.mean(dim=1, keepdim=True)
        waveforms = waveforms / waveforms.std(dim=1, keepdim=True, correction=0).clamp(min=_SILENT)
        if place is not None and self._augmenter is not None:
            waveforms = self._augmenter(waveforms, place)
        targets = batch.targets
        if place is not None and self._mixer is not None:  # as if it were an image of one band
            waveforms, targets = self._mixer.images(waveforms[:, None], targets, place)
            waveforms = waveforms[:, 0]
        return waveforms, targets


class WaveformAugmenter:
    """The changes of an [augmentation] section that mean something for a waveform: noise, and hidden stretches of time.

    A gain is taken out by standardising, and what is done to bands is for images. It says so, once.
    """

    def __init__(self, augmentation: Augmentation, process: DataProcess, seed: int):
        self._settings, self._seed = augmentation, seed
        self._mask_share = augmentation.time_mask_max_s / process.max_length_s
        if augmentation.data_augmentation:
            log.warning(
                "[augmentation] a waveform gets its noise (augment_add_noise) and its hidden stretches of time "
                "(augment_spec_augment) only; all else there is for images"
            )

    def __call__(self, waveforms: torch.Tensor, place: tuple[int, ...]) -> torch.Tensor:
        """Change ``waveforms`` ``(batch, samples)``, standardised; ``place`` is where in the run they stand."""
        settings = self._settings
        if settings.data_augmentation and settings.augment_add_noise:
            generator = self._generator("waveform noise", waveforms.device, place)
            waveforms = add_noise(waveforms, generator, settings.noise_max_deviation)
        if settings.data_augmentation and settings.augment_spec_augment:
            generator = self._generator("waveform masks", waveforms.device, place)
            waveforms = hide_stretches(waveforms, generator, settings.time_masks, self._mask_share)
        return waveforms

    def _generator(self, name: str, device: torch.device, place: tuple[int, ...]) -> torch.Generator:
        return torch.Generator(device).manual_seed(seed_for(self._seed, name, *place))


def add_noise(waveforms: torch.Tensor, generator: torch.Generator, max_deviation: float) -> torch.Tensor:
    """Add white noise to each waveform ``(batch, samples)``, of a deviation drawn between 0 and ``max_deviation``."""
    strength = torch.rand((len(waveforms), 1), generator=generator, device=waveforms.device) * max_deviation
    return waveforms + strength * torch.randn(waveforms.shape, generator=generator, device=waveforms.device)


def hide_stretches(waveforms: torch.Tensor, generator: torch.Generator, count: int, max_share: float) -> torch.Tensor:
    """Set ``count`` stretches of each waveform ``(batch, samples)`` to 0, each at most ``max_share`` of it."""
    batch, samples = waveforms.shape
    width, start = torch.rand((2, batch, count, 1), generator=generator, device=waveforms.device)
    width = width * min(max_share, 1.0)
    start = start * (1 - width)
    place = torch.arange(samples, device=waveforms.device) / samples
    return waveforms.masked_fill(((place >= start) & (place < start + width)).any(dim=1), 0.0)
