"""Ogg Vorbis, Opus and FLAC: is the last page there, and was a second recording joined to the first?

Each page states its own length, whether it is the first or the last of its stream, and how many samples end with it
(RFC 3533, 6). So the pages show the length of a recording without decoding it.
"""

import re
import struct

from dataloader.audio.findings import SOUND, Findings, truncated

_PAGE = 27 + 255 + 255 * 255  # bytes of the largest page: header, segment table, segments
_FIRST_PAGE = re.compile(rb"OggS\0[\x02\x06]")  # of a stream; a flag of 4: also the last
_LAST = 0x04  # flag of a stream's last page
_JOINED = "several recordings joined into one"
_OPUS_RATE = 48_000  # Hz, in which Opus counts whatever the rate of the recording was


def examine_ogg(data: bytes) -> Findings:
    """The last page must be complete and carry the end-of-stream flag, and no other recording may begin before it.

    Args:
        data: the complete file, as something that can be sliced and searched like bytes.
    """
    tail = data[max(0, len(data) - _PAGE - 1024) :]  # tags after the last page are skipped
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if not page.startswith(b"OggS"):
        return truncated("no Ogg page near its end")
    if len(page) < 27 or len(page) < _length(page):
        return truncated("its last page is incomplete")
    if not page[5] & _LAST:
        return truncated("its last page is not marked as the end")
    firsts = [found.start() for found in _FIRST_PAGE.finditer(data)]
    if page[14:18] not in {data[at + 14 : at + 18] for at in firsts}:  # serial numbers: the last stream never began
        return Findings(unread=_JOINED, parts=2)
    begins = _begins(data, firsts)
    if len(begins) == 1:
        return SOUND
    lengths = [_rate_and_samples(data, *span) for span in zip(begins, [*begins[1:], len(data)], strict=True)]
    rate, frames = lengths[0][0], 0
    if all(samples > 0 for _, samples in lengths):
        frames = round(sum(samples * rate / own for own, samples in lengths))  # all at the rate of the first
    return Findings(unread=_JOINED, frames=frames, parts=len(begins))


def _length(page: bytes) -> int:
    """Bytes of the page that begins here."""
    return 27 + page[26] + sum(page[27 : 27 + page[26]])


def _begins(data: bytes, firsts: list[int]) -> list[int]:
    """The byte at which each of the joined recordings begins: the first pages of all its streams follow one another."""
    begins, end = [], -1
    for at in firsts:
        if at != end:
            begins.append(at)
        end = at + _length(data[at : at + _PAGE])
    return begins


def _rate_and_samples(data: bytes, begin: int, end: int) -> tuple[int, int]:
    """Hz and samples of the recording between two bytes; 1 and 0 if they are not known."""
    head = data[begin : begin + 128]
    content = head[27 + head[26] :]
    last = data[max(begin, data.rfind(b"OggS", begin, end)) :][:27]
    if len(last) < 27 or last[14:18] != head[14:18]:  # several streams sound together
        return 1, 0
    (samples,) = struct.unpack("<q", last[6:14])
    if content.startswith(b"\x01vorbis"):
        return struct.unpack("<I", content[12:16])[0] or 1, samples
    if content.startswith(b"OpusHead"):
        return _OPUS_RATE, samples - struct.unpack("<H", content[10:12])[0]
    if content.startswith(b"\x7fFLAC"):  # then 9 bytes, and STREAMINFO, whose rate has 20 bits
        return int.from_bytes(content[27:30], "big") >> 4 or 1, samples
    return 1, 0
