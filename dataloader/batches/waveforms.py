"""What a model of the waveform hears: rows -> spans cut from the recordings, standardised and changed on the device."""

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from dataloader.audio.decoding import BadRecording, read_audio
from dataloader.batches.augment import Augmenter
from dataloader.batches.dataset import Batch, Drawn, WindowDataset
from dataloader.batches.images import Mixes
from dataloader.batches.windows import window_frames
from utils.config import Augmentation, DataProcess, Labels
from utils.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_RATE = 16_000  # Hz, of what Wav2Vec2 was trained on; sample_rate of [data_process] is that of the spectrograms
_SILENT = 1e-5  # deviation, -100 dB re full scale, that a window is divided by at least


def window_samples(process: DataProcess) -> int:
    """Samples in a window."""
    return round(process.max_length_s * SAMPLE_RATE)


class WaveformDataset(Dataset):
    """The same windows and targets as those of ``WindowDataset``, but cut from the recordings.

    Args:
        metadata: good recordings: ``path``, ``seconds``, and what ``WindowDataset`` needs.
        windows, labels, rules: see there.
    """

    def __init__(
        self, metadata: "pd.DataFrame", windows: "pd.DataFrame", labels: Sequence[str], process: DataProcess,
        rules: Labels | None = None, min_overlap_s: float = 0.25,
    ):  # fmt: skip
        self._rows = WindowDataset(metadata, windows, labels, process, rules, min_overlap_s)
        self.filenames, self.recording, self.targets = self._rows.filenames, self._rows.recording, self._rows.targets
        self.timed = self._rows.timed
        self.paths: list[str] = metadata["path"].tolist()
        self._expansions = [1.0] * len(metadata) if "time_expansion" not in metadata else [*metadata["time_expansion"]]
        self.length, self._window = window_samples(process), window_frames(process)
        self._end_s = process.max_recording_s or float("inf")
        self._samples = [math.floor(min(s, self._end_s) * SAMPLE_RATE + 0.5) for s in metadata["seconds"]]  # as soxr

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, drawn: Sequence[Drawn]) -> Batch:
        """``windows`` are ``(batch, samples)`` float32, full scale 1; ``mean`` and ``scale`` are ``(batch, 0)``."""
        recordings, firsts = self._rows.where(drawn)
        windows = np.stack(
            [
                self._read(recording, self._start_s(recording, first))
                for recording, first in zip(recordings, firsts.tolist(), strict=True)
            ]
        )
        none = np.empty((len(drawn), 0), np.float32)
        targets = self._rows.targets_of(recordings, firsts)
        return Batch(*map(torch.from_numpy, (windows, none, none, targets, recordings)))

    def _start_s(self, recording: int, first: int) -> float:
        """Where the window at frame ``first`` begins, in seconds.

        As in prediction, which counts samples and no frames: windows of the grid stand a window apart, and a last
        one ends where the recording does. A recording that is shorter than a window may begin anywhere.
        """
        start, latest = first / self._window * self.length, self._samples[recording] - self.length
        if latest < 0:
            return start / SAMPLE_RATE
        if first % self._window and first + self._window >= self._rows.frames[recording]:
            start = math.ceil(first / self._window) * self.length  # of a whole window, if there is room for it
        return min(start, latest) / SAMPLE_RATE

    def _read(self, recording: int, start_s: float) -> np.ndarray:
        """A window; a recording that ends within it goes on with its beginning, until the window is full."""
        window_s = self.length / SAMPLE_RATE
        path, read = self.paths[recording], functools.partial(read_audio, time_expansion=self._expansions[recording])
        try:
            span = read(path, SAMPLE_RATE, start_s=start_s, duration_s=min(window_s, self._end_s - start_s))
            if not len(span):
                raise BadRecording("too_short", f"nothing is left at {start_s:.2f} s")
            if len(span) < self.length and start_s > 0:
                before = read(path, SAMPLE_RATE, duration_s=min(start_s, window_s))
                span = np.concatenate([span, before])
        except BadRecording as error:
            raise DataError(f"{path}: {error}; it has changed since the run began; restore it") from None
        return np.resize(span, self.length)


class WaveformTransform:
    """Makes waveforms of batches; training and prediction share it.

    Every window gets zero mean and unit deviation. The pipeline of Wav2Vec2's base size does without
    (``_normalize_waveform`` is False), as its first layer is normalised over time; but that layer adds
    1e-5 to a variance, which is as much as a quiet field recording has. Standardised, a recorder's gain
    makes no difference. Digital silence becomes zeros.

    Args:
        augmenter: of ``waveform_augmenter``: changes training waveforms; None changes none.
        mixer: mixes training examples, standardised; None mixes none.
    """

    def __init__(self, augmenter: Augmenter | None = None, mixer: Mixes | None = None):
        self._augmenter, self._mixer = augmenter, mixer

    def __call__(self, batch: Batch, step_key: tuple[int, ...] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Waveforms ``(batch, samples)`` float32, and targets ``(batch, classes)``.

        Args:
            step_key: where in the training the batch stands, (epoch, step, rank); None: not training.
        """
        waveforms = batch.windows - batch.windows.mean(dim=1, keepdim=True)
        waveforms = waveforms / waveforms.std(dim=1, keepdim=True, correction=0).clamp(min=_SILENT)
        if step_key is None:
            return waveforms, batch.targets
        images, targets = waveforms[:, None], batch.targets  # of one band
        if self._augmenter is not None:
            images = self._augmenter(images, step_key)
        if self._mixer is not None:
            images, targets = self._mixer.images(images, targets, step_key)
        return images[:, 0], targets


def waveform_augmenter(augmentation: Augmentation, process: DataProcess, seed: int) -> Augmenter:
    """The changes of an [augmentation] section that mean something for a waveform: noise, and hidden stretches of time.

    They are those of an image of one band, whose frames are samples. What is done to power or to several
    bands is for images alone; ``factory.choices`` refuses it.
    """
    as_image = replace(process, sample_rate=SAMPLE_RATE, hop_length=1, standardize="per_frequency")
    return Augmenter(replace(augmentation, frequency_masks=0), as_image, seed)
