"""What is the input of a model on the waveform? Spans of the recordings, standardised and changed on the device."""

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from dataloader.audio.decoding import BadRecording, read_audio
from dataloader.batches.augment import Augmenter
from dataloader.batches.dataset import Batch, Drawn, WindowDataset
from dataloader.batches.images import Mixes
from dataloader.batches.windows import ends_the_recording
from utils.errors import DataError
from utils.settings import Augmentation, DataProcess, Labels

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_RATE = 16_000  # Hz, on which Wav2Vec2 was trained; sample_rate of [data_process] is for spectrograms only
_SILENT = 1e-5  # standard deviation, -100 dB re full scale; a window is divided by at least this


def window_samples(process: DataProcess) -> int:
    """Samples in a window."""
    return round(process.max_length_s * SAMPLE_RATE)


class WaveformDataset(WindowDataset):
    """The same windows and targets as in ``WindowDataset``, but read from the recordings.

    Args:
        metadata: good recordings: ``path``, ``seconds``, and what ``WindowDataset`` needs.
        windows, labels, rules, min_overlap_s: see ``WindowDataset``.

    Attributes:
        samples: of a window; ``length`` is its length in frames of the spectrogram.
    """

    def __init__(
        self, metadata: "pd.DataFrame", windows: "pd.DataFrame", labels: Sequence[str], process: DataProcess,
        rules: Labels | None = None, min_overlap_s: float = 0.25,
    ):  # fmt: skip
        super().__init__(metadata, windows, labels, process, rules, min_overlap_s)
        self.samples = window_samples(process)
        self.paths: list[str] = metadata["path"].tolist()
        self._expansions = [1.0] * len(metadata) if "time_expansion" not in metadata else [*metadata["time_expansion"]]
        self._end_s = process.max_recording_s or float("inf")
        self._totals = [math.floor(min(s, self._end_s) * SAMPLE_RATE + 0.5) for s in metadata["seconds"]]  # as soxr

    def __getitem__(self, drawn: Sequence[Drawn]) -> Batch:
        """``windows`` are ``(batch, samples)`` float32, full scale 1; ``mean`` and ``scale`` are ``(batch, 0)``."""
        recordings, firsts = self.where(drawn)
        starts = map(self._start_s, recordings, firsts.tolist())
        windows = np.stack([*map(self._read, recordings, starts)])
        none = np.empty((len(drawn), 0), np.float32)
        targets = self.targets_of(recordings, firsts)
        return Batch(*map(torch.from_numpy, (windows, none, none, targets, recordings)))

    def _start_s(self, recording: int, first: int) -> float:
        """The second at which the window of frame ``first`` begins.

        It is as in prediction, which counts samples instead of frames: windows of the grid follow one another exactly,
        and the last one ends where the recording ends. In a recording shorter than a window it may be anywhere.
        """
        start, latest = first / self.length * self.samples, self._totals[recording] - self.samples
        if latest < 0:
            return start / SAMPLE_RATE
        if ends_the_recording(first, self.length, self.frames[recording]):
            start = math.ceil(first / self.length) * self.samples  # that of a complete window, if there is one
        return min(start, latest) / SAMPLE_RATE

    def _read(self, recording: int, start_s: float) -> np.ndarray:
        """A window; if the recording ends within it, it is repeated from its beginning until the window is full."""
        window_s = self.samples / SAMPLE_RATE
        path, read = self.paths[recording], functools.partial(read_audio, time_expansion=self._expansions[recording])
        try:
            span = read(path, SAMPLE_RATE, start_s=start_s, duration_s=min(window_s, self._end_s - start_s))
            if not len(span):
                raise BadRecording("too_short", f"it ends before {start_s:.2f} s")
            if len(span) < self.samples and start_s > 0:
                before = read(path, SAMPLE_RATE, duration_s=min(start_s, window_s))
                span = np.concatenate([span, before])
        except BadRecording as error:
            raise DataError(f"{path}: {error}; it has changed since the run began; restore it") from None
        return np.resize(span, self.samples)


class WaveformTransform:
    """Makes the waveforms of a batch; training and prediction share it.

    Every window gets zero mean and unit standard deviation. The pipeline of Wav2Vec2's base size does not do this
    (``_normalize_waveform`` is False), because its first layer is normalised over time. But that layer adds 1e-5 to the
    variance, which is the variance of a quiet field recording. After standardising, the gain of the recorder makes no
    difference. Digital silence becomes zeros.

    Args:
        augmenter: of ``waveform_augmenter``; changes training waveforms; None: nothing is changed.
        mixer: mixes training examples after standardising; None: nothing is mixed.
    """

    def __init__(self, augmenter: Augmenter | None = None, mixer: Mixes | None = None):
        self._augmenter, self._mixer = augmenter, mixer

    def __call__(self, batch: Batch, step_key: tuple[int, ...] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Waveforms ``(batch, samples)`` float32, and targets ``(batch, classes)``.

        Args:
            step_key: (epoch, step, rank) of the batch in training; None: not in training.
        """
        waveforms = batch.windows - batch.windows.mean(dim=1, keepdim=True)
        waveforms = waveforms / waveforms.std(dim=1, keepdim=True, correction=0).clamp(min=_SILENT)
        if step_key is None:
            return waveforms, batch.targets
        images, targets = waveforms[:, None], batch.targets  # as an image of one band
        if self._augmenter is not None:
            images = self._augmenter(images, step_key)
        if self._mixer is not None:
            images, targets = self._mixer.images(images, targets, step_key)
        return images[:, 0], targets


def waveform_augmenter(augmentation: Augmentation, process: DataProcess, seed: int) -> Augmenter:
    """The changes of an [augmentation] section that work on a waveform: noise, and hidden stretches of time.

    They treat the waveform as an image of one band, whose frames are samples. Changes of power or of several bands are
    for images only; ``factory.choices`` refuses them.
    """
    as_image = replace(process, sample_rate=SAMPLE_RATE, hop_length=1, standardize="per_frequency")
    return Augmenter(replace(augmentation, frequency_masks=0), as_image, seed)
