"""One recording -> one entry of the cache. What a worker does; it holds nothing between two recordings."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dataloader.audio.decoding import AudioStream, BadRecording
from dataloader.cache.entries import (
    DamagedEntry,
    Footer,
    Record,
    content_digest,
    entry_path,
    entry_size,
    read_footer,
    write_entry,
)
from dataloader.cache.spectrogram import BandStatistics, MelSpectrogram

_BLOCK_S = 30.0  # seconds decoded and transformed at once
_IN_MEMORY = 40_000  # frames (20 MB at 128 mels) of a recording kept in memory; the rest waits on the disk


@dataclass(frozen=True)
class Job:
    """A recording to prepare."""

    filename: str  # <label>/<recording>.<ending>
    path: str  # of the recording


def prepare(job: Job, folder: Path, mel: MelSpectrogram) -> Record:
    """Make the entry of a recording, unless the one that is there was made from the same content.

    Args:
        folder: of the cache key.

    Returns:
        What the index needs to know; ``reason`` is set for a bad recording, which gets no entry.

    Raises:
        OSError: the cache cannot be written (no room, no permission).
    """
    try:
        stat = os.stat(job.path)
        digest = content_digest(job.path)
    except OSError as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
        return Record(job.filename, 0, 0, "", 0, 0, 0, reason, error.strerror or str(error))
    path = entry_path(folder, job.filename)
    known = Record(job.filename, stat.st_size, stat.st_mtime_ns, digest.hex(), 0, 0, 0)
    try:
        made = _existing(path, digest, mel) or _make(job.path, path, digest, stat.st_size, mel)
    except BadRecording as bad:
        path.unlink(missing_ok=True)  # of a good recording that a bad one has replaced
        known.reason, known.detail = bad.reason, bad.detail
        return known
    known.source_rate, known.source_frames, known.frames = made.source_rate, made.source_frames, made.frames
    return known


def _existing(path: Path, digest: bytes, mel: MelSpectrogram) -> Footer | None:
    """The footer of an entry made from this very content; None where there is no such entry."""
    try:
        footer = read_footer(path)
    except (FileNotFoundError, DamagedEntry):
        return None
    fits = footer.digest == digest and os.path.getsize(path) == entry_size(mel.process.n_mels, footer.frames)
    return footer if fits else None


def _make(source: str, path: Path, digest: bytes, size: int, mel: MelSpectrogram) -> Footer:
    stream = AudioStream(source, mel.process.sample_rate, _BLOCK_S, max_s=mel.process.max_recording_s)
    path.parent.mkdir(parents=True, exist_ok=True)
    statistics = BandStatistics()
    with _Frames(path.parent, mel.process.n_mels) as frames:
        for block in mel.blocks(stream):
            statistics.add(block)
            frames.append(block)
        if len(frames) < 2:  # a single frame has no deviation
            raise BadRecording("too_short", f"{stream.decoded} samples")
        mean, scale = statistics.mean_and_scale(mel.process)
        footer = Footer(digest, size, max(stream.decoded, stream.info.frames), stream.info.sample_rate, len(frames), 0)
        standardised = (_standardised(block, mean, scale) for block in frames)
        write_entry(path, standardised, (mel.process.n_mels, len(frames)), mean, scale, footer)
    return footer


def _standardised(block: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """``(frames, n_mels)`` float16 from dB; ``block`` is used up."""
    block -= mean
    block /= scale
    return torch.from_numpy(block).half().numpy()  # numpy converts to float16 twenty times slower


class _Frames:
    """The dB frames of a recording until its statistics are known: a night does not fit in memory."""

    def __init__(self, folder: Path, n_mels: int):
        self._folder, self._n_mels = folder, n_mels
        self._blocks: list[np.ndarray] = []
        self._held = self._spilled = 0
        self._file = None

    def __enter__(self) -> "_Frames":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return self._held + self._spilled

    def append(self, block: np.ndarray) -> None:
        """Keep ``(frames, n_mels)`` more."""
        if self._file is None and self._held + len(block) <= _IN_MEMORY:
            self._blocks.append(block)
            self._held += len(block)
            return
        if self._file is None:  # without a name: it vanishes with the process, however that ends
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        self._file.write(block)
        self._spilled += len(block)

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from self._blocks
        if self._file is not None:
            self._file.seek(0)
            while data := self._file.read(4 * self._n_mels * 4096):
                yield np.frombuffer(bytearray(data), dtype=np.float32).reshape(-1, self._n_mels)
