"""How does a file become a mono float32 waveform, whole, a span of it or in blocks, and what may be wrong with it?

libsndfile decodes Ogg Vorbis and Opus, FLAC, WAV and its relatives, AIFF, CAF and MP3 (``sndfile``); FFmpeg, if the
package ``av`` is installed, what libsndfile cannot open or would cut short (``ffmpeg``); soxr resamples.
``AudioStream`` needs the same memory for a night as for a call; ``read_audio`` gives one array. A truncated Ogg
decodes without an error, a damaged one is skipped through in silence, and a header may count less than the file
holds, so all of that is looked for: see ``containers`` and ``AudioStream``.
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

__all__ = ["ENDINGS", "READER", "REASONS", "AudioInfo", "AudioStream", "BadRecording", "audio_info", "read_audio"]

READER = "2"  # the version of these verdicts and lengths; a new one makes the cache judge all recordings again, once

_PIECE = 2**18  # frames decoded at once: 8 s at 32 kHz; what an MP3 loses at most where its decoder gives up
_SILENT = 1e-5  # span of the samples, full scale 1: a third of a step of 16 bits, so no 16-bit sound is below it
_LOUDEST = 1e10  # above any whole number stored as float (2^31); its power still is a finite float32
_MP3_MEMORY = 10 * 1152  # frames before a span from which an MP3 decoder has what it needs of the past
_LOWEST_RATE = 1000  # Hz; a damaged header with less would make minutes of sound of each sample
_FILTER = 256  # frames beside a span that the resampler looks at, times the ratio when going down
_UNSTATED_S = 60  # seconds of a block where all is asked for and no length is known


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says.

    Attributes:
        sample_rate: Hz.
        channels: how many.
        frames: samples of each channel that it promises; 0 if it makes no promise.
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
    """What judges recordings here: the version, and ``+av`` where the second decoder is installed."""
    return f"{READER}+av" if HAS_FFMPEG else READER


def verdict_holds(by: str, *, is_good: bool) -> bool:
    """Whether a verdict is what it would be today.

    Args:
        by: the ``reader`` that gave it; empty: an earlier version.
        is_good: what it was. A recording that is bad without the second decoder may be good with it.
    """
    version, _, optional = by.partition("+")
    return version == READER and (is_good or bool(optional) or not HAS_FFMPEG)


def length_holds(path: Path | str, frames: int, sample_rate: int, *, time_expansion: float = 1.0) -> bool:
    """Whether a length found by an earlier version is what would be found today. Nothing is decoded.

    Args:
        frames: samples of each channel.
        sample_rate: Hz, of the file, with the time expansion.

    Raises:
        BadRecording: the recording is bad, as far as its bytes tell without decoding.
    """
    source, problem = _open(path)
    source.close()
    if problem:
        raise problem
    info = _info(source, time_expansion)
    off = abs(frames - info.frames) if info.frames else 0
    return info.sample_rate == sample_rate and off <= source.slack


def resampled_length(frames: int, from_rate: int, to_rate: int) -> int:
    """Samples that ``frames`` become: ``frames * to_rate / from_rate``, a half rounded up, as soxr does."""
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
        strict: refuse what is damaged; otherwise give what decodes. See ``AudioStream``.
        time_expansion: see ``AudioStream``; all times are those of the real sound.

    Returns:
        ``(samples,)``, float32, full scale 1. The whole has ``resampled_length`` samples, a span
        ``round(duration_s * sample_rate)``, or fewer where the recording ends before.

    Raises:
        BadRecording: as ``AudioStream`` says. Of a span only what is read is judged: it may be silent,
            and it does not matter whether the file's end is there.
        ValueError: a negative time.
    """
    if start_s < 0 or (duration_s is not None and duration_s < 0):
        raise ValueError(f"expected times of at least 0 s, got start_s {start_s:g} and duration_s {duration_s}")
    if start_s > 0 or duration_s is not None:
        return _read_span(_Decoder(path, strict, time_expansion, whole=False), sample_rate, start_s, duration_s)
    blocks = list(AudioStream(path, sample_rate, None, strict=strict, time_expansion=time_expansion))
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.float32), *blocks])


class AudioStream(Iterator[np.ndarray]):
    """The mean of a recording's channels, block by block; the blocks joined are the whole, bit for bit.

    It can be iterated once. Every block is an array of its own, ``(samples,)``, float32, of
    ``round(block_s * sample_rate)`` samples; only the last may be shorter. An empty recording has no blocks.

    Faults are looked for in three steps. First the bytes of the file are examined (``containers.examine``). While
    it is decoded, ``truncated`` or ``hole`` means that the decoder gives up or gives fewer samples than were promised
    (of an MP3 up to 2304 may be missing, which is padding; in an Ogg, whose end was seen, it is a hole), and
    ``not_finite`` that values are no sound. At the end, ``empty`` or ``silent`` may follow. So the verdict is final
    once the last block has been taken.

    Args:
        sample_rate: Hz of the blocks.
        block_s: seconds a block; None: all that the header promises in one.
        max_s: seconds read; 0: all. It is the beginning of the whole, and only what is read is judged.
        strict: raise on what is wrong, for training data. Otherwise, for prediction, give what decodes,
            with silence in place of what is not finite, and keep what strict would have raised first in ``problem``.
        time_expansion: how many times slower the file plays than the sound was; a bat detector's file of 44,100 Hz
            with an expansion of 10 holds sound of 441,000 Hz. All rates and times here are those of the real sound.

    Attributes:
        info: what the header says, with the rate of the real sound.
        problem: what is wrong so far; None if nothing is.
        decoded: samples of each channel decoded so far, at the file's own rate.

    Raises:
        BadRecording: on making it, strict or not, if nothing can be decoded (missing, unreadable, empty);
            if strict, then and on taking a block, whatever is wrong.
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
        """Samples of each channel in the whole recording, as far as is known by now, at the file's own rate."""
        all_came = self._decoder.ended and not self._decoder.source.is_exact
        return self.decoded if all_came else max(self.decoded, self.info.frames)

    def __next__(self) -> np.ndarray:
        return next(self._blocks)

    def _limited(self) -> Iterator[np.ndarray]:
        """The blocks up to ``max_s``; then the judgement."""
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
        """Blocks at the file's own rate: decoded straight into the array that is given away."""
        while not self._decoder.ended:
            block = _allocate(self._size)
            filled = self._decoder.fill(block)
            if filled:
                yield block[:filled]

    def _resampled(self) -> Iterator[np.ndarray]:
        """Blocks at another rate: each is filled from what the resampler gives, which comes as it likes."""
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


def whole_or_reason(path: Path | str) -> BadRecording | None:
    """Look from outside whether a recording's end is there (``containers.examine``); nothing is decoded.

    Of most formats only the beginning and the end are read; of an MP3 the header of every frame.

    Returns:
        What is wrong whatever decodes the file (``missing``, ``unreadable``, ``empty``, ``truncated``, ``hole``);
        None if nothing is seen.
    """
    try:
        fault = examine(path).fault
    except BadRecording as bad:
        return bad
    return BadRecording(*fault) if fault else None


def _open(path: Path | str) -> tuple[SndFile | FFmpegFile, BadRecording | None]:
    """The decoder that reads the most of a file, and what is known to be wrong with it.

    Raises:
        BadRecording: nothing of it can be decoded.
    """
    found = examine(path)
    problem = BadRecording(*found.fault) if found.fault else None
    unread, refused = found.unread, []
    if unread and HAS_FFMPEG and (second := _by_ffmpeg(path, found, refused)):
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
    if not found.unread and HAS_FFMPEG and (second := _by_ffmpeg(path, found, refused)):
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
    except (MemoryError, ValueError):  # ValueError: more than there are addresses
        raise BadRecording("unreadable", f"its header promises {size:,} samples, more than fit in memory") from None


class _Decoder:
    """An open file that gives mono samples and notes what is wrong with them.

    Attributes:
        info: what is known of the file before decoding.
        position: frame that is decoded next.
        ended: there is no more.
        problem: the first found; None if nothing is wrong.
    """

    def __init__(self, path: Path | str, strict: bool, time_expansion: float = 1.0, *, whole: bool = True):
        """Open a file; ``whole``: what is wrong with its end matters."""
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
                text = f"its header says {self.info.sample_rate} Hz, which is no rate of sound"
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
        """Go to ``frame``; where the decoder cannot, nothing more comes."""
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
        """Look for the faults that only show at the end."""
        if self.ended:
            self.check_count(self.info.frames)
            if self.source.holes:
                self._refuse(BadRecording("hole", f"{self.source.holes} pieces of it do not decode"))
        if self.position == 0:
            self._refuse(BadRecording("empty", "it holds no samples"))
        elif self._high - self._low < _SILENT:
            self._refuse(BadRecording("silent", f"all its samples lie between {self._low:g} and {self._high:g}"))

    def check_count(self, promised: int) -> None:
        """Compare with the frame that should have been reached; 0: none was promised."""
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
            self._lost(f"the decoder gave up after {at:.2f} s ({error})")
        if self._channels is not None:
            _mean(target[:got], out[:got])
        self.position += got
        if got:
            self._watch(out[:got])
        return got

    def _watch(self, samples: np.ndarray) -> None:
        low, high = float(samples.min()), float(samples.max())
        if not (low >= -_LOUDEST and high <= _LOUDEST):  # so that NaN, of which nothing is true, is caught
            at = self.position / self.info.sample_rate
            self._refuse(BadRecording("not_finite", f"NaN, infinite or absurd values before {at:.2f} s"))
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
    """Mean of ``(frames, channels)`` into ``(frames,)``, channel by channel: numpy is slow along so short an axis."""
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is dealt with later
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
        # Begin where a sample of the file and one of the result fall together, as they do at 0.
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
    """The next ``frames``, or all that are left: ``(frames,)``."""
    if not math.isinf(frames):
        span = _allocate(int(frames))
        return span[: decoder.fill(span)]
    blocks = []
    while not decoder.ended:
        block = _allocate(_PIECE)
        blocks.append(block[: decoder.fill(block)])
    return np.concatenate(blocks) if blocks else np.empty(0, np.float32)
