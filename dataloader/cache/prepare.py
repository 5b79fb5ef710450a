"""How does a worker make the cache entry of a recording? It keeps nothing from one recording to the next."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from dataloader.audio.containers import examine
from dataloader.audio.decoding import AudioStream, BadRecording
from dataloader.audio.verdicts import length_holds, reader
from dataloader.cache.entries import (
    DamagedEntry,
    Footer,
    Record,
    cache_key,
    cache_settings,
    content_digest,
    entry_path,
    entry_size,
    read_footer,
    write_entry,
)
from dataloader.cache.spectrogram import BandStatistics, MelSpectrogram
from utils.settings import DataProcess

_BLOCK_S = 30.0  # seconds decoded and transformed at once
# Frames of a recording that are kept in memory (20 MB at 128 mels); the others are kept on the disk.
_IN_MEMORY = 40_000


@dataclass(frozen=True)
class Job:
    """A recording to prepare."""

    filename: str  # <label>/<recording>.<ending>
    path: str  # of the recording
    digest: str = ""  # of its content, hexadecimal, if it is already known
    time_expansion: float = 1.0  # see ``AudioStream``


class Stage(Protocol):
    """What is computed from recordings and cached: spectrograms, or the embeddings of an encoder. Picklable.

    Attributes:
        what: its name in messages.
        n_features: the numbers of one frame.
    """

    what: str
    n_features: int

    def key(self) -> str: ...  # the key of the settings, and the name of the folder
    def settings(self) -> dict[str, object]: ...  # the settings of the key
    def frames(self, seconds: float) -> int: ...  # of a recording of this length, approximately
    def make(self, job: Job, path: Path, digest: bytes, size: int) -> Footer: ...  # writes an entry
    def warnings(self, records: Sequence[Record]) -> Iterator[str]: ...  # about good recordings, a line each


def prepare(job: Job, folder: Path, stage: Stage) -> Record:
    """Make the entry of a recording, unless there is one of the same content.

    Args:
        folder: the cache folder of the key.
        stage: makes the entry.

    Returns:
        The row of the index; ``reason`` is set for a bad recording, which has no entry.

    Raises:
        OSError: the cache cannot be written (no space, no permission).
    """
    record = Record(job.filename, 0, 0, "", 0, 0, 0, time_expansion=job.time_expansion, reader=reader())
    try:
        stat = os.stat(job.path)
        digest = bytes.fromhex(job.digest) or content_digest(job.path)
    except OSError as error:
        record.reason = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
        record.detail = error.strerror or str(error)
        return record
    record.size, record.mtime_ns, record.digest = stat.st_size, stat.st_mtime_ns, digest.hex()
    path = entry_path(folder, job.filename)
    try:
        made = _existing(job, path, digest, stage) or stage.make(job, path, digest, stat.st_size)
        record.missing = examine(job.path).missing
    except BadRecording as bad:
        path.unlink(missing_ok=True)  # the entry of a good recording that was replaced by a bad one
        record.reason, record.detail = bad.reason, bad.detail
        return record
    record.source_rate, record.source_frames, record.frames = made.source_rate, made.source_frames, made.frames
    return record


def _existing(job: Job, path: Path, digest: bytes, stage: Stage) -> Footer | None:
    """The footer of an existing entry of the same content and length; None if there is none.

    Raises:
        BadRecording: there is one, which an earlier version of this program should not have made.
    """
    try:
        footer = read_footer(path)
    except (FileNotFoundError, DamagedEntry):
        return None
    if footer.digest != digest or os.path.getsize(path) != entry_size(stage.n_features, footer.frames):
        return None
    holds = length_holds(job.path, footer.source_frames, footer.source_rate, job.time_expansion)
    return footer if holds else None


class Spectrograms:
    """The stage that makes log-mel spectrograms, with the settings of a [data_process] section."""

    what = "spectrograms"

    def __init__(self, process: DataProcess):
        self.process, self.n_features = process, process.n_mels
        self._mel: MelSpectrogram | None = None

    def key(self) -> str:
        return cache_key(self.process)

    def settings(self) -> dict[str, object]:
        return cache_settings(self.process)

    def frames(self, seconds: float) -> int:
        return int(seconds * self.process.sample_rate / self.process.hop_length)

    def warnings(self, records: Sequence[Record]) -> Iterator[str]:
        return iter(())  # --check --audio reports recordings with no sound up to [data_process] f_max

    def ready(self) -> "Spectrograms":
        """This stage after computing its filters, ready to be sent to the workers."""
        self._mel = self._mel or MelSpectrogram(self.process)
        return self

    def make(self, job: Job, path: Path, digest: bytes, size: int) -> Footer:
        """Write the entry of a recording.

        Raises:
            BadRecording: it cannot be used.
        """
        mel, process = self.ready()._mel, self.process
        stream = AudioStream(
            job.path, process.sample_rate, _BLOCK_S, max_s=process.max_recording_s, time_expansion=job.time_expansion
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        statistics = BandStatistics()
        with _Frames(path.parent, process.n_mels) as frames:
            for block in mel.blocks(stream):
                statistics.add(block)
                frames.append(block)
            if len(frames) < 2:  # a single frame has no standard deviation
                raise BadRecording("too_short", f"{stream.decoded} samples")
            mean, scale = statistics.mean_and_scale(process)
            footer = Footer(digest, size, stream.length, stream.info.sample_rate, len(frames), 0)
            standardised = (_standardised(block, mean, scale) for block in frames)
            write_entry(path, standardised, (process.n_mels, len(frames)), mean, scale, footer)
        return footer


def _standardised(block: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """``(frames, n_mels)`` float16 from dB; ``block`` is overwritten."""
    block -= mean
    block /= scale
    return torch.from_numpy(block).half().numpy()  # numpy takes twenty times as long to convert to float16


class _Frames:
    """Stores the dB frames of a recording until its statistics are known, because a night does not fit in memory."""

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
        """Add ``(frames, n_mels)``."""
        if self._file is None and self._held + len(block) <= _IN_MEMORY:
            self._blocks.append(block)
            self._held += len(block)
            return
        if self._file is None:  # a file without a name disappears with the process, however that ends
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        self._file.write(block)
        self._spilled += len(block)

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from self._blocks
        if self._file is not None:
            self._file.seek(0)
            while data := self._file.read(4 * self._n_mels * 4096):
                yield np.frombuffer(bytearray(data), dtype=np.float32).reshape(-1, self._n_mels)
