"""How is the power in mel bands computed for many frames of a waveform? This takes the most time after decoding.

``MelPower`` is for an n_fft that is a power of two. It transforms ``LANES`` frames side by side, so that each step of
the Fourier transform is one vector instruction for several frames, and keeps them in the cache of one core from the
window to the mel bands. This takes 1.3 ms; passing whole arrays from one library to the next took 3.5 ms
(docs/data.md). ``AnyMelPower`` does the latter, for every other n_fft.

In both, the result of a frame is exactly the same whatever other frames are computed with it.
"""

from collections.abc import Callable

import numba
import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from utils.settings import DataProcess

LANES = 32  # frames that are computed side by side


def mel_power(process: DataProcess, filters: np.ndarray) -> "MelPower | AnyMelPower":
    """The function ``power(samples, first, out)`` for these settings.

    Args:
        filters: ``(n_mels, n_fft // 2 + 1)``, float32.
    """
    is_power_of_two = process.n_fft & (process.n_fft - 1) == 0
    return (MelPower if is_power_of_two else AnyMelPower)(process, filters)


def _hann(n_fft: int) -> np.ndarray:
    return torch.hann_window(n_fft, periodic=True).numpy()


def _floor(process: DataProcess) -> np.float32:
    return np.float32(10.0 ** (process.floor_db / 10.0))


class AnyMelPower:
    """The same as ``MelPower`` for any n_fft, array by array; it does not check that there are enough samples."""

    _ROWS = 128  # frames at once, so that the data between two steps stay in the cache of a core

    def __init__(self, process: DataProcess, filters: np.ndarray):
        import scipy.sparse

        self._hop, self._window, self._floor = process.hop_length, _hann(process.n_fft), _floor(process)
        self._filters = scipy.sparse.csr_array(filters)  # each filter covers only a few of the frequencies

    def __call__(self, samples: np.ndarray, first: int, out: np.ndarray) -> None:
        if not len(out):
            return
        frames = sliding_window_view(samples[first:], len(self._window))[:: self._hop]
        for start in range(0, len(out), self._ROWS):
            rows = torch.from_numpy(frames[start : min(start + self._ROWS, len(out))] * self._window)
            spectrum = torch.fft.rfft(rows).numpy()
            power = np.square(spectrum.real) + np.square(spectrum.imag)
            np.maximum((self._filters @ power.T).T, self._floor, out=out[start : start + len(rows)])


class MelPower:
    """Power in mel bands, at least ``floor_db``: Hann window, Fourier transform, squared magnitude, mel filters.

    The n_fft real samples of a frame are transformed as n_fft / 2 complex ones, of which the even samples are the
    real parts and the odd ones the imaginary (Press et al., Numerical Recipes, 12.3). Those go through passes of
    radix 4, and one of radix 2 if needed, in Pease's constant geometry (J. ACM 15, 1968): each pass reads rows
    a quarter apart and writes four rows in succession, so that the compiler knows they do not overlap. The
    frequencies come out in the order of their reversed digits, which ``_positions`` corrects.
    """

    def __init__(self, process: DataProcess, filters: np.ndarray):
        self._hop, self._window, self._floor = process.hop_length, _hann(process.n_fft), _floor(process)
        half = process.n_fft // 2
        self._twiddles, self._positions = _twiddles(half), _positions(half)
        turns = np.exp(-2j * np.pi * np.arange(half + 1) / process.n_fft)
        self._turns = np.stack([turns.real, turns.imag], axis=1).astype(np.float32)
        # The sums of even and odd spectra are not halved, so the power is four times too large.
        self._bands, self._weights = _banded(filters * np.float32(0.25))

    def __call__(self, samples: np.ndarray, first: int, out: np.ndarray) -> None:
        """Compute the frames that begin at ``first``, ``first + hop_length`` ...

        Args:
            samples: ``(samples,)``, float32, C order, with all samples of all frames.
            out: ``(frames, n_mels)``, float32, C order; it is filled.

        Raises:
            ValueError: there are too few samples.
        """
        end = first + (len(out) - 1) * self._hop + len(self._window)
        if len(out) and not 0 <= first < end <= len(samples):  # the loops do not check
            raise ValueError(f"{len(out)} frames from {first} on end at {end}, and there are {len(samples)} samples")
        _mel_power(
            samples, first, self._hop, self._window, self._twiddles, self._positions, self._turns, self._bands,
            self._weights, self._floor, out,
        )  # fmt: skip


def _twiddles(n: int) -> np.ndarray:
    """The factors of each pass of radix 4, ``(passes, n / 4, 6)`` float32: w, w^2 and w^3, real and imaginary part."""
    passes = (n.bit_length() - 1) // 2
    done = 4 ** np.arange(passes)[:, None, None]
    index = np.arange(n // 4)[None, :, None] // done
    turns = np.exp(-2j * np.pi * index * done * np.array([1, 2, 3]) / n)
    return np.stack([turns.real, turns.imag], axis=-1).reshape(passes, n // 4, 6).astype(np.float32)


def _positions(n: int) -> np.ndarray:
    """The position of each of ``n`` frequencies after the passes, ``(n,)`` uint64."""
    bits = n.bit_length() - 1
    positions, rest = np.zeros(n, np.uint64), np.arange(n, dtype=np.uint64)
    for radix in [4] * (bits // 2) + [2] * (bits % 2):
        positions = positions * np.uint64(radix) + rest % np.uint64(radix)
        rest //= np.uint64(radix)
    return positions


def _banded(filters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Filters without the zeros around them.

    Returns:
        For each band its first frequency, and the begin and end of its weights, ``(n_mels, 3)`` int64; the weights of
        all bands, one after another.
    """
    bands, weights = np.zeros((len(filters), 3), np.int64), []
    for band, row in enumerate(filters):
        inside = np.flatnonzero(row)  # empty for a band that is narrower than the spacing of the frequencies
        span = slice(inside[0], inside[-1] + 1) if len(inside) else slice(0, 0)
        bands[band] = span.start, len(weights), len(weights) + span.stop - span.start
        weights.extend(row[span])
    return bands, np.array(weights, np.float32)


_OPTIONS = {"nogil": True, "error_model": "numpy"}
_inner = numba.njit(**_OPTIONS)


def _kept(function: Callable) -> Callable:
    """``function`` in machine code, which is kept beside this file, or in numba's folder for this user."""
    try:
        compiled = numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # neither folder can be written: each process compiles it, in two seconds
        return numba.njit(**_OPTIONS)(function)

    def call(*arguments: object) -> None:
        # The loops themselves raise nothing.
        try:
            compiled(*arguments)
        except OSError:  # it was compiled, but there is no space on the disk to keep it
            compiled(*arguments)
        except Exception:  # a damaged file, such as after a power cut, may raise anything
            # None of numba's public functions removes what it has kept, and every start would fail here.
            compiled._cache.flush()
            compiled(*arguments)

    return call


# The compiler vectorises the following code over lanes, but only if
# - no index can be negative, so all numbers that are added to an index are unsigned;
# - it cannot unroll the loop over lanes first, so the number of lanes is an argument;
# - it knows that no lane writes what another reads, so the rows that are written have a constant distance, and each
#   array is allocated separately.
# A row is one complex number of each frame: LANES real parts, then LANES imaginary ones.

_U = np.uint64
_IMAG, _ROW = _U(LANES), _U(2 * LANES)
_ROW_2, _ROW_3 = _U(4 * LANES), _U(6 * LANES)


@_kept
def _mel_power(samples, first, hop, window, twiddles, positions, turns, bands, weights, floor, mel):
    """Fill ``mel`` ``(frames, n_mels)``."""
    half = len(positions)
    here = np.zeros(2 * LANES * half, np.float32)
    there = np.zeros(2 * LANES * half, np.float32)
    power = np.zeros(LANES * (half + 1), np.float32)
    band = np.zeros(LANES, np.float32)
    for frame in range(0, len(mel), LANES):
        lanes = min(LANES, len(mel) - frame)
        _load(samples, first + frame * hop, hop, window, here, lanes)
        for number in range(len(twiddles)):
            _radix_4(here, there, twiddles[number], lanes)
            here, there = there, here
        if half > 4 ** len(twiddles):
            _radix_2(here, there, lanes)
            here, there = there, here
        _square(here, positions, turns, power, lanes)
        _filter(power, bands, weights, floor, band, mel[frame : frame + lanes])


@_inner
def _load(samples, first, hop, window, rows, lanes):
    """Windowed frames side by side: even samples are real parts, odd ones imaginary."""
    hop = _U(hop)
    for n in range(len(window) // 2):
        even, odd = window[2 * n], window[2 * n + 1]
        source, target = _U(first + 2 * n), _U(n) * _ROW
        for number in range(lanes):
            lane = _U(number)
            rows[target + lane] = samples[source + lane * hop] * even
            rows[target + lane + _IMAG] = samples[source + lane * hop + _U(1)] * odd


@_inner
def _radix_4(rows, out, twiddles, lanes):
    """One pass: decimation in frequency."""
    quarter = len(twiddles)
    q = _U(quarter) * _ROW
    for n in range(quarter):
        w1_re, w1_im, w2_re, w2_im, w3_re, w3_im = twiddles[n]
        source, target = _U(n) * _ROW, _U(4 * n) * _ROW
        for number in range(lanes):
            i, o = source + _U(number), target + _U(number)
            a_re, b_re, c_re, d_re = rows[i], rows[i + q], rows[i + q + q], rows[i + q + q + q]
            i += _IMAG
            a_im, b_im, c_im, d_im = rows[i], rows[i + q], rows[i + q + q], rows[i + q + q + q]
            ac_re, ac_im, bd_re, bd_im = a_re + c_re, a_im + c_im, b_re + d_re, b_im + d_im
            a_c_re, a_c_im, b_d_re, b_d_im = a_re - c_re, a_im - c_im, b_re - d_re, b_im - d_im
            out[o], out[o + _IMAG] = ac_re + bd_re, ac_im + bd_im
            re, im = a_c_re + b_d_im, a_c_im - b_d_re
            out[o + _ROW], out[o + _ROW + _IMAG] = re * w1_re - im * w1_im, re * w1_im + im * w1_re
            re, im = ac_re - bd_re, ac_im - bd_im
            out[o + _ROW_2], out[o + _ROW_2 + _IMAG] = re * w2_re - im * w2_im, re * w2_im + im * w2_re
            re, im = a_c_re - b_d_im, a_c_im + b_d_re
            out[o + _ROW_3], out[o + _ROW_3 + _IMAG] = re * w3_re - im * w3_im, re * w3_im + im * w3_re


@_inner
def _radix_2(rows, out, lanes):
    """The last pass, if the number of passes is odd; its factors are all 1."""
    half = len(rows) // (4 * LANES)
    h = _U(half) * _ROW
    for n in range(half):
        source, target = _U(n) * _ROW, _U(2 * n) * _ROW
        for number in range(lanes):
            i, o = source + _U(number), target + _U(number)
            a_re, b_re, a_im, b_im = rows[i], rows[i + h], rows[i + _IMAG], rows[i + h + _IMAG]
            out[o], out[o + _IMAG] = a_re + b_re, a_im + b_im
            out[o + _ROW], out[o + _ROW + _IMAG] = a_re - b_re, a_im - b_im


@_inner
def _square(rows, positions, turns, power, lanes):
    """Four times the power of the real frames: with Z the spectrum of the complex ones,
    2 X_k = Z_k + conj Z_(half-k) - i turn_k (Z_k - conj Z_(half-k))."""
    half = len(positions)
    for k in range(half + 1):
        turn_re, turn_im = turns[k, 0], turns[k, 1]
        forward, backward = positions[k % half] * _ROW, positions[(half - k) % half] * _ROW
        target = _U(k) * _U(LANES)
        for number in range(lanes):
            i, j = forward + _U(number), backward + _U(number)
            even_re, even_im = rows[i] + rows[j], rows[i + _IMAG] - rows[j + _IMAG]
            odd_re, odd_im = rows[i + _IMAG] + rows[j + _IMAG], rows[j] - rows[i]
            re = even_re + (odd_re * turn_re - odd_im * turn_im)
            im = even_im + (odd_re * turn_im + odd_im * turn_re)
            power[target + _U(number)] = re * re + im * im


@_inner
def _filter(power, bands, weights, floor, band, mel):
    """Sums of weighted frequencies, ``(frames, n_mels)``, at least ``floor``."""
    lanes = len(mel)
    for b in range(len(bands)):
        first, begin, end = bands[b]
        for lane in range(lanes):
            band[lane] = 0
        source = _U(first) * _U(LANES)
        for number in range(begin, end):
            weight = weights[number]
            for lane in range(lanes):
                band[lane] += weight * power[source + _U(lane)]
            source += _U(LANES)
        for lane in range(lanes):
            mel[lane, b] = max(band[lane], floor)
