"""The second decoder: FFmpeg, by the optional package ``av``, for files that libsndfile cannot open or would cut short.

It also reads the recordings of telephones (m4a, aac, 3gp, wma, webm). FFmpeg cannot seek exactly, so a span is reached
by decoding from the beginning. This is slower, but its samples are those of the complete recording.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr

from dataloader.audio.findings import Findings
from dataloader.audio.sndfile import MPEG_SLACK, DecodeError

# Containers of sound. Formats that name other files, such as playlists, are not among them.
_FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,caf,eac3,flac,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,ogg,tta,w64,wav,wv"
)  # fmt: skip
_TIMED = {"asf", "caf", "matroska", "mov", "ogg", "tta", "wav", "webm", "wv", "ape", "flac"}  # they state a length
_TIMED_SLACK_S = 0.25  # such a length may differ by this from what is decoded, by the encoder's delay and padding
_FULL_SCALE = {"u1": 128.0, "i2": 2.0**15, "i4": 2.0**31, "i8": 2.0**63}  # for whole numbers, as in libsndfile
_MOST_ERRORS = 1000  # packets that cannot be decoded, after which the rest is not tried


class FFmpegFile:
    """An open file, decoded by FFmpeg; attributes and methods are those of ``sndfile.SndFile``.

    Packets that cannot be decoded are skipped; ``holes`` counts those before the last one that can.

    Raises:
        DecodeError: FFmpeg cannot open it, or cannot decode any of it.
    """

    is_exact = False
    stops_early = False

    def __init__(self, path: Path | str, found: Findings):
        self._path, self._found = path, found
        self.is_mpeg = False  # it always begins at the beginning
        self._open()

    def _open(self) -> None:
        import av

        self._position, self._left = 0, np.empty((1, 0), np.float32)
        self.holes = 0
        self._file = open(self._path, "rb")  # noqa: SIM115 - a name could be taken for a protocol, such as "concat:"
        try:
            self._container = av.open(self._file, metadata_errors="ignore", options={"format_whitelist": _FORMATS})
            if not self._container.streams.audio:
                raise DecodeError("there is no sound in it")
            self._stream = self._container.streams.audio[0]
            self._stream.codec_context.thread_count = 1
            self._frames = self._decoded()
            first = next(self._frames, None)
            if first is None:
                raise DecodeError("nothing of it can be decoded")
        except (av.error.FFmpegError, ValueError, DecodeError) as error:
            self.close()
            message = getattr(error, "strerror", None) or str(error)
            raise DecodeError(message) from None
        self.rate, self._left = first  # the rate that the container states may be wrong
        self.channels = len(self._left)
        self._pieces = self._at_one_rate()
        self._expect()

    def _expect(self) -> None:
        """Set the number of samples that are expected."""
        names, stream, found = set(self._container.format.name.split(",")), self._stream, self._found
        self.lost_as, self.slack = "truncated", round(_TIMED_SLACK_S * self.rate)
        if found.frames:
            coding, self.promised = stream.codec_context.name, found.frames
            if coding.startswith("mp"):
                self.slack = MPEG_SLACK * found.parts
            elif coding == "flac":
                self.slack = 0
        elif names & _TIMED and stream.duration and found.parts == 1:
            self.promised = round(float(stream.duration * stream.time_base) * self.rate)
        elif names & _TIMED and self._container.duration and found.parts == 1:  # in millionths of a second
            self.promised = round(self._container.duration * 1e-6 * self.rate)
        else:
            self.promised = 0

    def read(self, out: np.ndarray) -> int:
        """Decode into ``out``, ``(frames,)`` or ``(frames, channels)``; fewer than asked for only at the end."""
        filled = 0
        while filled < len(out):
            if not self._left.shape[1]:
                self._left = next(self._pieces, self._left)
                if not self._left.shape[1]:
                    break
            new = self._left[:, : len(out) - filled]
            self._left = self._left[:, new.shape[1] :]
            _copy(new, out[filled : filled + new.shape[1]])
            filled += new.shape[1]
        self._position += filled
        return filled

    def seek(self, frame: int) -> int:
        """Go to a frame by decoding everything before it; return the position, at most the end of the file."""
        if frame < self._position:
            self.close()
            self._open()
        skipped = np.empty((min(frame - self._position, 2**16), self.channels), np.float32)
        while self._position < frame:
            wanted = min(len(skipped), frame - self._position)
            if self.read(skipped[:wanted]) < wanted:
                break
        return self._position

    def close(self) -> None:
        with contextlib.suppress(AttributeError):  # it may not have been opened
            self._container.close()
        self._file.close()

    def _at_one_rate(self) -> Iterator[np.ndarray]:
        """``(channels, frames)`` of each piece after the first; joined recordings of other rates are resampled."""
        kind, resampler = (self.rate, self.channels), None
        for rate, samples in self._frames:
            if (rate, len(samples)) != kind:
                if resampler is not None:
                    yield from _resampled(resampler, np.empty((kind[1], 0), np.float32), last=True)
                kind = rate, len(samples)
                resampler = soxr.ResampleStream(rate, self.rate, len(samples)) if rate != self.rate else None
            if resampler is not None:
                yield from _resampled(resampler, samples)
            elif samples.shape[1]:
                yield samples
        if resampler is not None:
            yield from _resampled(resampler, np.empty((kind[1], 0), np.float32), last=True)

    def _decoded(self) -> Iterator[tuple[int, np.ndarray]]:
        """``(Hz, samples (channels, frames))`` of each frame; frames that cannot be decoded are skipped and counted."""
        import av

        packets, errors = self._container.demux(self._stream), 0
        while errors < _MOST_ERRORS:
            try:
                if (packet := next(packets, None)) is None:
                    return
                frames = packet.decode()
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                errors += 1
                continue
            for frame in frames:
                yield frame.sample_rate, _samples(frame)
            if frames and not self._found.frames:  # if frames were counted, their number shows how many are lost
                self.holes += errors
                errors = 0


def _resampled(resampler: soxr.ResampleStream, samples: np.ndarray, *, last: bool = False) -> Iterator[np.ndarray]:
    """The resampled ``(channels, frames)``, if the resampler returns any yet."""
    new = resampler.resample_chunk(np.ascontiguousarray(samples.T), last=last)
    if len(new):
        yield new.reshape(len(new), -1).T


def _samples(frame) -> np.ndarray:
    """``(channels, frames)`` float32, full scale 1, of a decoded frame."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(frame.layout.channels)).T
    kind = samples.dtype.str[1:]
    if kind == "u1":
        samples = samples.astype(np.float32) - 128.0
    if kind in _FULL_SCALE:
        return samples.astype(np.float32) / np.float32(_FULL_SCALE[kind])
    return samples.astype(np.float32, copy=False)


def _copy(samples: np.ndarray, out: np.ndarray) -> None:
    """Copy ``(channels, frames)`` to ``(frames,)`` or ``(frames, channels)``; other channels become their mean."""
    if out.ndim == 1:
        out[:] = samples[0] if len(samples) == 1 else samples.mean(axis=0)
    elif len(samples) == out.shape[1]:
        out[:] = samples.T
    else:  # a joined recording with another number of channels
        out[:] = samples.mean(axis=0)[:, None]
