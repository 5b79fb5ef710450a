"""How does a file become a mono float32 waveform, as a whole, a span or in blocks, and which faults are detected?

libsndfile decodes Ogg Vorbis and Opus, FLAC, WAV and its relatives, AIFF, CAF and MP3 (``sndfile``); FFmpeg, if the
package ``av`` is installed, decodes what libsndfile cannot open or would cut short (``ffmpeg``); soxr resamples.
``AudioStream`` needs the same memory for a night as for a call; ``read_audio`` returns one array. A truncated Ogg
decodes without an error, damaged pages are skipped without notice, and a header may state less than the file holds.
``containers`` and ``AudioStream`` check for all of this.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from dataloader.audio.containers import examine
from dataloader.audio.endings import ENDINGS, HAS_FFMPEG
from dataloader.audio.errors import REASONS, BadRecording
from dataloader.audio.ffmpeg import FFmpegFile
from dataloader.audio.findings import Findings
from dataloader.audio.signatures import kind_of_sound
from dataloader.audio.sndfile import DecodeError, SndFile
from utils.errors import counted

__all__ = ["ENDINGS", "READER", "REASONS", "AudioInfo", "AudioStream", "BadRecording", "audio_info", "read_audio"]

READER = "3"  # the version of these checks; with a new one the cache checks all recordings again, once

_PIECE = 2**18  # frames decoded at once: 8 s at 32 kHz; an MP3 loses at most these where its decoder fails
_SILENT = 1e-5  # range of the samples, full scale 1; a third of a step of 16 bits, so no 16-bit sound is below it
_LOUDEST = 1e10  # above any whole number stored as float (2^31); its power is still a finite float32
_MP3_MEMORY = 10 * 1152  # an MP3 decoder needs this many frames before a span
_LOWEST_RATE = 1000  # Hz; with less, from a damaged header, each sample would become minutes of sound
_FILTER = 256  # frames beside a span that the resampler uses, times the ratio when the rate falls
_UNSTATED_S = 60  # seconds of a block if the whole is read and its length is unknown


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a file states.

    Attributes:
        sample_rate: Hz.
        channels: how many.
        frames: samples of each channel; 0 if the header does not state them.
    """

    sample_rate: int
    channels: int
    frames: int


def audio_info(path: Path | str, *, time_expansion: float = 1.0) -> AudioInfo:
    """Read a recording's header.

    Args:
        time_expansion: see ``AudioStream``.

    Raises:
        BadRecording: it cannot be opened: missing, empty, truncated or unreadable.
    """
    source, _ = _open(path)
    try:
        return _info(source, time_expansion)
    finally:
        source.close()


def reader() -> str:
    """The version of the checks, and ``+av`` if the second decoder is installed."""
    return f"{READER}+av" if HAS_FFMPEG else READER


def verdict_holds(by: str, *, is_good: bool) -> bool:
    """Whether an earlier check of a recording would have the same result today.

    Args:
        by: the ``reader`` of that check; empty: an earlier version.
        is_good: its result. A recording that is bad without the second decoder may be good with it.
    """
    version, _, optional = by.partition("+")
    return version == READER and (is_good or bool(optional) or not HAS_FFMPEG)


def length_holds(path: Path | str, frames: int, sample_rate: int, *, time_expansion: float = 1.0) -> bool:
    """Whether a length found by an earlier version would be the same today. Nothing is decoded.

    Args:
        frames: samples of each channel.
        sample_rate: Hz, of the file, with the time expansion.

    Raises:
        BadRecording: the recording is bad, as far as can be seen without decoding it.
    """
    source, problem = _open(path)
    source.close()
    if problem:
        raise problem
    info = _info(source, time_expansion)
    off = abs(frames - info.frames) if info.frames else 0
    return info.sample_rate == sample_rate and off <= source.slack


def resampled_length(frames: int, from_rate: int, to_rate: int) -> int:
    """The number of samples after resampling: ``frames * to_rate / from_rate``, a half rounded up, as soxr does."""
    return (2 * frames * to_rate + from_rate) // (2 * from_rate)


def read_audio(
    path: Path | str, sample_rate: int, *, start_s: float = 0.0, duration_s: float | None = None, strict: bool = True,
    time_expansion: float = 1.0,
) -> np.ndarray:  # fmt: skip
    """Read a recording, or a span of it, as the mean of its channels.

    A span equals the same span of the whole: exactly at the file's own rate (of an MP3 within 1e-6 of full scale),
    within 2e-6 when resampled. libsndfile decodes only the span and a margin for the resampler; FFmpeg decodes from
    the beginning (see ``ffmpeg``).

    Args:
        sample_rate: Hz of the result.
        start_s: where the span begins, in seconds.
        duration_s: its length; None: to the end.
        strict: refuse a damaged recording; otherwise return what can be decoded. See ``AudioStream``.
        time_expansion: see ``AudioStream``; all times are those of the real sound.

    Returns:
        ``(samples,)``, float32, full scale 1. The whole has ``resampled_length`` samples, a span
        ``round(duration_s * sample_rate)``, or fewer where the recording ends before.

    Raises:
        BadRecording: see ``AudioStream``. Of a span only what is read is checked: it may be silent, and the end of
            the file may be missing.
        ValueError: a negative time.
    """
    if start_s < 0 or (duration_s is not None and duration_s < 0):
        raise ValueError(f"expected times of at least 0 s, got start_s {start_s:g} and duration_s {duration_s}")
    if start_s > 0 or duration_s is not None:
        return _read_span(_Decoder(path, strict, time_expansion, whole=False), sample_rate, start_s, duration_s)
    blocks = list(AudioStream(path, sample_rate, None, strict=strict, time_expansion=time_expansion))
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.float32), *blocks])


class AudioStream(Iterator[np.ndarray]):
    """The mean of a recording's channels, block by block; the joined blocks are exactly the whole recording.

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
        self._decoder = _Decoder(path, strict, time_expansion)
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
        """Samples of each channel in the whole recording, as far as is known so far, at the file's own rate."""
        all_came = self._decoder.ended and not self._decoder.source.is_exact
        return self.decoded if all_came else max(self.decoded, self.info.frames)

    def __next__(self) -> np.ndarray:
        return next(self._blocks)

    def _limited(self) -> Iterator[np.ndarray]:
        """The blocks up to ``max_s``; then the last checks."""
        given = 0
        with self._decoder:
            for block in self._resampled() if self._sample_rate != self.info.sample_rate else self._as_stored():
                block = block[: int(min(len(block), self._most - given))]
                given += len(block)
                yield block
                if given >= self._most:
                    break
            self._decoder.judge()

    def _as_stored(self) -> Iterator[np.ndarray]:
        """Blocks at the file's own rate, decoded directly into the array that is returned."""
        while not self._decoder.ended:
            block = _allocate(self._size)
            filled = self._decoder.fill(block)
            if filled:
                yield block[:filled]

    def _resampled(self) -> Iterator[np.ndarray]:
        """Blocks at another rate, filled from the output of the resampler, whose length varies."""
        resampler = soxr.ResampleStream(self.info.sample_rate, self._sample_rate, 1, dtype="float32")
        piece = np.empty(_PIECE, np.float32)
        block, filled = _allocate(self._size), 0
        while not self._decoder.ended:
            got = self._decoder.fill(piece)
            new = resampler.resample_chunk(piece[:got], last=self._decoder.ended)
            while len(new):
                part, new = new[: self._size - filled], new[self._size - filled :]
                block[filled : filled + len(part)] = part
                filled += len(part)
                if filled == self._size:
                    yield block
                    block, filled = _allocate(self._size), 0
        if filled:
            yield block[:filled]


def _open(path: Path | str) -> tuple[SndFile | FFmpegFile, BadRecording | None]:
    """The decoder that reads the most of a file, and the known fault of the file.

    Raises:
        BadRecording: nothing of it can be decoded.
    """
    found = examine(path)
    problem = BadRecording(*found.fault) if found.fault else None
    unread, refused = found.unread, []
    in_parts = unread or found.parts > 1  # behind a tag between its frames libsndfile may find no more
    if in_parts and HAS_FFMPEG and (second := _by_ffmpeg(path, found, refused)):
        return second, problem
    first = None
    try:
        first = SndFile(path, found)
    except DecodeError as error:
        refused.append(str(error))
    if first and first.stops_early and not unread:
        unread = "its bit rate varies and no header says how long it is"
    if first and not unread:
        return first, problem
    if not in_parts and HAS_FFMPEG and (second := _by_ffmpeg(path, found, refused)):
        if first:
            first.close()
        return second, problem
    if not first:
        raise problem or BadRecording("unreadable", _not_readable(path, "; ".join(refused)))
    return first, problem or BadRecording("truncated", _not_whole(unread, first, found.frames))


def _by_ffmpeg(path: Path | str, found: Findings, refused: list[str]) -> FFmpegFile | None:
    """The file opened by FFmpeg; if that cannot, None, and the reason is added to ``refused``."""
    try:
        return FFmpegFile(path, found)
    except DecodeError as error:
        refused.append(str(error))
        return None


def _not_readable(path: Path | str, refused: str) -> str:
    """Why no decoder opens a file, and what to do."""
    kind = kind_of_sound(path)
    if HAS_FFMPEG:
        what = f"{kind}, damaged or cut off" if kind else "not a sound file"
        return f"{what}; neither libsndfile nor FFmpeg can open it ({refused})"
    if kind:
        return f"{kind}; install the package av, which reads it"
    return f"not a sound file that libsndfile knows ({refused}); the package av knows more kinds"


def _not_whole(why: str, first: SndFile, frames: int) -> str:
    """Why only the beginning of a file would be read, and what to do."""
    seconds = f"{first.promised / first.rate:.2f} of {frames / first.rate:.2f} s"
    read = f", so that only {seconds} are read" if frames > first.promised else ""
    return f"{why}{read}; install the package av, which reads all of it, or convert it with ffmpeg"


def _info(source: SndFile | FFmpegFile, time_expansion: float) -> AudioInfo:
    return AudioInfo(round(source.rate * time_expansion), source.channels, source.promised)


def _allocate(size: int) -> np.ndarray:
    try:
        return np.empty(size, np.float32)
    except (MemoryError, ValueError):  # ValueError: more than the address space
        raise BadRecording("unreadable", f"its header states {size:,} samples, more than fit in memory") from None


class _Decoder:
    """An open file that yields mono samples and records its first fault.

    Attributes:
        info: what is known about the file before decoding.
        position: the frame that is decoded next.
        ended: whether all frames have been decoded.
        problem: the first fault; None if there is none.
    """

    def __init__(self, path: Path | str, strict: bool, time_expansion: float = 1.0, *, whole: bool = True):
        """Open a file; ``whole``: a fault at its end matters."""
        self.source, problem = _open(path)
        self.info = _info(self.source, time_expansion)
        self.problem: BadRecording | None = None
        self.position = 0
        self.ended = False
        self._strict = strict
        self._low, self._high = math.inf, -math.inf
        self._channels = np.empty((_PIECE, self.info.channels), np.float32) if self.info.channels > 1 else None
        try:
            if self.info.sample_rate < _LOWEST_RATE:
                text = f"its header states {self.info.sample_rate} Hz, which is too low for sound"
                raise BadRecording("unreadable", text)
            if problem and whole:
                self._refuse(problem)
        except BadRecording:
            self.source.close()
            raise

    def __enter__(self) -> "_Decoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()

    def seek(self, frame: int) -> None:
        """Go to ``frame``; if the decoder cannot, the file counts as ended."""
        try:
            self.position = self.source.seek(frame)
        except DecodeError as error:
            self.ended = True
            self._lost(f"the decoder cannot go to {frame / self.info.sample_rate:.2f} s ({error})")

    def fill(self, out: np.ndarray) -> int:
        """Decode the next ``len(out)`` frames into ``out``, ``(frames,)``; return how many there were."""
        filled, most = 0, self._most()
        wanted = min(len(out), most - self.position)
        while filled < wanted and not self.ended:
            piece = out[filled : min(filled + _PIECE, wanted)]
            got = self._decode(piece)
            self.ended = got < len(piece)
            filled += got
        self.ended |= self.position == most
        return filled

    def judge(self) -> None:
        """Check for the faults that can be detected only at the end."""
        if self.ended:
            self.check_count(self.info.frames)
            if self.source.holes:
                self._refuse(BadRecording("hole", f"{counted(self.source.holes, 'part')} of it cannot be decoded"))
        if self.position == 0:
            self._refuse(BadRecording("empty", "it holds no samples"))
        elif self._high - self._low < _SILENT:
            self._refuse(BadRecording("silent", f"all its samples are between {self._low:g} and {self._high:g}"))

    def check_count(self, promised: int) -> None:
        """Compare the position with the stated number of frames; 0: none was stated."""
        lost = promised - self.position
        if lost > self.source.slack:
            self._lost(f"{lost / self.info.sample_rate:.2f} of {promised / self.info.sample_rate:.2f} s are missing")

    def _most(self) -> float:
        return self.info.frames if self.source.is_exact and self.info.frames else math.inf

    def _decode(self, out: np.ndarray) -> int:
        """Decode at most ``_PIECE`` frames."""
        target = out if self._channels is None else self._channels[: len(out)]
        try:
            got = self.source.read(target)
        except DecodeError as error:
            got = error.decoded
            at = (self.position + got) / self.info.sample_rate
            self._lost(f"the decoder failed after {at:.2f} s ({error})")
        if self._channels is not None:
            _mean(target[:got], out[:got])
        self.position += got
        if got:
            self._watch(out[:got])
        return got

    def _watch(self, samples: np.ndarray) -> None:
        low, high = float(samples.min()), float(samples.max())
        # Written so that NaN is caught, for which every comparison is false.
        if not (low >= -_LOUDEST and high <= _LOUDEST):
            at = self.position / self.info.sample_rate
            self._refuse(BadRecording("not_finite", f"NaN, infinite or far too large values before {at:.2f} s"))
            samples[~(np.abs(samples) <= _LOUDEST)] = 0.0
            low, high = float(samples.min()), float(samples.max())
        self._low, self._high = min(self._low, low), max(self._high, high)

    def _lost(self, detail: str) -> None:
        self._refuse(BadRecording(self.source.lost_as, detail))

    def _refuse(self, problem: BadRecording) -> None:
        if self._strict:
            raise problem
        self.problem = self.problem or problem


def _mean(channels: np.ndarray, out: np.ndarray) -> None:
    """Mean of ``(frames, channels)`` into ``(frames,)``, by channel, as numpy is slow along so short an axis."""
    with np.errstate(invalid="ignore", over="ignore"):  # values that are not finite are handled later
        np.add(channels[:, 0], channels[:, 1], out=out)
        for channel in range(2, channels.shape[1]):
            out += channels[:, channel]
        out *= np.float32(1 / channels.shape[1])


def _read_span(decoder: _Decoder, sample_rate: int, start_s: float, duration_s: float | None) -> np.ndarray:
    """Go to the span, decode it and its margins, resample, cut the margins off."""
    with decoder:
        rate, promised = decoder.info.sample_rate, decoder.info.frames
        limit = promised if promised and decoder.source.is_exact else math.inf
        first = round(start_s * sample_rate)
        stop = math.inf if duration_s is None else first + round(duration_s * sample_rate)
        margin = 0 if rate == sample_rate else _FILTER * math.ceil(max(1.0, rate / sample_rate))
        before = margin + (_MP3_MEMORY if decoder.source.is_mpeg else 0)
        # Begin at a time that has a sample both in the file and in the result, as at 0.
        step = rate // math.gcd(rate, sample_rate)
        begin = max(0, (first * rate // sample_rate - before) // step * step)
        end = min(limit, math.ceil(stop * rate / sample_rate) + margin) if stop < math.inf else limit
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


def _decode_up_to(decoder: _Decoder, frames: float) -> np.ndarray:
    """The next ``frames``, or the rest if there are fewer: ``(frames,)``."""
    if not math.isinf(frames):
        span = _allocate(int(frames))
        return span[: decoder.fill(span)]
    blocks = []
    while not decoder.ended:
        block = _allocate(_PIECE)
        blocks.append(block[: decoder.fill(block)])
    return np.concatenate(blocks) if blocks else np.empty(0, np.float32)
