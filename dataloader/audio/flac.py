"""FLAC: how many samples do its frames hold, and was a second recording joined to the first?

STREAMINFO may not state the length, or state too little (RFC 9639, 8.2), but every frame states its position in the
recording (9.1). So the last frame, which is found from the end of the file, gives the length without decoding.
"""

import itertools
import re
from typing import NamedTuple

from dataloader.audio.findings import SOUND, Findings

_MARK = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")  # the mark of the file and the head of STREAMINFO, 34 bytes
_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_TAILS = (2**16, 2**20, 2**24)  # the last frames are searched in these bytes at the end; pictures may follow them
_BLOCKS = {1: 192, **{code: 576 << (code - 2) for code in range(2, 6)}, **{n: 256 << (n - 8) for n in range(8, 16)}}


class _Frame(NamedTuple):
    """A frame's header."""

    number: int  # of the frame, or of its first sample if block sizes vary
    is_variable: bool
    samples: int


def examine_flac(data: bytes) -> Findings:
    """Compare the length in the header with that of the frames.

    Args:
        data: the complete file, as something that can be sliced and searched like bytes.
    """
    marks = [match.start() for match in _MARK.finditer(data)]
    if not marks:
        return SOUND
    promised, block = _stream_info(data, marks[0])
    ends = [*marks[1:], len(data)]
    counts = [_counted(data, mark, end, block) for mark, end in zip(marks, ends, strict=True)]
    frames = sum(counts) if all(counts) else 0
    if len(marks) > 1:
        return Findings(unread="several recordings joined into one", frames=frames, parts=len(marks))
    if promised and frames > promised:
        return Findings(unread="its header counts too few samples", frames=frames)
    return Findings(frames=0 if promised else frames)


def _stream_info(data: bytes, mark: int) -> tuple[int, int]:
    """Samples of the complete recording (0: unknown) and of a block (0: varying), as STREAMINFO states them."""
    info = data[mark + 8 : mark + 42]
    packed = int.from_bytes(info[10:18], "big")  # 20 bits of rate, 3 of channels, 5 of sample size, 36 of samples
    smallest, largest = int.from_bytes(info[:2], "big"), int.from_bytes(info[2:4], "big")
    return packed & (2**36 - 1), largest if smallest == largest else 0


def _counted(data: bytes, begin: int, end: int, block: int) -> int:
    """Samples up to the end of the last frame between two bytes; 0 if no frame is found near the end."""
    for size in _TAILS:
        first = max(begin, end - size)
        frames = [frame for match in _SYNC.finditer(data, first, end) if (frame := _frame(data, match.start()))]
        # Two bytes and a checksum of one byte may occur by chance; two frames in a row hardly.
        for before, last in reversed(list(itertools.pairwise([_Frame(-1, False, 0), *frames]))):
            if _follows(last, before) or (len(frames) == 1 and not last.number):
                start = last.number if last.is_variable else last.number * (block or before.samples)
                return start + last.samples
        if first == begin:
            break
    return 0


def _follows(frame: _Frame, before: _Frame) -> bool:
    step = before.samples if frame.is_variable else 1
    return frame.is_variable == before.is_variable and frame.number == before.number + step and before.number >= 0


def _frame(data: bytes, at: int) -> _Frame | None:
    """The header that begins here; None if there is none (RFC 9639, 9.1)."""
    head = data[at : at + 16]
    if len(head) < 6:
        return None
    block, rate, channels, size = head[2] >> 4, head[2] & 15, head[3] >> 4, head[3] >> 1 & 7
    if block == 0 or rate == 15 or channels > 10 or size == 3 or head[3] & 1:
        return None
    ones = next((n for n in range(8) if not head[4] << n & 0x80), 8)  # as in UTF-8, their number is the number of bytes
    following = max(0, ones - 1)
    if ones in (1, 8) or following + 6 > len(head):
        return None
    number = head[4] & (0x7F >> ones)
    for byte in head[5 : 5 + following]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    position = 5 + following
    if block in (6, 7):
        samples = int.from_bytes(head[position : position + block - 5], "big") + 1
        position += block - 5
    else:
        samples = _BLOCKS[block]
    position += {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if position >= len(head) or _crc8(head[:position]) != head[position]:
        return None
    return _Frame(number, bool(head[1] & 1), samples)


def _crc8(data: bytes) -> int:
    """The checksum of a frame's header: x^8 + x^2 + x + 1, from 0."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc
