"""MP3, and MPEG layers I and II: which frames are in a file, and does its header count all of them?

A frame states its own length, so the frames can be followed through a file without decoding (ISO 11172-3, 2.4.1.3
and 2.4.2.3; ISO 13818-3 for the lower rates). Without a length header libsndfile estimates the length of a file from
its size, with tags, and it trusts a length header without checking. So this file counts the frames themselves.
"""

import itertools
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from dataloader.audio.findings import Findings

_RATES = (44_100, 48_000, 32_000)  # Hz, of MPEG 1; MPEG 2 has half of them, MPEG 2.5 a quarter
_KBITS = {  # (version is MPEG 1, layer) -> kbit/s by their number in the header
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAME = 0xFFFE0C00  # bits of a header that are the same in all frames of a stream: mark, version, layer, sample rate
_SYNC = re.compile(rb"\xff[\xe2-\xff]")
_CHAIN = 4  # frames in a row that prove a stream; a mark of two bytes also occurs in pictures by chance
_FIRST_CHAIN = 2  # the same where a frame is expected
_SLACK = 2  # frames by which a count may be wrong: not all encoders count the frame of the header itself
_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"3DI")
_ID3_FOOTER = 0x10  # flag of a tag that has ten more bytes at its end
_ID3V1 = 128  # bytes of a tag at the end of a file, which every decoder knows


class _Stream(NamedTuple):
    """What the header of one frame states about all frames of its stream."""

    same: int  # the bits of ``_SAME``
    is_mono: bool
    rate: int  # Hz
    samples: int  # samples of each channel in a frame
    lengths: tuple[int, ...]  # bytes of a frame by bit rate, sample rate and padding as the header codes them; 0: none


class _Run(NamedTuple):
    """Frames of one stream that follow one another without a gap."""

    stream: _Stream
    begin: int  # byte of the first
    end: int  # the byte after the last complete frame
    frames: int  # frames of sound
    is_headed: bool  # whether a frame that holds a length header and no sound comes first
    promised: int  # frames that this header states; 0 if there is none or it does not state them

    @property
    def samples(self) -> int:
        return self.frames * self.stream.samples


def examine_mpeg(data: bytes, begin: int, end: int) -> Findings | None:
    """Count the frames between two bytes of a file; None if there are none.

    Args:
        data: the complete file, as something that can be sliced and searched like bytes.
    """
    runs = list(_runs(data, begin, end))
    if not runs:
        return None
    first, last = runs[0], runs[-1]
    rate = first.stream.rate
    frames = round(sum(run.samples * rate / run.stream.rate for run in runs))  # all at the rate of the first
    lead = begin if data[begin : begin + 3] == b"ID3" else first.begin
    tail = data[last.end : last.end + 3] == b"TAG" and end - last.end == _ID3V1
    span = None if lead == begin and (last.end == end or tail) else (lead, end if tail else last.end)
    found = Findings(frames=frames, span=span, parts=len(runs))
    if other := next((run.stream.rate for run in runs if run.stream.rate != rate), None):
        return replace(found, unread=f"several recordings joined into one, of {rate} and of {other} Hz")
    promised = first.promised * first.stream.samples
    if gap := _damage(data, runs):
        size, at = gap
        text = f"{size:,} bytes after {at / rate:.2f} s are not sound"
        return replace(found, fault=("hole", text), unread=text, span=(lead, first.end))  # libsndfile stops there
    if promised and promised - frames > _SLACK * first.stream.samples:
        text = f"{(promised - frames) / rate:.2f} of {promised / rate:.2f} s are missing"
        return Findings(fault=("truncated", text), span=span)
    joined = "several recordings joined into one"
    if promised and frames - promised > _SLACK * first.stream.samples:
        parts = sum(1 + _headers_within(data, run) for run in runs)
        return replace(found, unread=joined if parts > 1 else "its header counts too few frames", parts=parts)
    return replace(found, unread=joined) if len({run.stream for run in runs}) > 1 else found


def _stream(head: int) -> _Stream | None:
    """The stream of a frame with this header, four bytes as a number; None if it is not a header."""
    version, layer, rate = head >> 19 & 3, 4 - (head >> 17 & 3), head >> 10 & 3
    if head >> 21 != 0x7FF or version == 1 or layer == 4 or rate == 3:  # there is no mark, or a value is reserved
        return None
    is_first = version == 3
    hertz = _RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    samples = 384 if layer == 1 else 576 if layer == 3 and not is_first else 1152
    slot = 4 if layer == 1 else 1  # bytes that padding adds
    lengths = [0] * 128
    for number, kbits in enumerate(_KBITS[is_first, layer], 1):
        for padding in (0, 1):
            slots = samples // 8 * kbits * 1000 // (hertz * slot) + padding
            lengths[number << 3 | rate << 1 | padding] = slots * slot
    return _Stream(head & _SAME, head >> 6 & 3 == 3, hertz, samples, tuple(lengths))


def _head(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 4], "big")


def _walk(data: bytes, position: int, end: int, stream: _Stream, most: float) -> tuple[int, int]:
    """``(frames, byte after the last)`` of a stream from here on; the last frame may end after ``end``."""
    same, mono, lengths, frames = stream.same, stream.is_mono, stream.lengths, 0
    while position < end and frames < most:
        head = int.from_bytes(data[position : position + 4], "big")
        if head & _SAME != same or (head & 0xC0 == 0xC0) != mono or not (length := lengths[head >> 9 & 0x7F]):
            break
        position += length
        frames += 1
    return frames, position


def _runs(data: bytes, begin: int, end: int) -> Iterator[_Run]:
    """The runs of frames, in order."""
    position = behind_id3(data, begin)
    needed = _FIRST_CHAIN
    while (start := _next_start(data, position, end, needed)) is not None:
        stream = _stream(_head(data, start))
        frames, after = _walk(data, start, end, stream, float("inf"))
        if after > end:  # the last frame is cut off
            frames, after = frames - 1, _walk(data, start, len(data), stream, frames - 1)[1]
        is_headed, promised = _length_header(data, start, stream)
        if frames > 0:
            yield _Run(stream, start, after, frames - is_headed, is_headed, promised)
        if after <= start:
            return
        position = behind_id3(data, after)
        needed = _CHAIN


def _next_start(data: bytes, position: int, end: int, needed: int) -> int | None:
    """Where the next stream begins: at a header that is followed by others."""
    expected = position
    for match in _SYNC.finditer(data, position, end):
        at = match.start()
        if not (stream := _stream(_head(data, at))):
            continue
        frames, after = _walk(data, at, end, stream, _CHAIN)
        at_end = after >= end or data[after : after + 11].startswith(_TAGS)
        if frames >= (needed if at == expected else _CHAIN) or (frames and at_end):
            return at
    return None


def behind_id3(data: bytes, position: int) -> int:
    """The byte after the ID3v2 tags that begin here; their size is stored in four times seven bits."""
    while data[position : position + 3] == b"ID3" and len(tag := data[position : position + 10]) == 10:
        size = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        position += 10 + size + (10 if tag[5] & _ID3_FOOTER else 0)
    return position


def _length_header(data: bytes, start: int, stream: _Stream) -> tuple[bool, int]:
    """Whether the frame holds a length header (Xing, Info, VBRI), and the frames that it states, or 0."""
    frame = data[start : start + 200]
    side = {(1152, False): 32, (1152, True): 17, (576, False): 17, (576, True): 9}.get((stream.samples, stream.is_mono))
    for at in (4 + side, 6 + side) if side else ():  # after a checksum, if there is one
        if frame[at : at + 4] in (b"Xing", b"Info"):
            flags, frames = struct.unpack(">II", frame[at + 4 : at + 12])
            return True, frames if flags & 1 else 0
    if frame[36:40] == b"VBRI":
        return True, struct.unpack(">I", frame[50:54])[0]
    return False, 0


def _headers_within(data: bytes, run: _Run) -> int:
    """How many length headers follow the first frame of a run: from files joined without a tag between them."""
    marks = (found.start() for found in re.finditer(b"Xing|Info|VBRI", data[run.begin + 200 : run.end]))
    starts = (data.rfind(b"\xff", run.begin, run.begin + 200 + at) for at in marks)
    return sum(start > run.begin and _length_header(data, start, run.stream)[0] for start in starts)


def _damage(data: bytes, runs: list[_Run]) -> tuple[int, int] | None:
    """``(bytes, samples before them)`` of the first gap between frames that is not a tag; None if there is none.

    A gap of up to the length of a frame is ignored: the decoder finds the next frame, and at most one is lost.
    """
    samples = 0
    for run, after in itertools.pairwise(runs):
        samples += run.samples
        gap = data[run.end : run.end + 11]
        if after.begin - run.end > max(run.stream.lengths) and not gap.startswith(_TAGS):
            return after.begin - run.end, samples
    return None
