"""How good is a recording as sound: its level, clipping, silence, bandwidth, constant offset and gaps?"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataloader.audio.decoding import AudioStream, BadRecording, audio_info

_BLOCK_S = 10.0  # seconds measured at once
_CLIPPED = 0.999  # of full scale; from here on a sample counts as clipped
_GAP_S = 0.002  # seconds of a constant value that count as a gap; real sound has none so long
_GAP_SAMPLES = 64  # the least number of samples of a gap
_SEGMENT = 2048  # samples of a spectrum
_EMPTY_DB = -105.0  # re a full-scale sine; a bin below this is empty; just above the noise of 16 bits (-126)
_EDGE_DB = 12.0  # the spectrum falls by this at the upper limit of the recorded sound
_EDGE_SHARE = 0.02  # of half the sample rate; it falls by so much within this


@dataclass(frozen=True)
class Quality:
    """The measurements of the mean of a recording's channels.

    Attributes:
        seconds: the length that was decoded.
        sample_rate: Hz, of the file, with its time expansion.
        channels: how many.
        peak_dbfs: the largest absolute sample, dB re full scale; -200 of digital silence.
        rms_dbfs: root mean square without the constant offset, dB re full scale; -200 of digital silence.
        clipped_share: share of the samples at full scale.
        silent_share: share of the samples in runs of one value of at least 2 ms, which is digital silence.
        gaps: the number of such runs between other samples, where a recorder dropped samples.
        bandwidth_hz: the frequency up to which there is sound; it is below half the sample rate if the file was
            resampled from a lower rate, or if its encoder removed what is above.
        offset: mean of the samples, full scale 1 (DC).
        problem: ``reason: detail`` of the fault of the file; empty: no fault.
    """

    seconds: float = 0.0
    sample_rate: int = 0
    channels: int = 0
    peak_dbfs: float = math.nan
    rms_dbfs: float = math.nan
    clipped_share: float = math.nan
    silent_share: float = math.nan
    gaps: int = 0
    bandwidth_hz: float = math.nan
    offset: float = math.nan
    problem: str = ""


def measure(path: Path | str, *, time_expansion: float = 1.0) -> Quality:
    """Measure a recording of any length in constant memory. A bad one is measured as far as it can be decoded."""
    try:
        info = audio_info(path, time_expansion=time_expansion)
        stream = AudioStream(path, info.sample_rate, _BLOCK_S, strict=False, time_expansion=time_expansion)
        sums = _Sums(info.sample_rate)
        for block in stream:
            sums.add(block)
    except BadRecording as bad:
        return Quality(problem=str(bad))
    problem = str(stream.problem or "")
    if not sums.count:
        return Quality(0.0, info.sample_rate, info.channels, problem=problem)
    mean = sums.total / sums.count
    return Quality(
        seconds=sums.count / info.sample_rate,
        sample_rate=info.sample_rate,
        channels=info.channels,
        peak_dbfs=_decibels(sums.peak**2),
        rms_dbfs=_decibels(max(0.0, sums.squares / sums.count - mean**2)),
        clipped_share=sums.clipped / sums.count,
        silent_share=sums.constant / sums.count,
        gaps=sums.gaps,
        bandwidth_hz=bandwidth(sums.spectrum(), info.sample_rate),
        offset=mean,
        problem=problem,
    )


class _Sums:
    """Sums over the blocks of a recording."""

    def __init__(self, sample_rate: int):
        self.count = self.clipped = self.constant = self.gaps = 0
        self.total = self.squares = self.peak = 0.0
        self._longest = max(_GAP_SAMPLES, round(_GAP_S * sample_rate))
        self._power, self._segments = np.zeros(_SEGMENT // 2 + 1), 0
        self._after_sound = False  # whether there was more than one constant value before
        self._open = False  # whether a run continues at the end of the last block

    def add(self, block: np.ndarray) -> None:
        """Add a block of ``(samples,)``."""
        wide = block.astype(np.float64)
        self.count += len(block)
        self.total += float(wide.sum())
        self.squares += float(np.dot(wide, wide))
        self.peak = max(self.peak, float(np.abs(block).max()))
        self.clipped += int(np.count_nonzero(np.abs(block) >= _CLIPPED))
        self._add_runs(block)
        if n_segments := len(block) // _SEGMENT:
            segments = block[: n_segments * _SEGMENT].reshape(n_segments, _SEGMENT)
            self._power += np.square(np.abs(np.fft.rfft(segments * _WINDOW, axis=1))).sum(axis=0)
            self._segments += n_segments

    def _add_runs(self, block: np.ndarray) -> None:
        """Count the runs of one value. A run across two blocks counts once, if its piece in each is long enough."""
        borders = np.flatnonzero(np.concatenate([[True], block[1:] != block[:-1], [True]]))
        lengths = np.diff(borders)
        long = (lengths >= self._longest) & (np.abs(block[borders[:-1]]) < _CLIPPED)
        self.constant += int(lengths[long].sum())
        if self._open and not long[0]:
            self.gaps += 1  # it ended with the block before
        closed = long.copy()
        closed[0] &= self._after_sound  # silence at the very beginning is not a gap
        self._open = bool(long[-1]) and (self._after_sound or len(long) > 1)
        closed[-1] = False
        self.gaps += int(closed.sum())
        self._after_sound |= not long.all()

    def spectrum(self) -> np.ndarray:
        """Mean power of each bin, ``(1025,)``, dB re a full-scale sine; empty if the recording is too short."""
        if not self._segments:
            return np.empty(0)
        full_scale = (_WINDOW.sum() / 2) ** 2
        return 10 * np.log10(np.maximum(self._power / self._segments / full_scale, 1e-20))


_WINDOW = np.hanning(_SEGMENT)


def bandwidth(spectrum: np.ndarray, sample_rate: int) -> float:
    """The frequency above which a spectrum is empty, in Hz; half the sample rate if it is empty nowhere.

    A recording that was made at a lower rate, or that a lossy encoder cut, has an edge: the spectrum falls by
    ``_EDGE_DB`` within a small band, and everything above is below ``_EMPTY_DB``. The spectrum of a quiet recording
    falls slowly into the noise and has no edge. In a recording with dither or noise above the edge it is not found.

    Args:
        spectrum: ``(bins,)``, dB re a full-scale sine, from 0 Hz to half the sample rate; empty: unknown, NaN.
    """
    if not len(spectrum):
        return math.nan
    half, width = sample_rate / 2, max(2, round(_EDGE_SHARE * len(spectrum)))
    smooth = np.convolve(np.pad(spectrum, 2, mode="edge"), np.full(5, 0.2), mode="valid")
    empty_from = len(smooth) - int(np.argmin((smooth < _EMPTY_DB)[::-1])) if not (smooth < _EMPTY_DB).all() else 0
    if not width <= empty_from < len(smooth) - width:
        return half if empty_from else 0.0
    before, after = smooth[empty_from - width : empty_from], smooth[empty_from : empty_from + width]
    if before.max() - after.min() < _EDGE_DB:
        return half
    return float(empty_from) / (len(spectrum) - 1) * half


def _decibels(power: float) -> float:
    return 10 * math.log10(max(power, 1e-20))
