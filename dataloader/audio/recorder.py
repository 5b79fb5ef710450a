"""What did the recorder write about a recording: when, where, with what device, and how much slowed down?

This is in the name of the file (AudioMoth's hexadecimal time, Song Meter's names, dates in several forms) and in the
file itself: GUANO (by the package ``guano``), the ``wamd`` chunk of Wildlife Acoustics, the comment of AudioMoth, the
Broadcast Wave chunk, and the comments of a FLAC. The file has priority over its name.
"""

import contextlib
import os
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import BinaryIO

_OPENED = (".wav", ".rf64", ".flac")  # the endings of files to which recorders write metadata
_THREADS = 8  # threads that read headers, because each waits on a network folder
_AT_ONCE = 64  # files that a thread reads before it asks for more
_MOST_CHUNKS = 100
_MOST_BYTES = 2**20  # bytes of a chunk that are read
# For AudioMoth's hexadecimal times.
_EARLIEST, _LATEST = datetime(2014, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Written:
    """What is known about one recording; a field that is unknown has its default.

    Attributes:
        recorded_at: when it began, ISO 8601 (``2022-05-02T07:59:22+10:00``), with the time zone if it is known.
        site: name of the place, or of the station.
        device: make, model and serial number.
        time_expansion: how many times slower the file plays than the original sound.
    """

    recorded_at: str = ""
    site: str = ""
    device: str = ""
    time_expansion: float = 1.0

    def or_else(self, other: "Written") -> "Written":
        """This, with unknown fields taken from ``other``."""
        default = astuple(Written())
        pairs = zip(astuple(self), astuple(other), default, strict=True)
        return Written(*(own if own != unknown else theirs for own, theirs, unknown in pairs))


COLUMNS = tuple(field.name for field in fields(Written))


def recorder_columns(paths: Sequence[str | Path]) -> dict[str, list]:
    """The columns ``recorded_at``, ``site``, ``device``, ``time_expansion`` of a table of recordings, in its order.

    If a file is missing or damaged, only its name is used. A few hundred bytes of each WAV and FLAC are read.
    """
    paths = list(paths)
    batches = [paths[first : first + _AT_ONCE] for first in range(0, len(paths), _AT_ONCE)]
    with ThreadPoolExecutor(_THREADS) as pool:
        rows = [row for found in pool.map(_all_of, batches) for row in found]
    return {column: [getattr(row, column) for row in rows] for column in COLUMNS}


def _all_of(paths: Sequence[str | Path]) -> list[Written]:
    return list(map(what_the_recorder_wrote, paths))


def what_the_recorder_wrote(path: Path | str) -> Written:
    """What a file and its name contain about the recording. Only WAV and FLAC files are opened."""
    known = Written()
    if not os.fspath(path).lower().endswith(_OPENED):
        return from_name(os.path.basename(path))
    with contextlib.suppress(OSError, struct.error), open(path, "rb") as file:
        for written in _in_file(file):
            known = known.or_else(written)
    return known.or_else(from_name(os.path.basename(path)))


# Names

_NAME_TIME = re.compile(
    r"(?<!\d)(?P<year>19\d\d|20\d\d)(?P<dash>[-.]?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)[T_$ -]"
    r"(?P<hour>\d\d)(?P<colon>[-.:h_]?)(?P<minute>\d\d)(?:(?P=colon)(?P<second>\d\d))?"
    r"(?P<zone>Z|[+-](?:0\d|1[0-4]):?(?:00|15|30|45))?(?!\d)"
)
_SONG_METER = re.compile(r"(?:S4[AUM]|SMM|SMU|SMA|SM[234]|2M[AMU])\w*\d{3,}", re.IGNORECASE)
_CHANNELS = re.compile(r"_(?:[01]\+[01]|[01AB]|-)$")  # a Song Meter writes this between its prefix and the date
_PLACE = re.compile(r"[\[(_ ]*[-+]?\d{1,2}\.\d+[ ,_]+[-+]?\d{1,3}\.\d+[\])_ ]*")  # latitude and longitude
_BLANKS = re.compile(r"^[_ -]+|[_ -]+$")


def from_name(name: str) -> Written:
    """What the name of a file contains, with or without its folder: the time, and the site before or after it."""
    stem, ending = os.path.splitext(os.path.basename(name))
    if re.fullmatch(r"[0-9A-Fa-f]{8}", stem) and ending.lower() == ".wav":
        at = datetime.fromtimestamp(int(stem, 16), UTC)
        return Written(at.isoformat(), device="AudioMoth") if _EARLIEST < at < _LATEST else Written()
    for found in _NAME_TIME.finditer(stem):
        numbers = [int(found[unit] or 0) for unit in ("year", "month", "day", "hour", "minute", "second")]
        with contextlib.suppress(ValueError):  # a number that is not a date
            at = datetime(*numbers, tzinfo=_zone(found["zone"] or ""))
            before, after = _CHANNELS.sub("", stem[: found.start()].rstrip("_ ")), stem[found.end() :]
            site = _BLANKS.sub("", _PLACE.sub(" ", before)) or _site_after(after)
            device = f"Song Meter {before}" if _SONG_METER.fullmatch(before) else ""
            return Written(at.isoformat(), site, device)
    return Written()


def _site_after(text: str) -> str:
    """The site in the text after the time: ``_Minjerribah-Dry-B_1088507``; a number is not a site."""
    words = [_BLANKS.sub("", word) for word in _PLACE.sub(" ", text).split("_")]
    return " ".join(word for word in words if word and not word.isdecimal())


def _zone(text: str) -> timezone | None:
    """The time zone of ``Z``, ``+1000`` or ``-03:30``; None if there is none."""
    if not text:
        return None
    hours, minutes = (0, 0) if text == "Z" else (int(text[1:3]), int(text[-2:]))
    return timezone((-1 if text[0] == "-" else 1) * timedelta(hours=hours, minutes=minutes))


# Files


def _in_file(file: BinaryIO) -> Iterator[Written]:
    """What each kind of metadata in a file contains, the most reliable first."""
    magic = file.read(12)
    if magic[:4] in (b"RIFF", b"RF64") and magic[8:] == b"WAVE":
        chunks = dict(_wav_chunks(file))
        readers = {b"guan": _guano, b"wamd": _wamd, b"LIST": _audiomoth, b"bext": _broadcast_wave}
        yield from (read(chunks[name]) for name, read in readers.items() if name in chunks)
    elif magic[:4] == b"fLaC":
        yield _flac_comments(_flac_comment_block(file))


def _wav_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of the chunks without samples. Not every program pads a chunk of an odd length."""
    size, position = os.fstat(file.fileno()).st_size, 12
    for _ in range(_MOST_CHUNKS):
        file.seek(position)
        if len(header := file.read(8)) < 8:
            return
        name, length = struct.unpack("<4sI", header)
        if name in (b"guan", b"wamd", b"LIST", b"bext"):
            yield name, file.read(min(length, _MOST_BYTES))
        position += 8 + length
        if length % 2:
            file.seek(position)
            position += not file.read(4).isalpha()  # if a name follows immediately, the chunk is not padded
        if position >= size:
            return


def _guano(chunk: bytes) -> Written:
    import guano

    try:
        metadata = guano.GuanoFile.from_string(chunk.decode("utf-8", "replace"), strict=False)
    except (ValueError, KeyError, IndexError, TypeError):  # it is not GUANO, though it has that name
        return Written()
    at, device = metadata.get("Timestamp"), _joined(metadata.get(key) for key in ("Make", "Model", "Serial"))
    site = metadata.get("Site") or metadata.get("Site Name") or metadata.get("WA|Song Meter|Prefix") or ""
    recorded_at = at.isoformat() if isinstance(at, datetime) else ""
    return Written(recorded_at, str(site), device, _expansion(metadata.get("TE")))


def _wamd(chunk: bytes) -> Written:
    """Wildlife Acoustics' metadata: entries of a number (2 bytes), a length (4) and a content, little-endian."""
    entries, position = {}, 0
    while position + 6 <= len(chunk):
        number, length = struct.unpack_from("<HI", chunk, position)
        entries.setdefault(number, chunk[position + 6 : position + 6 + length])
        position += 6 + length
    text = {number: content.decode("utf-8", "replace").strip("\0 ") for number, content in entries.items()}
    model, serial, name, start, expansion = 0x01, 0x02, 0x04, 0x05, 0x0F
    factor = int.from_bytes(entries.get(expansion, b"")[:2], "little")
    device = _joined(map(text.get, (model, serial)))
    return Written(_time(text.get(start, "")), text.get(name, ""), device, _expansion(factor))


_RECORDED = re.compile(
    r"Recorded at (\d\d):(\d\d):(\d\d)(?:\.\d+)? (\d\d)/(\d\d)/(\d{4}) \(UTC(?:([+-])(\d{1,2})(?::?(\d\d))?)?\)"
)
_BY = re.compile(r"AudioMoth ([0-9A-F]{16})")


def _audiomoth(chunk: bytes) -> Written:
    """The comment of an AudioMoth: ``Recorded at 04:00:00 02/05/2021 (UTC+10) by AudioMoth 247AA5075E06337D at``."""
    text = chunk.decode("latin-1").replace("\0", " ")
    found, by = _RECORDED.search(text), _BY.search(text)
    device = f"AudioMoth {by[1]}" if by else ""
    if not found:
        return Written(device=device)
    hour, minute, second, day, month, year, sign, hours, minutes = found.groups()
    zone = _zone(f"{sign}{int(hours):02d}{minutes or '00'}") if sign else UTC
    with contextlib.suppress(ValueError):
        at = datetime(*map(int, (year, month, day, hour, minute, second)), tzinfo=zone)
        return Written(at.isoformat(), device=device)
    return Written(device=device)


def _broadcast_wave(chunk: bytes) -> Written:
    """EBU Tech 3285: originator at byte 256, date at 320, time at 330."""
    originator = chunk[256:288].decode("latin-1").strip("\0 ")
    text = chunk[320:338].decode("latin-1").replace("\0", " ")
    at = _time(f"{text[:10].replace(':', '-').replace('_', '-')} {text[10:18].replace('-', ':').replace('_', ':')}")
    return Written(at, device=originator)


def _flac_comment_block(file: BinaryIO) -> bytes:
    file.seek(4)
    for _ in range(_MOST_CHUNKS):
        if len(header := file.read(4)) < 4:
            break
        kind, length = header[0] & 0x7F, int.from_bytes(header[1:], "big")
        if kind == 4:
            return file.read(min(length, _MOST_BYTES))
        if header[0] & 0x80:
            break
        file.seek(length, os.SEEK_CUR)
    return b""


def _flac_comments(block: bytes) -> Written:
    """Vorbis comments as Frontier Labs' recorders write them (RecordingStart, SensorUid), or GUANO's fields."""
    comments: dict[str, str] = {}
    if len(block) >= 8:
        vendor = struct.unpack_from("<I", block)[0]
        comments["vendor"] = block[4 : 4 + vendor].decode("utf-8", "replace").strip("\0 ")
        position = 8 + vendor
        while position + 4 <= len(block):
            length = struct.unpack_from("<I", block, position)[0]
            key, _, value = block[position + 4 : position + 4 + length].decode("utf-8", "replace").partition("=")
            comments.setdefault(key.lower(), value.strip("\0 \r\n\t"))
            position += 4 + length
    make = comments["vendor"] if comments.get("sensoruid") else comments.get("make")
    device = _joined((make, comments.get("model"), comments.get("sensoruid") or comments.get("serial")))
    return Written(
        _time(comments.get("recordingstart") or comments.get("timestamp") or ""), comments.get("site", ""), device
    )


def _time(text: str) -> str:
    """The time in ISO 8601, from a text of a similar form; empty if it is not a time."""
    with contextlib.suppress(ValueError):
        at = datetime.fromisoformat(text.strip())
        return at.replace(microsecond=0).isoformat() if at.year > 1980 else ""
    return ""


def _joined(words: Iterable[str | None]) -> str:
    return " ".join(str(word).strip() for word in words if word)


def _expansion(value: object) -> float:
    """A time expansion; 1 if there is none or it is impossible."""
    try:
        factor = float(str(value))
    except ValueError:
        return 1.0
    return factor if 1.0 <= factor <= 1000.0 else 1.0
