"""What a model of the waveform hears: rows -> spans cut from the recordings, standardised and changed on the device."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from dataloader.audio import BadRecording, read_audio
from dataloader.dataset import Batch, target_matrix
from utils.config import Augmentation, DataProcess
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
    """The same windows as those of ``WindowDataset``, but cut from the recordings. It is asked for a whole batch.

    Args:
        metadata: good recordings: ``path``, ``labels``, ``filename``.
        windows: rows ``recording`` and ``first_frame``, of ``make_windows``.
        labels: the classes; a label's place is its index.
    """

    def __init__(self, metadata: "pd.DataFrame", windows: "pd.DataFrame", labels: Sequence[str], process: DataProcess):
        self.filenames = metadata["filename"].tolist()
        self.paths: list[str] = metadata["path"].tolist()
        self.recording = windows["recording"].to_numpy(np.int64)
        self.start_s = windows["first_frame"].to_numpy() * process.hop_length / process.sample_rate
        self.length = window_samples(process)
        self.end_s = process.max_recording_s or float("inf")
        self.targets = target_matrix(metadata["labels"], labels)

    def __len__(self) -> int:
        return len(self.start_s)

    def __getitem__(self, rows: Sequence[int]) -> Batch:
        """``windows`` are ``(batch, samples)`` float32, full scale 1; ``scale`` is empty, ``(batch, 0)``."""
        recordings = self.recording[rows]
        windows = np.stack(
            [
                self._read(self.paths[recording], self.start_s[row])
                for row, recording in zip(rows, recordings, strict=True)
            ]
        )
        scale = np.empty((len(rows), 0), np.float32)
        return Batch(*map(torch.from_numpy, (windows, scale, self.targets[recordings], recordings)))

    def _read(self, path: str, start_s: float) -> np.ndarray:
        """A window; a recording that ends before is repeated until the window is full."""
        duration_s = min(self.length / SAMPLE_RATE, self.end_s - start_s)
        try:
            span = read_audio(path, SAMPLE_RATE, start_s=float(start_s), duration_s=duration_s)
        except BadRecording as error:
            raise DataError(f"{path}: {error}; it was whole when the run began: bring it back") from None
        if not len(span):
            raise DataError(
                f"{path}: nothing is left at {start_s:.2f} s; it was longer when the run began: bring it back"
            )
        return np.resize(span, self.length)


class WaveformMaker:
    """Makes waveforms of batches; training and prediction share it.

    Every window gets zero mean and unit deviation. The pipeline of Wav2Vec2's base size does without
    (``_normalize_waveform`` is False), as its first layer is normalised over time; but that layer adds
    1e-5 to a variance, which is as much as a quiet field recording has. Standardised, a recorder's gain
    makes no difference. Digital silence becomes zeros.

    Args:
        augmenter: changes training waveforms; None changes none.
    """

    def __init__(self, augmenter: "WaveformAugmenter | None" = None):
        self._augmenter = augmenter

    def __call__(self, batch: Batch, place: tuple[int, ...] | None = None) -> torch.Tensor:
        """Waveforms ``(batch, samples)`` float32.

        Args:
            place: where in the training the batch stands, (epoch, step, rank); None: not training.
        """
        waveforms = batch.windows - batch.windows.mean(dim=1, keepdim=True)
        waveforms = waveforms / waveforms.std(dim=1, keepdim=True, correction=0).clamp(min=_SILENT)
        if place is not None and self._augmenter is not None:
            waveforms = self._augmenter(waveforms, place)
        return waveforms


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
