"""What does a model take as input? A stream of frames: of the spectrogram in dB, or of the waveform."""

from typing import Protocol

import numpy as np
import soxr

from dataloader.batches.waveforms import SAMPLE_RATE
from dataloader.cache.spectrogram import MelSpectrogram, MelStream
from factory.frontend import EMBEDDINGS
from factory.model_card import ModelCard


class Stream(Protocol):
    """Turns the samples of one recording into frames, block by block."""

    def push(self, samples: np.ndarray) -> np.ndarray: ...
    def finish(self) -> np.ndarray: ...


class SpectrogramSource:
    """Frames of a spectrogram, ``(frames, n_mels)``, dB.

    Attributes:
        sample_rate: Hz, of the samples that it takes.
        rate: frames per second.
    """

    def __init__(self, card: ModelCard):
        self._mel = MelSpectrogram(card.spectrogram)
        self.sample_rate, self.rate = card.process.sample_rate, self._mel.frames_per_second

    def stream(self) -> Stream:
        return MelStream(self._mel)


class WaveformSource:
    """The samples themselves, ``(samples,)``; each sample is a frame."""

    def __init__(self, card: ModelCard):
        self.sample_rate = card.process.sample_rate if card.frontend is EMBEDDINGS else SAMPLE_RATE
        self.rate = float(self.sample_rate)

    def stream(self) -> Stream:
        return _Samples()


class _Samples:
    def push(self, samples: np.ndarray) -> np.ndarray:
        return samples

    def finish(self) -> np.ndarray:
        return np.empty(0, np.float32)


Source = SpectrogramSource | WaveformSource


def source_of(card: ModelCard) -> Source:
    """The source of a model's input."""
    return SpectrogramSource(card) if card.frontend.sees_images else WaveformSource(card)


def source_key(card: ModelCard) -> object:
    """A key that is equal for models that can share a source."""
    return card.spectrogram if card.frontend.sees_images else WaveformSource(card).sample_rate


class Live:
    """A stream of a source that accepts samples of any rate."""

    def __init__(self, source: Source, sample_rate: int):
        self._stream, self._resampler = source.stream(), None
        if sample_rate != source.sample_rate:
            self._resampler = soxr.ResampleStream(sample_rate, source.sample_rate, 1, dtype="float32")

    def push(self, samples: np.ndarray, *, last: bool = False) -> np.ndarray:
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=last)
        return self._stream.push(samples)

    def finish(self) -> np.ndarray:
        return np.concatenate([self.push(np.empty(0, np.float32), last=True), self._stream.finish()])
