"""How does a recording become a mono float32 waveform: all of it, a span of it, or block by block?

libsndfile decodes Ogg Vorbis and Opus, FLAC, WAV and its relatives, AIFF, CAF and MP3 (``sndfile``); FFmpeg, if the
package ``av`` is installed, decodes what libsndfile cannot open or would cut short (``ffmpeg``); soxr resamples.
``AudioStream`` needs the same memory for a night as for a call; ``read_audio`` returns one array. A truncated Ogg
decodes without an error, damaged pages are skipped without notice, and a header may state less than the file holds.
``containers`` and ``AudioStream`` check for all of this.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr

from dataloader.audio.decoder import PIECE, AudioInfo, Decoder, allocate, info_of, open_source
from dataloader.audio.errors import BadRecording

__all__ = ["AudioInfo", "AudioStream", "BadRecording", "audio_info", "read_audio"]

_MP3_MEMORY = 10 * 1152  # an MP3 decoder needs this many frames before a span
_FILTER = 256  # frames beside a span that the resampler uses, times the ratio when the rate falls
_UNSTATED_S = 60  # seconds of a block if the complete recording is read and its length is unknown


def audio_info(path: Path | str, *, time_expansion: float = 1.0) -> AudioInfo:
    """Read a recording's header.

    Args:
        time_expansion: see ``AudioStream``.

    Raises:
        BadRecording: it cannot be opened: missing, empty, truncated or unreadable.
    """
    source, _ = open_source(path)
    try:
        return info_of(source, time_expansion)
    finally:
        source.close()


def resampled_length(frames: int, from_rate: int, to_rate: int) -> int:
    """The number of samples after resampling: ``frames * to_rate / from_rate``, a half rounded up, as soxr does."""
    return (2 * frames * to_rate + from_rate) // (2 * from_rate)


def read_audio(
    path: Path | str, sample_rate: int, *, start_s: float = 0.0, duration_s: float | None = None, strict: bool = True,
    time_expansion: float = 1.0,
) -> np.ndarray:  # fmt: skip
    """Read a recording, or a span of it, as the mean of its channels.

    A span equals the same span of the complete recording: exactly at the file's own rate (of an MP3 within 1e-6 of
    full scale), within 2e-6 when resampled. libsndfile decodes only the span and a margin for the resampler; FFmpeg
    decodes from the beginning (see ``ffmpeg``).

    Args:
        sample_rate: Hz of the result.
        start_s: where the span begins, in seconds.
        duration_s: its length; None: to the end.
        strict: refuse a damaged recording; otherwise return what can be decoded. See ``AudioStream``.
        time_expansion: see ``AudioStream``; all times are those of the real sound.

    Returns:
        ``(samples,)``, float32, full scale 1. A complete recording has ``resampled_length`` samples, a span
        ``round(duration_s * sample_rate)``, or fewer where the recording ends before.

    Raises:
        BadRecording: see ``AudioStream``. Of a span only what is read is checked: it may be silent, and the end of
            the file may be missing.
        ValueError: a negative time.
    """
    if start_s < 0 or (duration_s is not None and duration_s < 0):
        raise ValueError(f"expected times of at least 0 s, got start_s {start_s:g} and duration_s {duration_s}")
    if start_s > 0 or duration_s is not None:
        return _read_span(Decoder(path, strict, time_expansion, to_end=False), sample_rate, start_s, duration_s)
    blocks = list(AudioStream(path, sample_rate, None, strict=strict, time_expansion=time_expansion))
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.float32), *blocks])


class AudioStream(Iterator[np.ndarray]):
    """The mean of a recording's channels, block by block; the joined blocks are exactly the complete recording.

    It can be iterated once. Every block is an array of its own, ``(samples,)``, float32, of
    ``round(block_s * sample_rate)`` samples; only the last may be shorter. An empty recording has no blocks.

    Faults are detected in three steps. First the bytes of the file are examined (``containers.examine``). During
    decoding, ``truncated`` or ``hole`` means that the decoder fails or returns fewer samples than were stated (of an
    MP3 up to 2304 may be missing, which are padding; in an Ogg whose end was found it is a hole), and ``not_finite``
    that values cannot be sound. After the last block, it may turn out to be ``empty`` or ``silent``.

    Args:
        sample_rate: Hz of the blocks.
        block_s: seconds of a block; None: one block with the length that the header states.
        max_s: seconds that are read, from the beginning; 0: all. Only what is read is checked.
        strict: raise when something is wrong, for training data. Otherwise, for prediction, yield what can be decoded,
            with silence in place of values that are not finite; ``problem`` holds what strict would have raised first.
        time_expansion: how many times slower the file plays than the original sound; a bat detector's file of
            44,100 Hz with an expansion of 10 holds sound of 441,000 Hz. All rates and times are those of the original.

    Attributes:
        info: what the header states, with the sample rate of the original sound.
        problem: the first fault so far; None if there is none.
        decoded: samples of each channel decoded so far, at the file's own rate.

    Raises:
        BadRecording: when it is created, strict or not, if nothing can be decoded (missing, unreadable, empty);
            if strict, then and when a block is read, for any fault.
    """

    def __init__(
        self, path: Path | str, sample_rate: int, block_s: float | None, *, max_s: float = 0.0, strict: bool = True,
        time_expansion: float = 1.0,
    ):  # fmt: skip
        self._decoder = Decoder(path, strict, time_expansion)
        self.info = self._decoder.info
        if block_s is None:
            promised = resampled_length(self.info.frames, self.info.sample_rate, sample_rate)
            self._size = promised or _UNSTATED_S * sample_rate
        else:
            self._size = max(1, round(block_s * sample_rate))
        self._sample_rate = sample_rate
        self._most = round(max_s * sample_rate) or math.inf
        self._blocks = self._limited()

    @property
    def problem(self) -> BadRecording | None:
        return self._decoder.problem

    @property
    def decoded(self) -> int:
        """Samples of each channel decoded so far, at the file's own rate."""
        return self._decoder.position

    @property
    def length(self) -> int:
        """Samples of each channel in the complete recording, as far as is known so far, at the file's own rate."""
        all_came = self._decoder.ended and not self._decoder.source.is_exact
        return self.decoded if all_came else max(self.decoded, self.info.frames)

    def __next__(self) -> np.ndarray:
        return next(self._blocks)

    def _limited(self) -> Iterator[np.ndarray]:
        """The blocks up to ``max_s``; then the last checks."""
        yielded = 0
        with self._decoder:
            for block in self._resampled() if self._sample_rate != self.info.sample_rate else self._as_stored():
                block = block[: int(min(len(block), self._most - yielded))]
                yielded += len(block)
                yield block
                if yielded >= self._most:
                    break
            self._decoder.judge()

    def _as_stored(self) -> Iterator[np.ndarray]:
        """Blocks at the file's own rate, decoded directly into the array that is returned."""
        while not self._decoder.ended:
            block = allocate(self._size)
            filled = self._decoder.fill(block)
            if filled:
                yield block[:filled]

    def _resampled(self) -> Iterator[np.ndarray]:
        """Blocks at another rate, filled from the output of the resampler, whose length varies."""
        resampler = soxr.ResampleStream(self.info.sample_rate, self._sample_rate, 1, dtype="float32")
        piece = np.empty(PIECE, np.float32)
        block, filled = allocate(self._size), 0
        while not self._decoder.ended:
            got = self._decoder.fill(piece)
            new = resampler.resample_chunk(piece[:got], last=self._decoder.ended)
            while len(new):
                fitting, new = new[: self._size - filled], new[self._size - filled :]
                block[filled : filled + len(fitting)] = fitting
                filled += len(fitting)
                if filled == self._size:
                    yield block
                    block, filled = allocate(self._size), 0
        if filled:
            yield block[:filled]


def _read_span(decoder: Decoder, sample_rate: int, start_s: float, duration_s: float | None) -> np.ndarray:
    """Go to the span, decode it and its margins, resample, cut the margins off."""
    with decoder:
        rate, promised = decoder.info.sample_rate, decoder.info.frames
        first = round(start_s * sample_rate)
        stop = math.inf if duration_s is None else first + round(duration_s * sample_rate)
        margin = 0 if rate == sample_rate else _FILTER * math.ceil(max(1.0, rate / sample_rate))
        before = margin + (_MP3_MEMORY if decoder.source.is_mpeg else 0)
        # Begin at a time that has a sample both in the file and in the result, as at 0.
        step = rate // math.gcd(rate, sample_rate)
        begin = max(0, (first * rate // sample_rate - before) // step * step)
        end = decoder.limit
        if stop < math.inf:
            end = min(end, math.ceil(stop * rate / sample_rate) + margin)
        if begin >= end or stop <= first:
            return np.empty(0, np.float32)
        decoder.seek(begin)
        span = _decode_up_to(decoder, end - begin)
        if promised:
            decoder.check_count(int(min(end, promised)))
    if rate != sample_rate and len(span):
        span = soxr.resample(span, rate, sample_rate)
    skipped = begin * sample_rate // rate
    return span[first - skipped : None if math.isinf(stop) else int(stop) - skipped]


def _decode_up_to(decoder: Decoder, frames: float) -> np.ndarray:
    """The next ``frames``, or the rest if there are fewer: ``(frames,)``."""
    if not math.isinf(frames):
        span = allocate(int(frames))
        return span[: decoder.fill(span)]
    blocks = []
    while not decoder.ended:
        block = allocate(PIECE)
        blocks.append(block[: decoder.fill(block)])
    return np.concatenate(blocks) if blocks else np.empty(0, np.float32)
