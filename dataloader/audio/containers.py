"""Is a sound file complete, and does its header state its full length? Its bytes show this without decoding."""

import contextlib
import functools
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dataloader.audio import adts
from dataloader.audio.chunks import examine_aiff, examine_au, examine_caf, examine_w64, examine_wav
from dataloader.audio.errors import BadRecording
from dataloader.audio.findings import SOUND, Findings
from dataloader.audio.flac import examine_flac
from dataloader.audio.mpeg import behind_id3, examine_mpeg
from dataloader.audio.ogg import examine_ogg
from dataloader.audio.signatures import kind_of_sound, what_else

_REMEMBERED = 2**16  # files whose findings are kept in memory, because many windows are read from each file
_W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb"


def examine(path: Path | str) -> Findings:
    """The findings about the end of a file. In most formats only the beginning and the end are read.

    The findings are kept in memory while the size and time of the file stay the same.

    Raises:
        BadRecording: there is no such file, the system refuses to read it, it has no bytes, or it is known to hold
            something other than sound.
    """
    try:
        stat = os.stat(path)
        return _examine(os.fspath(path), stat.st_size, stat.st_mtime_ns)
    except FileNotFoundError:
        raise BadRecording("missing", "no such file") from None
    except OSError as error:
        raise BadRecording("unreadable", error.strerror or str(error)) from None


@functools.lru_cache(maxsize=_REMEMBERED)
def _examine(path: str, size: int, mtime_ns: int) -> Findings:
    with open(path, "rb") as file:
        if not size and not (size := file.seek(0, os.SEEK_END)):
            raise BadRecording("empty", "the file has 0 bytes")
        file.seek(0)
        magic = file.read(16)
        if magic[:4] == b"OggS":
            with _bytes_of(file) as data:
                return examine_ogg(data)
        if magic[:4] in (b"RIFF", b"RIFX", b"RF64") and magic[8:12] == b"WAVE":
            return _wav(file, size, ">" if magic[:4] == b"RIFX" else "<")
        if magic[:4] == b"FORM" and magic[8:12] in (b"AIFF", b"AIFC"):
            return examine_aiff(file, size)
        if magic[:4] == b"caff":
            return examine_caf(file, size)
        if magic[:12] == _W64:
            return examine_w64(file, size)
        if magic[:4] == b".snd":
            return examine_au(file, size)
        return _flac_or_mpeg(file, path, size, magic)


def _wav(file: BinaryIO, size: int, order: str) -> Findings:
    found, frames = examine_wav(file, size, order)
    if frames is None or found.fault:
        return found
    with _bytes_of(file) as data:
        return examine_mpeg(data, *frames) or found


def _flac_or_mpeg(file: BinaryIO, path: str, size: int, magic: bytes) -> Findings:
    if what := what_else(file):
        raise BadRecording("unreadable", what)
    is_tagged, is_aac = magic[:3] == b"ID3", magic[:2] in adts.MARKS
    is_mpeg = is_tagged or (magic[0] == 0xFF and magic[1:2] >= b"\xe0") or path.lower().endswith((".mp2", ".mp3"))
    if magic[:4] != b"fLaC" and not is_aac and (not is_mpeg or kind_of_sound(path)):
        return SOUND
    with _bytes_of(file) as data:
        begin = behind_id3(data, 0)
        if data[begin : begin + 4] == b"fLaC":
            return examine_flac(data)
        if data[begin : begin + 2] in adts.MARKS:
            return adts.examine_adts(data, begin)
        return examine_mpeg(data, 0, size) or SOUND


@contextlib.contextmanager
def _bytes_of(file: BinaryIO) -> Iterator[bytes | mmap.mmap]:
    """The complete file, which can be sliced like bytes without reading all of it."""
    try:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # some network folders cannot be mapped
        file.seek(0)
        yield file.read()
        return
    with data:
        yield data
