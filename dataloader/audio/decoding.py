"""How does a file become a mono float32 waveform, whole, a span of it or in blocks, and what may be wrong with it?

Ogg Vorbis and Opus, FLAC, WAV and MP3, decoded by libsndfile, resampled by soxr. ``AudioStream`` needs the
same memory for a night as for a call; ``read_audio`` gives one array. A truncated Ogg decodes without an
error, and a damaged one skips without a word, so both are looked for: see ``whole_or_reason`` and ``AudioStream``.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from dataloader.audio.containers import cut_of

ENDINGS = (".flac", ".mp3", ".ogg", ".opus", ".wav")  # of recordings that are looked for in a folder

REASONS = (
    "missing",  # no such file
    "unreadable",  # not a recording, or the system refuses it
    "empty",  # no bytes or no samples
    "truncated",  # the end is not there
    "hole",  # the end is there, and samples between are not
    "silent",  # nothing but zeros, or one constant value
    "not_finite",  # NaN, infinity, or beyond anything that is sound
    "too_short",  # told by the caller, who knows how long is long enough
    "crashed",  # told by the caller, whose worker died on it
)

_PIECE = 2**18  # frames decoded at once: 8 s at 32 kHz; what an MP3 loses at most where its decoder gives up
_SILENT = 1e-5  # span of the samples, full scale 1: a third of a step of 16 bits, so no 16-bit sound is below it
_LOUDEST = 1e10  # above any whole number stored as float (2^31); its power still is a finite float32
_MP3_FRAMES = 2 * 1152  # encoder delay and padding, which not every MP3 states
_MP3_MEMORY = 10 * 1152  # frames before a span from which an MP3 decoder has what it needs of the past
_LOWEST_RATE = 1000  # Hz; a damaged header with less would make minutes of sound of each sample
_FILTER = 256  # frames beside a span that the resampler looks at, times the ratio when going down


class BadRecording(Exception):  # noqa: N818 - it names what it is, and is caught rather than shown
    """A recording that cannot be used; the message is ``reason: detail``, and the caller names the file.

    Attributes:
        reason: one of ``REASONS``.
        detail: what was found, for a person.
    """

    def __init__(self, reason: str, detail: str):
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is none of {', '.join(REASONS)}")
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


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


def audio_info(path: Path | str) -> AudioInfo:
    """Read a recording's header.

    Raises:
        BadRecording: it cannot be opened: missing, empty, truncated or unreadable.
    """
    with _open(path) as file:
        return _info(file)


def resampled_length(frames: int, from_rate: int, to_rate: int) -> int:
    """Samples that ``frames`` become: ``frames * to_rate / from_rate``, a half rounded up, as soxr does."""
    return (2 * frames * to_rate + from_rate) // (2 * from_rate)


def read_audio(
    path: Path | str, sample_rate: int, *, start_s: float = 0.0, duration_s: float | None = None, strict: bool = True
) -> np.ndarray:
    """Read a recording, or a span of it, as the mean of its channels.

    A span is what the same span of the whole is: exactly at the file's own rate (of an MP3 within 1e-6 of
    full scale), within 2e-6 when resampled. Only the span is decoded, with a margin for the resampler.

    Args:
        sample_rate: Hz of the result.
        start_s: where the span begins, in seconds.
        duration_s: its length; None: to the end.
        strict: refuse what is damaged; otherwise give what decodes. See ``AudioStream``.

    Returns:
        ``(samples,)``, float32, full scale 1. The whole has ``resampled_length`` samples, a span
        ``round(duration_s * sample_rate)``, or fewer where the recording ends before.

    Raises:
        BadRecording: as ``AudioStream`` says. Of a span only what is read is judged: it may be silent,
            and whether the file's end is there is not asked.
        ValueError: a negative time.
    """
    if start_s < 0 or (duration_s is not None and duration_s < 0):
        raise ValueError(f"expected times of at least 0 s, got start_s {start_s:g} and duration_s {duration_s}")
    if start_s > 0 or duration_s is not None:
        return _read_span(path, sample_rate, start_s, duration_s, strict)
    blocks = list(AudioStream(path, sample_rate, None, strict=strict))
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.float32), *blocks])


class AudioStream(Iterator[np.ndarray]):
    """The mean of a recording's channels, block by block; the blocks joined are the whole, bit for bit.

    It can be gone through once. Every block is an array of its own, ``(samples,)``, float32, with
    ``round(block_s * sample_rate)`` samples but the last, and none if the recording is empty.

    What is wrong: ``whole_or_reason`` is asked first. Then, as it is decoded: ``truncated`` or ``hole`` (the
    decoder gives up, or gives fewer samples than the header promises; of an MP3 up to 2304 may be missing, which
    is padding; an Ogg has a hole, as its end was seen), ``not_finite``, and at the end ``empty`` or ``silent``.
    So the last word is said when the last block has been taken.

    Args:
        sample_rate: Hz of the blocks.
        block_s: seconds a block; None: all that the header promises in one.
        max_s: seconds read; 0: all. It is the beginning of the whole, and only what is read is judged.
        strict: raise on what is wrong, for training data. Otherwise, for prediction, give what decodes,
            with silence in place of what is not finite, and keep what strict would have raised first in ``problem``.

    Attributes:
        info: what the header says.
        problem: what is wrong so far; None if nothing is.
        decoded: samples of each channel decoded so far, at the file's own rate.

    Raises:
        BadRecording: on making it, strict or not, if nothing can be decoded (missing, unreadable, empty);
            if strict, then and on taking a block, whatever is wrong.
    """

    def __init__(
        self, path: Path | str, sample_rate: int, block_s: float | None, *, max_s: float = 0.0, strict: bool = True
    ):
        problem = whole_or_reason(path)
        if problem and strict:
            raise problem
        self._decoder = _Decoder(path, strict, problem)
        self.info = self._decoder.info
        if block_s is None:
            promised = resampled_length(self.info.frames, self.info.sample_rate, sample_rate)
            self._size = promised or 60 * sample_rate
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

    def __next__(self) -> np.ndarray:
        return next(self._blocks)

    def _limited(self) -> Iterator[np.ndarray]:
        """The blocks up to ``max_s``; then the judgement."""
        given = 0
        with self._decoder.file:
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
    """Look from outside whether a recording's end is there (``containers.cut_of``); nothing is decoded.

    At most 65 KiB are read, but for an MP3 without a header of its length, whose every frame is looked at.
    FLAC and most MP3 have no mark at their end: only decoding tells (``AudioStream``).

    Returns:
        What is wrong (``missing``, ``unreadable``, ``empty``, ``truncated``); None if nothing is seen.
    """
    try:
        with open(path, "rb") as file:
            if not (size := file.seek(0, os.SEEK_END)):
                return BadRecording("empty", "the file has 0 bytes")
            cut = cut_of(file, size)
            return BadRecording("truncated", cut) if cut else None
    except FileNotFoundError:
        return BadRecording("missing", "no such file")
    except OSError as error:
        return BadRecording("unreadable", error.strerror or str(error))


class _SoundFile(sf.SoundFile):
    """A file that is read straight on.

    soundfile seeks after each read to where it believes to be. Behind a hole in an Ogg that is another place: samples
    come twice, as many in all as promised, and the hole is not seen. It does not where it believes it cannot.
    """

    def seekable(self) -> bool:
        return False


def _open(path: Path | str) -> _SoundFile:
    # As bytes, a name that is not UTF-8 opens too; Windows wants text.
    name = os.fspath(path) if os.name == "nt" else os.fsencode(path)
    try:
        return _SoundFile(name)
    except sf.LibsndfileError as error:
        raise whole_or_reason(path) or BadRecording("unreadable", f"not ogg, flac, wav or mp3 ({error})") from None
    except TypeError:  # soundfile takes *.raw for samples without a header and asks for their rate
        raise whole_or_reason(path) or BadRecording("unreadable", "raw samples; store them as wav or flac") from None


def _info(file: sf.SoundFile) -> AudioInfo:
    promised = file.frames if file.frames < 2**62 else 0  # libsndfile's "unknown" is 2^63 - 1
    return AudioInfo(file.samplerate, file.channels, promised)


def _allocate(size: int) -> np.ndarray:
    try:
        return np.empty(size, np.float32)
    except (MemoryError, ValueError):  # ValueError: more than there are addresses
        raise BadRecording("unreadable", f"its header promises {size:,} samples, more than fit in memory") from None


class _Decoder:
    """An open file that gives mono samples and watches what is wrong with them.

    Attributes:
        file: to be closed by the user.
        position: frame that is decoded next.
        ended: there is no more.
        problem: the first found; None if nothing is wrong.
    """

    def __init__(self, path: Path | str, strict: bool, problem: BadRecording | None = None):
        self.file = _open(path)
        self.info = _info(self.file)
        if self.info.sample_rate < _LOWEST_RATE:
            self.file.close()
            raise BadRecording("unreadable", f"its header says {self.info.sample_rate} Hz, which is no rate of sound")
        self.problem = problem
        self.position = 0
        self.ended = False
        self._strict = strict
        self._low, self._high = math.inf, -math.inf
        self._channels = np.empty((_PIECE, self.info.channels), np.float32) if self.info.channels > 1 else None

    def seek(self, frame: int) -> None:
        """Go to ``frame``; where the decoder cannot, nothing more comes."""
        try:
            self.position = self.file.seek(frame)
        except sf.LibsndfileError as error:
            self.ended = True
            self._lost(f"the decoder cannot go to {frame / self.info.sample_rate:.2f} s ({error})")

    def fill(self, out: np.ndarray) -> int:
        """Decode the next ``len(out)`` frames into ``out``, ``(frames,)``; return how many there were."""
        filled = 0
        # Not one frame more than promised is asked for: libsndfile has no more, zeroes what it cannot fill,
        # and of a FLAC stumbles over a tag behind the last one.
        wanted = min(len(out), (self.info.frames or math.inf) - self.position)
        while filled < wanted and not self.ended:
            piece = out[filled : min(filled + _PIECE, wanted)]
            got = self._decode(piece)
            self.ended = got < len(piece)
            filled += got
        self.ended |= self.position == self.info.frames
        return filled

    def judge(self) -> None:
        """Say what can only be said at the end."""
        if self.ended:
            self.check_count(self.info.frames)
        if self.position == 0:
            self._refuse("empty", "it holds no samples")
        elif self._high - self._low < _SILENT:
            self._refuse("silent", f"all its samples lie between {self._low:g} and {self._high:g}")

    def check_count(self, promised: int) -> None:
        """Compare with the frame that should have been reached; 0: none was promised."""
        lost = promised - self.position
        if lost > (_MP3_FRAMES if self.file.format == "MP3" else 0):
            self._lost(f"{lost / self.info.sample_rate:.2f} of {promised / self.info.sample_rate:.2f} s are missing")

    def _decode(self, out: np.ndarray) -> int:
        """Decode at most ``_PIECE`` frames."""
        target = out if self._channels is None else self._channels[: len(out)]
        try:
            got = len(self.file.read(out=target))
        except sf.LibsndfileError as error:
            got = max(0, self.file.tell() - self.position)  # decoded before the error; of an MP3 it is not known: 0
            at = (self.position + got) / self.info.sample_rate
            self._lost(f"the decoder gave up after {at:.2f} s ({error.error_string.strip(' .')})")
        if self._channels is not None:
            _mean(target[:got], out[:got])
        self.position += got
        if got:
            self._watch(out[:got])
        return got

    def _watch(self, samples: np.ndarray) -> None:
        low, high = float(samples.min()), float(samples.max())
        if not (low >= -_LOUDEST and high <= _LOUDEST):  # so that NaN, of which nothing is true, is caught
            self._refuse("not_finite", f"NaN, infinite or absurd before {self.position / self.info.sample_rate:.2f} s")
            samples[~(np.abs(samples) <= _LOUDEST)] = 0.0
            low, high = float(samples.min()), float(samples.max())
        self._low, self._high = min(self._low, low), max(self._high, high)

    def _lost(self, detail: str) -> None:
        # That an Ogg's end is there was seen before; the others carry no mark at their end.
        self._refuse("hole" if self.file.format == "OGG" else "truncated", detail)

    def _refuse(self, reason: str, detail: str) -> None:
        problem = BadRecording(reason, detail)
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


def _read_span(
    path: Path | str, sample_rate: int, start_s: float, duration_s: float | None, strict: bool
) -> np.ndarray:
    """Seek, decode the span and its margins, resample, cut the margins off."""
    decoder = _Decoder(path, strict)
    rate, promised = decoder.info.sample_rate, decoder.info.frames or math.inf
    first = round(start_s * sample_rate)
    stop = math.inf if duration_s is None else first + round(duration_s * sample_rate)
    margin = 0 if rate == sample_rate else _FILTER * math.ceil(max(1.0, rate / sample_rate))
    before = margin + (_MP3_MEMORY if decoder.file.format == "MP3" else 0)
    # Begin where a sample of the file and one of the result fall together, as they do at 0.
    step = rate // math.gcd(rate, sample_rate)
    begin = max(0, (first * rate // sample_rate - before) // step * step)
    end = min(promised, math.ceil(stop * rate / sample_rate) + margin) if stop < math.inf else promised
    with decoder.file:
        if begin >= end or stop <= first:
            return np.empty(0, np.float32)
        if math.isinf(end):
            raise BadRecording("unreadable", "its header does not say how long it is; name a duration")
        span = _allocate(int(end) - begin)
        decoder.seek(begin)
        span = span[: decoder.fill(span)]
        if decoder.info.frames:
            decoder.check_count(int(end))
    if rate != sample_rate:
        span = soxr.resample(span, rate, sample_rate)
    skipped = begin * sample_rate // rate
    return span[first - skipped : None if math.isinf(stop) else int(stop) - skipped]
