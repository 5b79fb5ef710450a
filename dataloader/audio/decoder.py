"""How is a file opened by the decoder that reads the most of it, and decoded to mono samples while faults are noted?"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataloader.audio import endings
from dataloader.audio.containers import examine
from dataloader.audio.errors import BadRecording
from dataloader.audio.ffmpeg import FFmpegFile
from dataloader.audio.findings import Findings
from dataloader.audio.signatures import kind_of_sound
from dataloader.audio.sndfile import DecodeError, SndFile
from utils.errors import counted

PIECE = 2**18  # frames decoded at once: 8 s at 32 kHz; an MP3 loses at most these where its decoder fails
_SILENT = 1e-5  # range of the samples, full scale 1; a third of a step of 16 bits, so no 16-bit sound is below it
_LOUDEST = 1e10  # above any whole number stored as float (2^31); its power is still a finite float32
_LOWEST_RATE = 1000  # Hz; with less, from a damaged header, each sample would become minutes of sound


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


def open_source(path: Path | str) -> tuple[SndFile | FFmpegFile, BadRecording | None]:
    """The decoder that reads the most of a file, and the known fault of the file.

    Raises:
        BadRecording: nothing of it can be decoded.
    """
    found = examine(path)
    problem = BadRecording(*found.fault) if found.fault else None
    unread, refused = found.unread, []
    joined = unread or found.parts > 1  # after a tag between its frames libsndfile may find no more
    if joined and endings.HAS_FFMPEG and (second := _by_ffmpeg(path, found, refused)):
        return second, problem
    first = None
    try:
        first = SndFile(path, found)
    except DecodeError as error:
        refused.append(str(error))
    if first and first.stops_early and not unread:
        unread = "its bit rate varies and no header states its length"
    if first and not unread:
        return first, problem
    if not joined and endings.HAS_FFMPEG and (second := _by_ffmpeg(path, found, refused)):
        if first:
            first.close()
        return second, problem
    if not first:
        raise problem or BadRecording("unreadable", _not_readable(path, "; ".join(refused)))
    return first, problem or BadRecording("truncated", _cut_short(unread, first, found.frames))


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
    if endings.HAS_FFMPEG:
        what = f"{kind}, damaged or cut off" if kind else "not a sound file"
        return f"{what}; neither libsndfile nor FFmpeg can open it ({refused})"
    if kind:
        return f"{kind}; install the package av, which reads it"
    return f"not a sound file that libsndfile knows ({refused}); the package av knows more kinds"


def _cut_short(why: str, first: SndFile, frames: int) -> str:
    """Why only the beginning of a file would be read, and what to do."""
    seconds = f"{first.promised / first.rate:.2f} of {frames / first.rate:.2f} s"
    read = f", so that only {seconds} are read" if frames > first.promised else ""
    return f"{why}{read}; install the package av, which reads all of it, or convert it with ffmpeg"


def info_of(source: SndFile | FFmpegFile, time_expansion: float) -> AudioInfo:
    return AudioInfo(round(source.rate * time_expansion), source.channels, source.promised)


def allocate(size: int) -> np.ndarray:
    try:
        return np.empty(size, np.float32)
    except (MemoryError, ValueError):  # ValueError: more than the address space
        raise BadRecording("unreadable", f"its header states {size:,} samples, more than fit in memory") from None


class Decoder:
    """An open file that yields mono samples and records its first fault.

    Attributes:
        info: what is known about the file before decoding.
        position: the frame that is decoded next.
        limit: the number of frames that may be decoded; infinite if it is not known.
        ended: whether all frames have been decoded.
        problem: the first fault; None if there is none.
    """

    def __init__(self, path: Path | str, strict: bool, time_expansion: float, *, to_end: bool = True):
        """Open a file; ``to_end``: it will be decoded up to its end, so that a fault there matters."""
        self.source, problem = open_source(path)
        self.info = info_of(self.source, time_expansion)
        self.problem: BadRecording | None = None
        self.limit = self.info.frames if self.source.is_exact and self.info.frames else math.inf
        self.position = 0
        self.ended = False
        self._strict = strict
        self._low, self._high = math.inf, -math.inf
        self._channels = np.empty((PIECE, self.info.channels), np.float32) if self.info.channels > 1 else None
        try:
            if self.info.sample_rate < _LOWEST_RATE:
                text = f"its header states {self.info.sample_rate} Hz, which is too low for sound"
                raise BadRecording("unreadable", text)
            if problem and to_end:
                self._refuse(problem)
        except BadRecording:
            self.source.close()
            raise

    def __enter__(self) -> "Decoder":
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
        filled = 0
        wanted = min(len(out), self.limit - self.position)
        while filled < wanted and not self.ended:
            piece = out[filled : min(filled + PIECE, wanted)]
            got = self._decode(piece)
            self.ended = got < len(piece)
            filled += got
        self.ended |= self.position == self.limit
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

    def _decode(self, out: np.ndarray) -> int:
        """Decode at most ``PIECE`` frames."""
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
