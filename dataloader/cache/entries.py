"""How is the cache stored? The key of the settings, the format of the entries, and the index of recordings.

An entry is ``<output_dir>/<key>/<label>/<recording>.npy``, which numpy can read: float16,
``(n_mels, frames)``, Fortran order. More follows after the array, where numpy does not read, so that one
rename writes all of it or nothing::

    mean  (n_mels,) float32, dB      band statistics: dB = value * scale + mean
    scale (n_mels,) float32, dB
    footer                           see Footer; its checksum covers every byte before it

The index (``recordings.csv``) only saves opening each entry. If it does not list an entry, the entry is
found, compared with its recording and used.
"""

import csv
import errno
import hashlib
import io
import itertools
import json
import logging
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.errors import DataError
from utils.files import keep_text, whole, write_text
from utils.settings import CHOOSES_WINDOWS, DataProcess

log = logging.getLogger(__name__)

FORMAT = 1  # of an entry; if the meaning of its bytes changes, every key changes
INDEX = "recordings.csv"
SETTINGS = "settings.json"
BAD = "bad_recordings.csv"
DUPLICATES = "duplicates.csv"

HEADER = 128  # bytes before the array
_MAGIC = b"melcache"
_FOOTER = struct.Struct("<8s16sQQIII")  # little-endian on every machine


class Footer(NamedTuple):
    """What an entry holds about itself and about its recording."""

    digest: bytes  # 16 bytes, of the content of the recording
    size: int  # of the recording, bytes
    source_frames: int  # its length in samples, before resampling
    source_rate: int  # Hz
    frames: int  # of the spectrogram
    checksum: int  # CRC-32 of every byte before it


class DamagedEntry(DataError):  # noqa: N818 - named for the entry
    """An entry of the cache has changed since it was written, and must be made again."""


def cache_key(process: DataProcess) -> str:
    """The key of the settings: 16 hexadecimal digits, the same on every machine.

    It is a hash of the format number and of the typed values that change the arrays. So ``5`` and ``5.0`` give the
    same key, and the window length does not change it.
    """
    return key_of(cache_settings(process))


def key_of(settings: Mapping[str, object]) -> str:
    """The key of any kind of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def settings_text(settings: Mapping[str, object]) -> str:
    """The settings of a key as readable text, for ``settings.json`` beside the entries."""
    return json.dumps(settings, indent=2) + "\n"


def cache_settings(process: DataProcess) -> dict[str, object]:
    """All settings that change the spectrograms."""
    values = {name: value for name, value in asdict(process).items() if name not in CHOOSES_WINDOWS}
    return {"format": FORMAT, **values}


def content_digest(path: Path | str) -> bytes:
    """A digest of a file's content, 16 bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def entry_name(filename: str) -> str:
    """The entry of ``<label>/<recording>.<ending>`` in the folder of a key: ``<label>/<recording>.npy``."""
    return os.path.splitext(filename)[0] + ".npy"


def entry_path(folder: Path, filename: str) -> Path:
    """The path of the entry of a recording."""
    return folder / entry_name(filename)


def write_entry(
    path: Path, blocks: Iterable[np.ndarray], shape: tuple[int, int], mean: np.ndarray, scale: np.ndarray,
    footer: Footer,
) -> int:  # fmt: skip
    """Write an entry, completely or not at all, and return its size in bytes.

    Args:
        blocks: ``(frames, n_mels)`` float16 each, C order: the array from its first frame to its last.
        shape: ``(n_mels, frames)`` of all blocks together.
        footer: its ``checksum`` is computed here.
    """
    with whole(path, durable=False) as temporary, open(temporary, "wb") as file:
        checksum = 0
        for piece in itertools.chain([_header(shape)], blocks, [mean.astype("<f4"), scale.astype("<f4")]):
            checksum = zlib.crc32(piece, checksum)
            file.write(piece)
        start = _FOOTER.pack(_MAGIC, *footer._replace(checksum=0))[:-4]
        file.write(start + struct.pack("<I", zlib.crc32(start, checksum)))
        return file.tell()


def _header(shape: tuple[int, int]) -> bytes:
    """The .npy header of an entry; it always has ``HEADER`` bytes, so that windows are found without reading it."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f2", "fortran_order": True, "shape": shape})
    assert header.tell() == HEADER, header.tell()
    return header.getvalue()


def read_window(path: str, n_mels: int, frames: int, first: int, out: np.ndarray) -> np.ndarray:
    """Read a window of an entry, and the statistics of its bands.

    If the recording ends within the window, it is repeated from its beginning until the window is full.

    Args:
        n_mels, frames: of the entry, as the index states them.
        first: first frame of the window.
        out: ``(window frames, n_mels)`` float16, C order; the window is read into it without a copy.

    Returns:
        Mean and scale ``(2, n_mels)`` float32, dB: ``dB = value * scale + mean``.

    Raises:
        DamagedEntry: the entry has not the size that the index states.
    """
    frame_bytes = 2 * n_mels
    to_end = min(len(out), frames - first)
    once = min(len(out), frames)  # frames that are read; the rest of the window repeats them
    with open(path, "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size != entry_size(n_mels, frames):
            raise DamagedEntry(
                f"{path}: its size differs from the index; start again, and if another program prepares other "
                "recordings with the same names, give each its own [data] output_dir"
            )
        file.seek(HEADER + first * frame_bytes)
        read = file.readinto(memoryview(out[:to_end]).cast("B"))
        if to_end < once:
            file.seek(HEADER)
            read += file.readinto(memoryview(out[to_end:once]).cast("B"))
        file.seek(HEADER + frames * frame_bytes)
        statistics = file.read(8 * n_mels)
    if read != once * frame_bytes or len(statistics) != 8 * n_mels:
        raise DamagedEntry(f"{path}: truncated while it was read; start again")
    for start in range(once, len(out), once):
        out[start : start + once] = out[: min(once, len(out) - start)]
    return np.frombuffer(statistics, dtype="<f4").reshape(2, n_mels)


def read_footer(path: Path) -> Footer:
    """What an entry holds about its recording; its array is not read.

    Raises:
        DamagedEntry: truncated, or not an entry.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _FOOTER.size))
        data = file.read()
    if len(data) != _FOOTER.size or not data.startswith(_MAGIC):
        raise DamagedEntry(f"{path}: truncated, or not an entry of the cache")
    return Footer(*_FOOTER.unpack(data)[1:])


def check_entry(path: Path) -> Footer:
    """Read every byte of an entry and compare its checksum.

    Raises:
        DamagedEntry: a byte has changed.
    """
    footer = read_footer(path)
    checksum, left = 0, os.path.getsize(path) - 4
    with open(path, "rb") as file:
        while left and (block := file.read(min(left, 1 << 20))):
            checksum = zlib.crc32(block, checksum)
            left -= len(block)
    if checksum != footer.checksum:
        raise DamagedEntry(f"{path}: damaged: a byte has changed since it was written")
    return footer


def band_statistics(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """``(mean, scale)`` of an entry, each ``(n_mels,)`` float32, dB: ``dB = value * scale + mean``.

    Raises:
        DamagedEntry: truncated, or not an entry.
    """
    read_footer(Path(path))
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        (n_mels, frames), _, _ = np.lib.format.read_array_header_1_0(file)
        file.seek(2 * n_mels * frames, os.SEEK_CUR)
        both = np.frombuffer(file.read(8 * n_mels), dtype="<f4")
    return both[:n_mels], both[n_mels:]


def decibels(path: Path | str) -> np.ndarray:
    """The spectrogram of an entry in dB re full scale, ``(n_mels, frames)`` float32."""
    mean, scale = band_statistics(path)
    return np.load(path).astype(np.float32) * scale[:, None] + mean[:, None]


def loudness(path: Path | str) -> float:
    """The mean power of an entry over bands and time, dB re full scale."""
    return float(10 * np.log10(np.mean(np.power(10.0, decibels(path) / 10, dtype=np.float32), dtype=np.float64)))


def entry_size(n_mels: int, frames: int) -> int:
    """Bytes of an entry."""
    return HEADER + 2 * n_mels * frames + 8 * n_mels + _FOOTER.size


@dataclass
class Record:
    """A row of the index: a recording's file, and the result of preparing it."""

    filename: str  # <label>/<recording>.<ending>, as in the table
    size: int  # bytes
    mtime_ns: int
    digest: str  # hexadecimal
    source_rate: int  # Hz
    source_frames: int  # its length in samples
    frames: int  # of the spectrogram; 0 for a bad recording
    reason: str = ""  # why it is bad; empty for a good one
    detail: str = ""
    missing: int = 0  # samples that its header states beyond its end, too few to make it bad
    time_expansion: float = 1.0  # with which it was prepared
    reader: str = ""  # ``audio.decoding.reader`` that checked it; empty: an earlier version

    @property
    def seconds(self) -> float:
        return self.source_frames / self.source_rate if self.source_rate else 0.0


_COLUMNS = [field.name for field in fields(Record)]
_OLD_COLUMNS = 9  # of an index written before the last three were added


def _record(row: list[str]) -> Record:
    if len(row) not in (_OLD_COLUMNS, len(_COLUMNS)):
        raise ValueError(f"a row of {len(row)} columns")
    missing, time_expansion, reader = row[_OLD_COLUMNS:] or ("0", "1.0", "")
    values = (row[0], int(row[1]), int(row[2]), row[3], *map(int, row[4:7]), *row[7:_OLD_COLUMNS])
    return Record(*values, int(missing), float(time_expansion), reader)


def read_index(folder: Path) -> dict[str, Record]:
    """The index of a cache folder by filename; empty if there is none or it cannot be read."""
    try:
        with open(folder / INDEX, encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            if next(rows, None) not in (_COLUMNS, _COLUMNS[:_OLD_COLUMNS]):
                return {}
            return {row[0]: _record(row) for row in rows}
    except (FileNotFoundError, ValueError, IndexError, csv.Error):  # it only saves time: without it entries are opened
        return {}


def write_index(folder: Path, records: dict[str, Record]) -> None:
    """Write the index, sorted, completely or not at all."""
    ordered = [records[name] for name in sorted(records)]
    write_text(folder / INDEX, _csv([_COLUMNS, *map(astuple, ordered)]))


def _keep_list(path: Path, text: str) -> None:
    """Write a list for the user; a cache on a read-only disk keeps the list of another data set."""
    try:
        keep_text(path, text)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        log.warning("%s: not updated: %s", path, error.strerror)


def write_bad(folder: Path, bad: Iterable[tuple[str, str, str]]) -> Path:
    """Write ``bad_recordings.csv`` (path, reason, detail) and return its path."""
    _keep_list(folder / BAD, _csv([("path", "reason", "detail"), *sorted(bad)]))
    return folder / BAD


def write_duplicates(folder: Path, duplicates: Iterable[tuple[str, str, str]]) -> Path:
    """Write ``duplicates.csv`` (filename, duplicate_of, rule) and return its path."""
    _keep_list(folder / DUPLICATES, _csv([("filename", "duplicate_of", "rule"), *sorted(duplicates)]))
    return folder / DUPLICATES


def _csv(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
