"""The first decoder: libsndfile, for Ogg Vorbis and Opus, FLAC, WAV and its relatives, AIFF, CAF, AU and MP3."""

import io
import os
from pathlib import Path

import numpy as np
import soundfile as sf

from dataloader.audio.errors import BadRecording
from dataloader.audio.findings import Findings

MPEG_SLACK = 2 * 1152  # samples of delay and padding of the encoder, which not every MP3 states
_MPEG_TRIMMED = 3 * 1152  # samples of the frames that a decoder leaves out at most, as the header states
_UNKNOWN = 2**62  # libsndfile's "unknown length" is 2^63 - 1


class DecodeError(Exception):
    """A decoder cannot continue.

    Attributes:
        decoded: samples that were decoded in the call that raised this.
    """

    def __init__(self, message: str, decoded: int = 0):
        super().__init__(message)
        self.decoded = decoded


class SndFile:
    """An open file, decoded by libsndfile.

    Attributes:
        rate: Hz.
        channels: how many.
        promised: samples of each channel that are expected; 0 if their number is unknown.
        is_exact: whether no more samples than these may be read: libsndfile has no more, fills the rest with zeros,
            and fails at a tag after the last frame of a FLAC or MP3.
        slack: samples that may be missing at the end without a fault.
        lost_as: the reason for a bad recording if samples are missing.
        is_mpeg: whether a span needs the frames before it.
        stops_early: whether it would stop before the end of the sound in the file.
        holes: parts that could not be decoded and were skipped; libsndfile does not skip any.

    Raises:
        BadRecording: samples without a header.
        DecodeError: libsndfile refuses the file.
    """

    is_exact = True
    holes = 0

    def __init__(self, path: Path | str, found: Findings):
        # A path in bytes also opens a name that is not UTF-8; Windows needs text.
        name = os.fspath(path) if os.name == "nt" else os.fsencode(path)
        try:
            self._file = _Straight(_Span(path, *found.span) if found.span else name)
        except sf.LibsndfileError as error:
            text = error.error_string.strip(" .")
            wrong = "does not exist" in text  # its message for an MP3 without frames
            raise DecodeError("no frames of an MP3 in it" if wrong else text) from None
        except TypeError:  # soundfile reads *.raw as samples without a header and needs their rate
            raise BadRecording("unreadable", "samples without a header; store them as WAV or FLAC") from None
        self.rate, self.channels = self._file.samplerate, self._file.channels
        self.is_mpeg = self._file.subtype.startswith("MPEG")
        self.lost_as = "hole" if self._file.format == "OGG" else "truncated"  # the end of an Ogg was found before
        self.slack = MPEG_SLACK if self.is_mpeg else 0
        self.stops_early = False
        self.promised = self._file.frames if self._file.frames < _UNKNOWN else 0
        if found.frames and self.is_mpeg:  # libsndfile may have estimated
            self.stops_early = found.frames - self.promised > _MPEG_TRIMMED
            self.promised = min(self.promised, found.frames)
        self.promised = self.promised or found.frames

    def read(self, out: np.ndarray) -> int:
        """Decode into ``out``, ``(frames,)`` or ``(frames, channels)``; fewer than asked for only at the end.

        Raises:
            DecodeError: it failed. For an MP3 it is unknown how far it came, so ``decoded`` is 0.
        """
        before = self._position()
        try:
            return len(self._file.read(out=out))
        except sf.LibsndfileError as error:
            raise DecodeError(error.error_string.strip(" ."), max(0, self._position() - before)) from None

    def _position(self) -> int:
        """The next frame; 0 where libsndfile does not know it: in codings such as G.721 it cannot seek."""
        try:
            return self._file.tell()
        except sf.LibsndfileError:
            return 0

    def seek(self, frame: int) -> int:
        """Go to a frame; return its position.

        Raises:
            DecodeError: it cannot.
        """
        try:
            return self._file.seek(frame)
        except sf.LibsndfileError as error:
            raise DecodeError(str(error)) from None

    def close(self) -> None:
        self._file.close()


class _Straight(sf.SoundFile):
    """A file that is read from its beginning to its end without seeking.

    After each read soundfile seeks to the position that it has counted. Behind a hole in an Ogg that position is
    wrong: some samples come twice, the total is as promised, and the hole is not noticed. soundfile leaves out this
    seek if the file reports that it cannot seek.
    """

    def seekable(self) -> bool:
        return False


class _Span(io.RawIOBase):
    """A range of bytes of a file, which the decoder reads like a complete file."""

    def __init__(self, path: Path | str, begin: int, end: int):
        super().__init__()
        self._file, self._begin, self._size = open(path, "rb"), begin, end - begin  # noqa: SIM115 - closed in close
        self._position = 0
        self.seek(0)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        self._file.seek(self._begin + self._position)
        return self._position

    def readinto(self, buffer: bytearray) -> int:
        left = max(0, self._size - self._position)
        count = self._file.readinto(memoryview(buffer)[:left])
        self._position += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
