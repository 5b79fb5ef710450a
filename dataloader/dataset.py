"""A batch of rows -> (windows, targets), read from the cache with no copy between disk and batch."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from dataloader.cache import read_window
from dataloader.windows import window_frames
from utils.config import DataProcess
from utils.utils import seed_for

if TYPE_CHECKING:
    import pandas as pd


class Batch(NamedTuple):
    """Some windows and what is in them."""

    windows: torch.Tensor  # (batch, frames, n_mels) float16, as cached
    mean: torch.Tensor  # (batch, n_mels) float32, dB: what was taken away from each band
    scale: torch.Tensor  # (batch, n_mels) float32, dB: what it was divided by then
    targets: torch.Tensor  # (batch, classes) float32, 1 for each species in the foreground
    recording: torch.Tensor  # (batch,) int64: row of the metadata

    def to(self, device: torch.device) -> "Batch":
        """The same on ``device``; the copy overlaps with work where the memory is pinned."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


class WindowDataset(Dataset):
    """The windows of some recordings. It is asked for a whole batch at a time.

    Args:
        metadata: good recordings: ``entry``, ``frames``, ``labels``, ``filename``.
        windows: rows ``recording`` and ``first_frame``, of ``make_windows``.
        labels: the classes; a label's place is its index.
    """

    def __init__(self, metadata: "pd.DataFrame", windows: "pd.DataFrame", labels: Sequence[str], process: DataProcess):
        self.filenames = metadata["filename"].tolist()
        self.recording = windows["recording"].to_numpy(np.int64)
        self.entries: list[str] = metadata["entry"].tolist()
        self.frames: list[int] = metadata["frames"].tolist()
        self.first: list[int] = windows["first_frame"].tolist()
        self.length, self.n_mels = window_frames(process), process.n_mels
        self.targets = target_matrix(metadata["labels"], labels)

    def __len__(self) -> int:
        return len(self.first)

    @property
    def bytes(self) -> int:
        """Of the spectrograms of all recordings."""
        return 2 * self.n_mels * sum(self.frames)

    def __getitem__(self, rows: Sequence[int]) -> Batch:
        windows = np.empty((len(rows), self.length, self.n_mels), dtype=np.float16)
        statistics = np.empty((2, len(rows), self.n_mels), dtype=np.float32)
        recordings = self.recording[rows]
        for place, (row, recording) in enumerate(zip(rows, recordings, strict=True)):
            entry, frames = self.entries[recording], self.frames[recording]
            statistics[:, place] = read_window(entry, self.n_mels, frames, self.first[row], windows[place])
        arrays = (windows, *statistics, self.targets[recordings], recordings)
        return Batch(*map(torch.from_numpy, arrays))


def target_matrix(labels_of_rows: Sequence[tuple[str, ...]], labels: Sequence[str]) -> np.ndarray:
    """``(rows, classes)`` float32, 1 where the row has the label."""
    index = {label: place for place, label in enumerate(labels)}
    targets = np.zeros((len(labels_of_rows), len(labels)), dtype=np.float32)
    for row, names in enumerate(labels_of_rows):
        for name in names:
            targets[row, index[name]] = 1.0
    return targets


class EpochBatches(Sampler):
    """The rows of each batch of an epoch: a function of seed, epoch and place, so that it can go on anywhere.

    Several processes (``world`` of them) each get their own part of every batch. In training the last,
    smaller batch is left out, unless it is the only one: each epoch shuffles anew, so no row is lost.

    Args:
        batch_size: rows of a batch over all processes together.
        shuffle: a new order each epoch.
        training: leave out the smaller last batch; give every process the same number of batches.
    """

    def __init__(
        self, n_rows: int, batch_size: int, *, seed: int = 0, shuffle: bool = False, training: bool = False,
        rank: int = 0, world: int = 1,
    ):  # fmt: skip
        self._n_rows, self._batch_size, self._seed, self._shuffle = n_rows, batch_size, seed, shuffle
        self._training, self._rank, self._world = training, rank, world
        self.epoch, self.first_batch = 1, 0

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        if self._training:
            return max(1, self._n_rows // self._batch_size)
        return -(-self._n_rows // self._batch_size)

    def go_to(self, epoch: int, first_batch: int = 0) -> None:
        """Make the next iteration that of ``epoch`` (from 1), from ``first_batch`` on."""
        self.epoch, self.first_batch = epoch, first_batch

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.arange(self._n_rows)
        if self._shuffle:
            generator = torch.Generator().manual_seed(seed_for(self._seed, "order", self.epoch))
            order = torch.randperm(self._n_rows, generator=generator)
        for batch in range(self.first_batch, len(self)):
            rows = order[batch * self._batch_size : (batch + 1) * self._batch_size]
            if self._training:  # every process the same number of rows: their gradients count the same
                rows = rows[: len(rows) // self._world * self._world]
            if len(mine := rows[self._rank :: self._world]):
                yield mine.tolist()


def make_loader(dataset: WindowDataset, batches: EpochBatches, *, num_workers: int, pin_memory: bool) -> DataLoader:
    """A loader of whole batches. With workers they stay alive between epochs."""
    return DataLoader(
        dataset,
        sampler=batches,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        prefetch_factor=4 if num_workers else None,
    )
