"""Ogg Vorbis and Opus: is the last page there, and does it belong to the recording that the file begins with?"""

import re
from typing import BinaryIO

from dataloader.audio.findings import SOUND, Findings, truncated

_PAGE = 27 + 255 + 255 * 255  # bytes of the largest page: header, segment table, segments
_BEGINNING, _END = 0x02, 0x04  # flags of a stream's first page and of its last


def examine_ogg(file: BinaryIO, size: int) -> Findings:
    """The last page must be complete and carry the end-of-stream flag (RFC 3533, 6)."""
    file.seek(0)
    begun = _streams(file.read(4096))  # all streams of one recording begin at the beginning of the file
    file.seek(max(0, size - _PAGE - 1024))  # tags after the last page are skipped
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if not page.startswith(b"OggS"):
        return truncated("no Ogg page near its end")
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or len(segments) < page[26] or len(page) < 27 + len(segments) + sum(segments):
        return truncated("its last page is incomplete")
    if not page[5] & _END:
        return truncated("its last page is not marked as the end")
    if page[14:18] not in begun:
        return Findings(unread="several recordings joined into one", parts=2)
    return SOUND


def _streams(head: bytes) -> set[bytes]:
    """Serial numbers of the streams that begin in the first bytes of a file."""
    pages = [head[found.start() :] for found in re.finditer(b"OggS", head)]
    return {page[14:18] for page in pages if len(page) >= 27 and page[5] & _BEGINNING}
