"""WAV, RF64, W64, AIFF, CAF and AU: does the file hold exactly the samples that its header states?"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from dataloader.audio.findings import SOUND, Findings, truncated

# Sizes of a data chunk that mean "unknown, to the end of the file": FFmpeg and others; SoX; arecord.
_WAV_STREAMED = (0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000)
_MOST_CHUNKS = 1000  # chunks that are read at most; no sound file has more before its samples
_WAV_UNCLOSED = 8  # the size in a file that libsndfile has not closed; libsndfile reads such a file to its end
_WAV_TAG = 65_536  # bytes after the samples that may be a tag of some kind
_NO_SAMPLES = truncated("it ends before its samples")
_JOINED = truncated("several recordings joined into one, of which only the first is read; split it")
_MPEG = (0x0050, 0x0055)  # formats of WAV: layers I and II, layer III
_SMALL_S = 0.010  # seconds; a header of a recorder may count this many too many before the file counts as truncated
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


def _chunks(
    file: BinaryIO, position: int, layout: str, pad: int, *, counts_itself: bool = False
) -> Iterator[tuple[bytes, int, int]]:
    """``(name, length, first byte of the content)`` of each chunk from ``position`` on; the file is at that byte.

    If the file ends before the header of a chunk, the last name is empty.

    Args:
        layout: of a chunk's header, name and length, as ``struct`` has it.
        pad: the content of a chunk is filled up to a multiple of this number of bytes.
        counts_itself: whether the lengths in the file include that of the header.
    """
    size = struct.calcsize(layout)
    for _ in range(_MOST_CHUNKS):
        file.seek(position)
        if len(header := file.read(size)) < size:
            yield b"", 0, position
            return
        name, length = struct.unpack(layout, header)
        length = max(0, length - size) if counts_itself else length
        yield name, length, position + size
        if length < 0:
            return
        position += size + length + -length % pad


def _verdict(
    file: BinaryIO, extent: tuple[int, int, int], bytes_a_second: int, step: int, following: bytes, pad: int = 1
) -> Findings:
    """The findings about samples: are all that their header states there, and does another recording begin after them?

    Args:
        extent: the first byte of the samples, the bytes that the header counts, and the size of the file.
        bytes_a_second, step: of the samples; bytes of one sample of all channels.
        following: the bytes with which another recording would begin.
    """
    begin, length, size = extent
    if begin + length > size:
        return _lacking(begin + length - size, length, bytes_a_second, step)
    return _JOINED if _has_at(file, begin + length + -length % pad, following) else SOUND


def examine_wav(file: BinaryIO, size: int, order: str) -> tuple[Findings, tuple[int, int] | None]:
    """Walk through the chunks of a WAV or RF64 file.

    Args:
        size: of the file, in bytes.
        order: ``<``, or ``>`` for RIFX.

    Returns:
        The findings; and, if the data chunk holds MPEG frames, its first byte and its end.
    """
    large, bytes_a_second, step, coding = None, 0, 1, 0
    for name, length, begin in _chunks(file, 12, order + "4sI", 2):
        if not name:
            return _NO_SAMPLES, None
        if name == b"ds64" and len(sizes := file.read(16)) == 16:  # RF64: sizes of 64 bits
            large = struct.unpack(order + "8xQ", sizes)[0]
        if name == b"fmt " and len(form := file.read(14)) == 14:
            coding, bytes_a_second, step = struct.unpack(order + "H6xIH", form)
        if name == b"data":
            counted = large if large is not None else length
            streamed = length in _WAV_STREAMED and not large
            if streamed and (length or _wav_size(file, order) == _WAV_UNCLOSED):
                counted = size - begin
            frames = (begin, min(size, begin + counted)) if coding in _MPEG else None
            return _wav_data(file, (begin, counted, size), order, (bytes_a_second, step)), frames
    return SOUND, None


def _wav_data(file: BinaryIO, extent: tuple[int, int, int], order: str, rate: tuple[int, int]) -> Findings:
    """The findings about a data chunk.

    Args:
        extent: the first byte of its samples, the bytes that it states, and the size of the file.
        rate: bytes of a second, and of one sample of all channels.
    """
    begin, length, size = extent
    if begin + length > size:
        return _lacking(begin + length - size, length, *rate)
    ends = {begin + length, begin + length + length % 2}  # not all programs pad an odd size
    if any(_has_at(file, end, mark) for end in ends for mark in (b"RIFF", b"RIFX", b"RF64")):
        return _JOINED
    if uncounted := min(_wav_uncounted(file, end, size, order) for end in ends):
        text = "bytes of samples are not counted in its header; convert it: ffmpeg -ignore_length 1"
        return truncated(f"{uncounted:,} {text}")
    return SOUND


def _lacking(missing: int, length: int, bytes_a_second: int, step: int) -> Findings:
    """The findings about a file that ends ``missing`` bytes before the end that its header states.

    Frontier Labs BAR recorders with firmware before 3.00, and a phone app, write the size of the whole file as the
    size of the samples. So the "missing" bytes are those of the header, and no sound is missing.
    """
    if 0 < missing < _SMALL_S * bytes_a_second:
        return Findings(missing=-(-missing // max(1, step)))
    return truncated(f"{missing:,} of {length:,} bytes of samples are missing")


def _has_at(file: BinaryIO, position: int, mark: bytes) -> bool:
    file.seek(position)
    return file.read(len(mark)) == mark


def _wav_size(file: BinaryIO, order: str) -> int:
    """Bytes of a WAV file after the first eight, as its header states them."""
    file.seek(4)
    return struct.unpack(order + "I", file.read(4))[0]


def _wav_uncounted(file: BinaryIO, position: int, size: int, order: str) -> int:
    """Bytes of samples from ``position`` on, after those that the header states; 0 if there are none.

    There may be chunks, a tag, or the padding of a recorder that reserves space beforehand. But 4 GiB are not padding:
    then a size of 32 bits has started again from 0.
    """
    for name, length, begin in _chunks(file, position, order + "4sI", 2):
        if not name or name.startswith(b"ID3"):
            return 0
        if not all(32 <= byte < 127 for byte in name.removesuffix(b"\0")):
            break
        if begin + length > size:
            if name.endswith(b"\0"):  # two quiet samples would have these bytes
                break
            return 0  # a truncated chunk after all samples
        position = begin + length + length % 2
    file.seek(position)
    left = size - position
    padding = left < 2**32 and len(set(file.read(_WAV_TAG))) == 1
    return 0 if left <= _WAV_TAG or padding else left


def examine_aiff(file: BinaryIO, size: int) -> Findings:
    """Walk through the chunks of an AIFF or AIFF-C file; all its numbers are big-endian."""
    step, rate = 1, 0.0
    file.seek(4)
    end = 8 + struct.unpack(">I", file.read(4))[0]
    if _has_at(file, end, b"FORM") or _has_at(file, end + 1, b"FORM"):
        return _JOINED
    for name, length, begin in _chunks(file, 12, ">4sI", 2):
        if not name:
            return _NO_SAMPLES
        if name == b"COMM" and len(common := file.read(18)) == 18:
            channels, bits, exponent, mantissa = struct.unpack(">H4xHHQ", common)
            step, rate = channels * -(-bits // 8), mantissa * 2.0 ** ((exponent & 0x7FFF) - 16_446)
        if name == b"SSND":
            return _verdict(file, (begin, length, size), round(rate * step), step, b"FORM", 2)
    return SOUND


def examine_caf(file: BinaryIO, size: int) -> Findings:
    """Walk through the chunks of a Core Audio file; a size of -1 means "to the end of the file"."""
    rate, step = 0.0, 1
    for name, length, begin in _chunks(file, 8, ">4sq", 1):
        if not name:
            return _NO_SAMPLES
        if name == b"desc" and len(form := file.read(20)) == 20:
            rate, step = struct.unpack(">d8xI", form)
        if name == b"data" and length >= 0:
            return _verdict(file, (begin, length, size), round(rate * step), step, b"caff")
    return SOUND


def examine_w64(file: BinaryIO, size: int) -> Findings:
    """Walk through the chunks of a W64 file: names of 16 bytes, and sizes that count their own header of 24."""
    bytes_a_second, step = 0, 1
    for name, length, begin in _chunks(file, 40, "<16sQ", 8, counts_itself=True):
        if not name:
            return _NO_SAMPLES
        if name.startswith(b"fmt ") and len(form := file.read(14)) == 14:
            bytes_a_second, step = struct.unpack("<8xIH", form)
        if name == _W64_DATA:
            return _verdict(file, (begin, length, size), bytes_a_second, step, b"riff\x2e\x91\xcf\x11", 8)
    return SOUND


def examine_au(file: BinaryIO, size: int) -> Findings:
    """Compare the size in the header of an AU file; 2^32 - 1 means unknown."""
    file.seek(0)
    if len(header := file.read(24)) < 24:
        return _NO_SAMPLES
    _, offset, length, coding, rate, channels = struct.unpack(">4s5I", header)
    step = channels * {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8}.get(coding, 1)
    if length == 0xFFFFFFFF:
        return SOUND
    return _verdict(file, (offset, length, size), rate * step, step, b".snd")
