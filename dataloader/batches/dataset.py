"""How does a batch get its windows and targets? They are read from the cache directly into the batch."""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from dataloader.batches.timed import TimedLabels
from dataloader.batches.windows import window_frames
from dataloader.cache.entries import read_window
from utils.command import cannot_start
from utils.errors import DataError, UserError, counted
from utils.interrupt import obey_the_main_process_alone
from utils.settings import DataProcess, Labels
from utils.utils import seed_for

if TYPE_CHECKING:
    import pandas as pd


Drawn = tuple[int, float]  # a row, and where its window starts, from 0 (the first frame) to below 1 (the last)


class Batch(NamedTuple):
    """Some windows and their targets."""

    windows: torch.Tensor  # (batch, frames, n_mels) float16, as cached
    mean: torch.Tensor  # (batch, n_mels) float32, dB: the mean that was subtracted from each band
    scale: torch.Tensor  # (batch, n_mels) float32, dB: the number that it was divided by
    targets: torch.Tensor  # (batch, classes) float32, 1 for each species in the foreground; -1: unknown
    recording: torch.Tensor  # (batch,) int64: row of the metadata

    def to(self, device: torch.device) -> "Batch":
        """The same on ``device``; pinned memory is copied without waiting."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


class WindowDataset(Dataset):
    """The windows of some recordings. A whole batch is read at once: the rows that ``EpochBatches`` draws.

    Args:
        metadata: good recordings: ``entry``, ``frames``, ``labels``, ``filename``.
        windows: rows ``recording``, ``first_frame`` and ``n_frames``, of ``make_windows`` or ``make_segments``:
            windows, or longer segments from which windows are drawn.
        labels: the classes, in the order of the targets.
        rules: what the labels mean in training; None: the targets are those of scoring, 1 and 0.
        min_overlap_s: of [data]: the seconds of an annotation that a window must contain to have its label.

    Attributes:
        targets: ``(recordings, classes)`` float32, of whole recordings; -1: unknown.
        timed: the recordings whose labels have times, so that ``targets_of`` differs from window to window.
    """

    def __init__(
        self, metadata: "pd.DataFrame", windows: "pd.DataFrame", labels: Sequence[str], process: DataProcess,
        rules: Labels | None = None, min_overlap_s: float = 0.25,
    ):  # fmt: skip
        self.filenames = metadata["filename"].tolist()
        self.recording = windows["recording"].to_numpy(np.int64)
        self.entries: list[str] = metadata["entry"].tolist()
        self.frames: list[int] = metadata["frames"].tolist()
        self.length, self.n_mels = window_frames(process), process.n_mels
        self._first = windows["first_frame"].to_numpy(np.int64)
        frames = windows["n_frames"].to_numpy(np.int64)
        # Frames at which a window may start. A window longer than its recording repeats it, from any of its frames.
        self._starts = np.where(frames < self.length, frames, frames - self.length + 1)
        self.targets = target_matrix(metadata["labels"], labels)
        if rules is not None:
            self.targets = training_targets(self.targets, metadata["secondary_labels"], labels, rules)
        self._times = TimedLabels(metadata, labels, min_overlap_s)
        self._frame_s = process.hop_length / process.sample_rate
        self._present = rules.primary_weight if rules else 1.0
        self.timed = self._times.timed
        if rules is not None:
            self._times.mark_not_known(self.targets)

    def __len__(self) -> int:
        return len(self._first)

    @property
    def bytes(self) -> int:
        """Bytes of the spectrograms of all recordings."""
        return 2 * self.n_mels * sum(self.frames)

    def where(self, drawn: Sequence[Drawn]) -> tuple[np.ndarray, np.ndarray]:
        """The recording and the first frame of each window, both ``(batch,)`` int64."""
        rows = np.array([row for row, _ in drawn])
        into = np.array([index for _, index in drawn])
        return self.recording[rows], self._first[rows] + (into * self._starts[rows]).astype(np.int64)

    def targets_of(self, recordings: np.ndarray, firsts: np.ndarray) -> np.ndarray:
        """``(batch, classes)`` float32: the targets of windows that begin at these frames of their recordings."""
        targets = self.targets[recordings]
        for row in np.flatnonzero(self.timed[recordings]):
            recording, first = int(recordings[row]), int(firsts[row])
            span = self._times.span(recording, first, self.length, self.frames[recording], self._frame_s)
            targets[row] = self._times.targets(recording, *span, self._present)
        return targets

    def __getitem__(self, drawn: Sequence[Drawn]) -> Batch:
        windows = np.empty((len(drawn), self.length, self.n_mels), dtype=np.float16)
        statistics = np.empty((2, len(drawn), self.n_mels), dtype=np.float32)
        recordings, firsts = self.where(drawn)
        for index, (recording, first) in enumerate(zip(recordings, firsts.tolist(), strict=True)):
            entry, frames = self.entries[recording], self.frames[recording]
            statistics[:, index] = read_window(entry, self.n_mels, frames, first, windows[index])
        arrays = (windows, *statistics, self.targets_of(recordings, firsts), recordings)
        return Batch(*map(torch.from_numpy, arrays))


def target_matrix(labels_of_rows: Sequence[tuple[str, ...]], labels: Sequence[str]) -> np.ndarray:
    """``(rows, classes)`` float32, 1 where the row has the label."""
    index = {label: index for index, label in enumerate(labels)}
    targets = np.zeros((len(labels_of_rows), len(labels)), dtype=np.float32)
    for row, names in enumerate(labels_of_rows):
        for name in names:
            targets[row, index[name]] = 1.0
    return targets


def training_targets(
    present: np.ndarray, secondary: Sequence[tuple[str, ...]], labels: Sequence[str], rules: Labels
) -> np.ndarray:
    """The targets of training; -1 means unknown, which the losses leave out.

    Args:
        present: ``(rows, classes)``, of ``target_matrix``.
        secondary: the labels in the background of each row; labels that are not classes are left out.
    """
    index = {label: index for index, label in enumerate(labels)}
    of_secondary = {"ignore": 0.0, "mask": -1.0, "soft": rules.secondary_weight, "hard": rules.primary_weight}
    targets = np.zeros_like(present)
    for row, names in enumerate(secondary):
        targets[row, [index[name] for name in names if name in index]] = of_secondary[rules.secondary]
    targets[present > 0] = rules.primary_weight
    return targets


class EpochBatches(Sampler):
    """The rows of each batch of an epoch. They follow from seed, epoch and batch number, so a run can resume anywhere.

    All random numbers of an epoch are drawn here, in the main process, and sent with the rows. So reader processes, the
    copy in GPU memory and a resumed run all use the same windows. Each row has a number from 0 to 1, which gives the
    start of its window.

    With several processes (``world`` of them) each has its own share of every batch. In training the last, smaller
    batch is left out unless it is the only one. No row is lost by this: each epoch has a new order, or begins with the
    rows that the epoch before left out.

    Args:
        batch_size: rows of a batch over all processes together.
        shuffle: a new order in each epoch; else the order of the rows, repeated in training.
        training: leave out the smaller last batch; give every process the same number of batches.
        crop: windows start anywhere in their row; else at its first frame.
        rows_of: the ``n_rows`` rows of an epoch, such as ``Balance.rows``; None: each row once.

    Raises:
        DataError: a process would have no row to train on.
    """

    def __init__(
        self, n_rows: int, batch_size: int, *, seed: int = 0, shuffle: bool = False, training: bool = False,
        crop: bool = False, rows_of: Callable[[int], np.ndarray] | None = None, rank: int = 0, world: int = 1,
    ):  # fmt: skip
        if training and n_rows < world:
            raise DataError(
                f"{counted(n_rows, 'window')} to train on, and {world} processes; start fewer, or add recordings"
            )
        self._crop, self._rows_of = crop, rows_of
        self._n_rows, self._batch_size, self._seed, self._shuffle = n_rows, batch_size, seed, shuffle
        self._training, self._rank, self._world = training, rank, world
        self.epoch, self.first_batch = 1, 0

    def __len__(self) -> int:
        """The number of batches of a whole epoch."""
        if self._training:
            return max(1, self._n_rows // self._batch_size)
        return -(-self._n_rows // self._batch_size)

    def go_to(self, epoch: int, first_batch: int = 0) -> None:
        """Start the next iteration in ``epoch`` (from 1), at ``first_batch``."""
        self.epoch, self.first_batch = epoch, first_batch

    def __iter__(self) -> Iterator[list[Drawn]]:
        drawn = self._epoch()
        for batch in range(self.first_batch, len(self)):
            rows = drawn[batch * self._batch_size : (batch + 1) * self._batch_size]
            # All processes have the same number of rows, because their gradients have the same weight.
            if self._training:
                rows = rows[: len(rows) // self._world * self._world]
            if own := rows[self._rank :: self._world]:
                yield own

    def _epoch(self) -> list[Drawn]:
        """The rows of the whole present epoch, in order."""
        rows = torch.arange(self._n_rows)
        if self._rows_of is not None:
            rows = torch.from_numpy(self._rows_of(self.epoch))
        if self._shuffle:
            rows = rows[torch.randperm(self._n_rows, generator=self._generator("order"))]
        elif self._training:  # continues with the rows that the last epoch left out
            used = len(self) * (min(self._n_rows, self._batch_size) // self._world * self._world)
            rows = rows.roll(-(self.epoch - 1) * used)
        positions = torch.zeros(self._n_rows, dtype=torch.float64)
        if self._crop:
            positions = torch.rand(self._n_rows, generator=self._generator("crop"), dtype=torch.float64)
        return list(zip(rows.tolist(), positions.tolist(), strict=True))

    def _generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(seed_for(self._seed, purpose, self.epoch))


class Loader:
    """Batches of ``dataset`` in the order of ``batches``. Reader processes, if any, stay alive between epochs."""

    def __init__(self, dataset: Dataset, batches: EpochBatches, *, num_workers: int, pin_memory: bool):
        self.dataset = dataset
        # More workers than cores are the user's choice; torch would warn of them for each subset.
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        self._batches = DataLoader(
            _ErrorsAsResults(dataset),
            sampler=batches,
            batch_size=None,
            num_workers=num_workers,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            prefetch_factor=4 if num_workers else None,
            worker_init_fn=obey_the_main_process_alone,
        )

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._started():
            if isinstance(batch, Exception):
                raise batch
            yield batch

    def _started(self) -> Iterator[Batch | Exception]:
        """The batches, whose reader processes are started if they are not yet.

        Raises:
            UserError: they cannot be started.
        """
        try:
            return iter(self._batches)
        except OSError as error:
            # The loader of torch that this leaves half made fails in its __del__, with a traceback of its own.
            sys.unraisablehook = lambda *_: None
            text = cannot_start("process that reads batches", error, "set [trainer] num_workers = 0")
            raise UserError(text) from None


class _ErrorsAsResults(Dataset):
    """A data set that returns errors: one raised in a reader process would arrive with a traceback as its message."""

    def __init__(self, dataset: Dataset):
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, drawn: Sequence[Drawn]) -> Batch | UserError | OSError:
        try:
            batch = self._dataset[drawn]
            return batch if get_worker_info() is None else _shared(batch)
        except (UserError, OSError) as error:
            return error


def _shared(batch: Batch) -> Batch:
    """The batch in shared memory, through which a worker sends it.

    torch would move it there in a thread whose errors reach nobody, and the main process would wait without end.

    Raises:
        UserError: there is no space for it.
    """
    try:
        return Batch(*(tensor.share_memory_() for tensor in batch))
    except (RuntimeError, OSError):
        megabytes = sum(tensor.nbytes for tensor in batch) / 1e6
        raise UserError(
            f"/dev/shm has no space for a batch of {megabytes:.1f} MB of a process that reads batches, or cannot be "
            "written; lower [trainer] num_workers, or set it to 0, and --resume the run (with Docker: --shm-size=2g)"
        ) from None
