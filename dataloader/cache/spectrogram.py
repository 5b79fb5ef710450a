"""How does a waveform become a log-mel spectrogram, standardised per frequency?

The spectrogram is that of ``librosa.feature.melspectrogram`` with its defaults (Hann window, centred
frames, zero padding, power, Slaney scale and norm), without the last frame, so that a recording has
``samples // hop_length`` frames; then 10 log10, floored at an absolute level. Every frame depends on
its own samples only, so a recording that is computed block by block equals one that is computed at once.
"""

import functools
from collections.abc import Iterable

import numpy as np
import torch

from utils.settings import DataProcess


@functools.lru_cache(maxsize=8)
def mel_filterbank(process: DataProcess) -> np.ndarray:
    """Triangular mel filters, ``(n_mels, n_fft // 2 + 1)``: librosa's, Slaney scale and norm."""
    import librosa

    return librosa.filters.mel(
        sr=process.sample_rate, n_fft=process.n_fft, n_mels=process.n_mels, fmin=process.f_min, fmax=process.f_max
    )


def _band_edges(process: DataProcess) -> np.ndarray:
    """``(n_mels + 2,)``, Hz: the triangle of band b begins at number b, has its peak at b + 1 and ends at b + 2."""
    import librosa

    return librosa.mel_frequencies(n_mels=process.n_mels + 2, fmin=process.f_min, fmax=process.f_max)


def band_widths(process: DataProcess) -> np.ndarray:
    """Width of each mel band in Hz, ``(n_mels,)``: half the base of its triangle, so that they share f_min to f_max."""
    edges = _band_edges(process)
    return (edges[2:] - edges[:-2]) / 2


class MelSpectrogram:
    """The log-mel spectrogram that a [data_process] section describes.

    Picklable, so that the filters are made once and sent to the workers.

    Args:
        process: the settings; those that only choose windows are ignored.
    """

    def __init__(self, process: DataProcess):
        from dataloader.cache.mel_power import mel_power  # numba takes some time to import

        self.process = process
        self.power = mel_power(process, mel_filterbank(process).astype(np.float32))

    @property
    def frames_per_second(self) -> float:
        return self.process.sample_rate / self.process.hop_length

    @property
    def mel_frequencies(self) -> np.ndarray:
        """Centre of each mel band in Hz, ``(n_mels,)``."""
        return _band_edges(self.process)[1:-1]

    def db(self, waveform: np.ndarray) -> np.ndarray:
        """The log-mel spectrogram of a complete recording.

        Args:
            waveform: ``(samples,)``, float32, full scale 1, at ``process.sample_rate``.

        Returns:
            ``(n_mels, samples // hop_length)``, float32, dB re full scale, at least ``floor_db``;
            Fortran order, as in the cache.

        Raises:
            ValueError: not one-dimensional.
        """
        if waveform.ndim != 1:
            raise ValueError(f"expected a waveform (samples,), got shape {waveform.shape}")
        return np.concatenate(list(self.blocks([waveform]))).T

    def blocks(self, waveform_blocks: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
        """The same for a waveform that arrives in blocks of any length, in constant memory.

        Yields:
            ``(frames, n_mels)``, float32, dB: the frames that each block completes.
        """
        stream = MelStream(self)
        for block in waveform_blocks:
            yield stream.push(block)
        yield stream.finish()


class MelStream:
    """Frames of a waveform that arrives in blocks; it keeps only the samples that are still needed."""

    def __init__(self, mel: MelSpectrogram):
        self._mel, self._hop, self._n_fft = mel, mel.process.hop_length, mel.process.n_fft
        # A frame is centred: it begins half its length before its own time.
        self._kept = np.zeros(self._n_fft // 2, dtype=np.float32)  # samples, from where the next frame begins
        self._received = 0  # samples of the recording
        self._returned = 0  # frames

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Add the next samples ``(samples,)``; return the frames ``(frames, n_mels)`` that they complete."""
        self._received += len(samples)
        return self._frames(np.ascontiguousarray(samples, np.float32))

    def finish(self) -> np.ndarray:
        """The last frames ``(frames, n_mels)``, which extend beyond the end into silence."""
        return self._frames(np.zeros(self._n_fft, dtype=np.float32))

    def _frames(self, samples: np.ndarray) -> np.ndarray:
        """The frames that are complete with the kept samples and ``samples``."""
        kept, hop, n_fft = self._kept, self._hop, self._n_fft
        complete = (len(kept) + len(samples) - n_fft) // hop + 1
        # The number of frames follows from the length of the recording, without librosa's last, half-empty frame.
        n_frames = max(0, min(complete, self._received // hop - self._returned))
        power = np.empty((n_frames, self._mel.process.n_mels), dtype=np.float32)
        # Few frames begin in the kept samples. Only these need both arrays joined; the many others need no copy.
        across = min(n_frames, -(-len(kept) // hop))
        begin = across * hop - len(kept)  # of the first frame that is entirely in ``samples``
        joined = np.concatenate([kept, samples[: max(0, begin - hop + n_fft)]])
        self._mel.power(joined, 0, power[:across])
        self._mel.power(samples, begin, power[across:])
        next_frame = n_frames * hop - len(kept)
        self._kept = samples[next_frame:].copy() if next_frame >= 0 else np.concatenate([kept[next_frame:], samples])
        self._returned += n_frames
        return torch.from_numpy(power).log10_().mul_(10.0).numpy()  # dB; numpy's logarithm takes six times as long


class BandStatistics:
    """Mean and standard deviation of each mel band, computed block by block in constant memory.

    Blocks are joined by the parallel update of Chan, Golub and LeVeque (1979): with counts n, means
    m and sums of squared differences s of two blocks, ``s = s1 + s2 + (m2 - m1)^2 n1 n2 / (n1 + n2)``.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: np.ndarray | float = 0.0
        self._squares: np.ndarray | float = 0.0

    def add(self, frames: np.ndarray) -> None:
        """Add ``(frames, n_mels)``, in dB."""
        if not len(frames):
            return
        mean = frames.mean(axis=0)
        apart = frames - mean
        squares = np.einsum("fm,fm->m", apart, apart).astype(np.float64)
        difference = mean.astype(np.float64) - self._mean
        total = self.count + len(frames)
        self._mean = self._mean + difference * (len(frames) / total)
        self._squares = self._squares + squares + difference**2 * (self.count * len(frames) / total)
        self.count = total

    def mean_and_scale(self, process: DataProcess) -> tuple[np.ndarray, np.ndarray]:
        """What to subtract from each band and what to divide it by, each ``(n_mels,)`` float32, dB.

        The deviation is at least ``min_deviation_db``: a band above the upper limit of a recording holds codec noise of
        about 1 dB, which at unit variance would show which recorder was used.
        """
        mean, variance = np.asarray(self._mean), np.asarray(self._squares) / max(self.count, 1)
        if process.standardize == "none":
            mean, deviation = np.zeros_like(mean), np.ones_like(variance)
        elif process.standardize == "per_clip":  # total variance: within the bands, and of their means
            deviation = np.full_like(variance, np.sqrt(variance.mean() + mean.var()))
            mean = np.full_like(mean, mean.mean())
            deviation = np.maximum(deviation, process.min_deviation_db)
        else:
            deviation = np.maximum(np.sqrt(variance), process.min_deviation_db)
        return mean.astype(np.float32), deviation.astype(np.float32)


def standardise(db: np.ndarray, process: DataProcess) -> np.ndarray:
    """Standardise a log-mel spectrogram over its full length, as ``process.standardize`` sets.

    Steady noise (wind, a generator, the frequency response of the microphone) raises a band by a nearly constant
    number of dB. Subtracting the mean of each band removes it and keeps what changes: the song.

    Args:
        db: ``(n_mels, frames)``, dB, finite, at least two frames.

    Returns:
        ``(n_mels, frames)``, float32, no unit (dB if ``standardize`` is none). A band that never changes becomes
        zeros.

    Raises:
        ValueError: not two-dimensional, fewer than two frames, or not finite.
    """
    if db.ndim != 2 or db.shape[1] < 2:
        raise ValueError(f"expected (n_mels, at least 2 frames), got shape {db.shape}")
    if not np.isfinite(db).all():
        raise ValueError("the spectrogram holds values that are not finite")
    statistics = BandStatistics()
    statistics.add(db.T)
    mean, scale = statistics.mean_and_scale(process)
    return ((db.T - mean) / scale).T.astype(np.float32)


def standardise_windows(windows: torch.Tensor, scale: torch.Tensor, process: DataProcess) -> torch.Tensor:
    """Standardise each window over its own frames, whatever it was standardised over before.

    Per band b with values z = (dB - mean_b) / scale_b, the window's deviation in dB is
    ``std(z) * scale_b``; its floor is ``min_deviation_db``, as for a complete recording.

    Args:
        windows: ``(batch, n_mels, frames)``, as cached, float32.
        scale: ``(batch, n_mels)``, dB, the numbers that the bands were divided by.

    Returns:
        ``(batch, n_mels, frames)``, zero mean and at most unit variance over the window.
    """
    if process.standardize == "none":
        return windows
    deviation, mean = torch.std_mean(windows, dim=_standardised_over(process), correction=0, keepdim=True)
    # per_clip: all bands have the one scale of the clip
    floor = process.min_deviation_db / (scale[:, :1, None] if process.standardize == "per_clip" else scale[:, :, None])
    return (windows - mean) / torch.maximum(deviation, floor)


def move_statistics(
    mean: torch.Tensor, scale: torch.Tensor, before: torch.Tensor, after: torch.Tensor, process: DataProcess
) -> tuple[torch.Tensor, torch.Tensor]:
    """The statistics that a recording would have if all of it were changed like this window.

    Its mean changes as much as the mean of the window, and its scale by the same factor as the window's deviation. This
    is an estimate, because the rest of the recording is not known here.

    Args:
        mean, scale: ``(batch, n_mels, 1)``, dB, of ``BandStatistics.mean_and_scale``.
        before, after: ``(batch, n_mels, frames)``, dB.

    Returns:
        mean and scale, each ``(batch, n_mels, 1)``.
    """
    if process.standardize == "none":
        return mean, scale
    (old, old_mean), (new, new_mean) = (
        torch.std_mean(window, dim=_standardised_over(process), correction=0, keepdim=True)
        for window in (before, after)
    )
    floor = process.min_deviation_db
    return mean + (new_mean - old_mean), (scale * new.clamp(min=floor) / old.clamp(min=floor)).clamp(min=floor)


def _standardised_over(process: DataProcess) -> tuple[int, ...]:
    """The dimensions of ``(batch, n_mels, frames)`` that share a mean and a deviation."""
    return (1, 2) if process.standardize == "per_clip" else (2,)
