"""Is all of a sound file there, or will its end be missing or passed over? Told from outside, before decoding."""

import re
import struct
from typing import BinaryIO


def cut_of(file: BinaryIO, size: int) -> str | None:
    """What is wrong with the end of an Ogg, WAV or MP3 file of ``size`` bytes; None if nothing is seen.

    Ogg: the last page must be complete and carry the end-of-stream flag (RFC 3533, 6). WAV: the data chunk must fit
    in the file, unless its size is one that programs write when they cannot know it, and no samples may follow it
    that it does not count, as where a recorder lost its power. MP3: where the bit rate varies and no header says how
    long the file is, libsndfile takes its length from the first frame's rate and stops too early.
    """
    file.seek(0)
    magic = file.read(12)
    if magic[:4] == b"OggS":
        return _ogg_cut(file, size)
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64") and magic[8:] == b"WAVE":
        return _wav_cut(file, size, ">" if magic[:4] == b"RIFX" else "<")
    if magic[:3] == b"ID3" or _mp3_frame(magic) or not any(magic):
        return _mp3_cut(file)
    return None


_OGG_PAGE = 27 + 255 + 255 * 255  # bytes of the largest page: header, segment table, segments
_OGG_BEGINNING, _OGG_END = 0x02, 0x04  # flags of a stream's first page and of its last


def _ogg_cut(file: BinaryIO, size: int) -> str | None:
    """How an Ogg file's end is wrong; None if it is not."""
    file.seek(0)
    begun = _ogg_streams(file.read(4096))  # all that are heard together begin at the file's beginning
    file.seek(max(0, size - _OGG_PAGE - 1024))  # what taggers put behind the last page is passed over
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if not page.startswith(b"OggS"):
        return "no Ogg page near its end"
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or len(segments) < page[26] or len(page) < 27 + len(segments) + sum(segments):
        return "its last page is incomplete"
    if page[14:18] not in begun:
        return "several recordings joined into one, of which only the first can be read; convert it, as with ffmpeg"
    return None if page[5] & _OGG_END else "its last page is not marked as the end"


def _ogg_streams(head: bytes) -> set[bytes]:
    """Serial numbers of the streams that begin in the first bytes of a file."""
    pages = [head[place.start() :] for place in re.finditer(b"OggS", head)]
    return {page[14:18] for page in pages if len(page) >= 27 and page[5] & _OGG_BEGINNING}


# Sizes of a data chunk that mean "unknown, to the end of the file": ffmpeg and others; sox; arecord.
_WAV_STREAMED = (0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000)
_WAV_CHUNKS = 1000  # more than this before the samples is no WAV worth walking through
_WAV_UNCLOSED = 8  # size of the whole of a file that libsndfile has not closed: it reads such to the end
_WAV_TAG = 65_536  # bytes behind the samples that may be a tag of some kind


def _wav_cut(file: BinaryIO, size: int, order: str) -> str | None:
    """How many bytes of samples a WAV file lacks; None if none."""
    position, large = 12, None
    for _ in range(_WAV_CHUNKS):
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            return "it ends before its samples"
        name, length = struct.unpack(order + "4sI", header)
        if name == b"ds64" and len(sizes := file.read(16)) == 16:  # RF64: sizes of 64 bits
            large = struct.unpack(order + "8xQ", sizes)[0]
        if name == b"data":
            if length in _WAV_STREAMED and not large and (length or _wav_size(file, order) == _WAV_UNCLOSED):
                return None
            length = length if large is None else large
            missing = position + 8 + length - size
            if missing > 0:
                return f"{missing:,} of {length:,} bytes of samples are missing"
            ends = {position + 8 + length, position + 8 + length + length % 2}  # not all programs pad an odd size
            if uncounted := min(_wav_uncounted(file, end, size, order) for end in ends):
                text = "bytes of samples are not counted in its header; convert it: ffmpeg -ignore_length 1"
                return f"{uncounted:,} {text}"
            return None
        position += 8 + length + length % 2
    return None


def _wav_size(file: BinaryIO, order: str) -> int:
    """Bytes of a WAV file behind its first eight, as it says."""
    file.seek(4)
    return struct.unpack(order + "I", file.read(4))[0]


def _wav_uncounted(file: BinaryIO, position: int, size: int, order: str) -> int:
    """Bytes of samples from ``position`` on, behind those that the header counts; 0 where there are none.

    Chunks may stand there, a tag, and the padding of a recorder that takes its room beforehand. But 4 GiB are no
    padding: a size of 32 bits begins anew there.
    """
    for _ in range(_WAV_CHUNKS):
        file.seek(position)
        if len(header := file.read(8)) < 8 or header.startswith(b"ID3"):
            return 0
        name, length = struct.unpack(order + "4sI", header)
        if not all(32 <= byte < 127 for byte in name.removesuffix(b"\0")):
            break
        if position + 8 + length > size:
            if name.endswith(b"\0"):  # two quiet samples look like that
                break
            return 0  # a chunk that is cut off, behind all samples
        position += 8 + length + length % 2
    file.seek(position)
    left = size - position
    padding = left < 2**32 and len(set(file.read(_WAV_TAG))) == 1
    return 0 if left <= _WAV_TAG or padding else left


# Bit rates of layer III in kbit/s by their number, of MPEG 1 and of MPEG 2 and 2.5; its sample rates, of MPEG 1.
_MP3_KBITS = {
    1: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES = (44_100, 48_000, 32_000)
_MP3_SEARCH = 4096  # bytes behind the tags in which a first frame is looked for
_ID3_FOOTER = 0x10  # flag of a tag that ends in ten bytes more
_MP3_HEAD = 200  # bytes of a frame in which the header of a file's length stands


def _mp3_frame(head: bytes) -> tuple[int, int] | None:
    """kbit/s and bytes of the layer III frame that begins here; None if none does (ISO 11172-3, 2.4.2.3)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # the mark of a frame, and layer III
        return None
    version, kbits, rate, padding = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or kbits in (0, 15) or rate == 3:  # reserved, or of no stated rate
        return None
    kbits = _MP3_KBITS[1 if version == 3 else 2][kbits - 1]
    hertz = _MP3_RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    return kbits, (144 if version == 3 else 72) * kbits * 1000 // hertz + padding


def _mp3_cut(file: BinaryIO) -> str | None:
    """Why libsndfile would stop before the end of an MP3 file; None if it would not."""
    position = _mp3_start(file)
    if position is None or any(mark in _at(file, position, _MP3_HEAD) for mark in (b"Xing", b"Info", b"VBRI")):
        return None
    kbits, length = _mp3_frame(_at(file, position, 4))
    while frame := _mp3_frame(_at(file, position := position + length, 4)):
        if frame[0] != kbits:
            return "its bit rate varies and no header says how long it is; convert it, as with ffmpeg"
        length = frame[1]
    return None


def _mp3_start(file: BinaryIO) -> int | None:
    """Where the first frame begins that another one follows, behind tags and padding."""
    position = 0
    while len(tag := _at(file, position, 10)) == 10 and tag.startswith(b"ID3"):  # its size is in four times seven bits
        length = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        position += 10 + length + (10 if tag[5] & _ID3_FOOTER else 0)
    near = _at(file, position, _MP3_SEARCH)
    for begin in range(position, position + len(near)):
        frame = _mp3_frame(near[begin - position :][:4])
        if frame and _mp3_frame(_at(file, begin + frame[1], 4)):
            return begin
    return None


def _at(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)
