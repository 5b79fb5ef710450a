"""What is the input of a head on an encoder? The cached embeddings of an example's windows, padded within a batch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dataloader.batches.dataset import Batch, Drawn, WindowDataset
from dataloader.batches.images import Mixes
from dataloader.batches.timed import TimedLabels
from dataloader.cache.entries import read_window
from utils.settings import DataProcess, Labels
from utils.utils import seed_for

if TYPE_CHECKING:
    import pandas as pd

_LEAST = 0.01  # so that the weights of an example are never all 0


def embedding_process(process: DataProcess) -> DataProcess:
    """``process`` in which a frame is a window of the encoder, so that each embedding of a recording is a frame."""
    return replace(process, hop_length=round(process.max_length_s * process.sample_rate), mode="slice")


def pool_windows(windows: "pd.DataFrame", metadata: "pd.DataFrame", pool: str, *, training: bool) -> "pd.DataFrame":
    """The examples made of some windows: rows ``recording``, ``first_frame``, ``n_frames``; a frame is a window.

    Args:
        windows: of ``training_windows`` or ``make_windows``, with the frames of ``embedding_process``.
        pool: of [model]: with ``windows`` each is an example. Else all windows of a recording are one example, except
            training windows of recordings whose labels have times, because each of these has its own labels.
    """
    import pandas as pd

    if pool == "windows":
        return windows
    timed = TimedLabels(metadata, [], 0.0).timed if training else np.zeros(len(metadata), bool)
    apart = windows[timed[windows["recording"].to_numpy(np.int64)]]
    recordings = [(number, 0, frames) for number, frames in enumerate(metadata["frames"]) if not timed[number]]
    return pd.concat([pd.DataFrame(recordings, columns=windows.columns), apart], ignore_index=True)


class EmbeddingDataset(WindowDataset):
    """The examples of some recordings, a whole batch at a time, as ``EpochBatches`` draws it.

    Args:
        windows: examples, of ``pool_windows``.
        process: of ``embedding_process``.
        metadata, labels, rules, min_overlap_s: see ``WindowDataset``.
    """

    def __init__(
        self, metadata: "pd.DataFrame", windows: "pd.DataFrame", labels: Sequence[str], process: DataProcess,
        rules: Labels | None = None, min_overlap_s: float = 0.25,
    ):  # fmt: skip
        super().__init__(metadata, windows, labels, process, rules, min_overlap_s)
        self._count = windows["n_frames"].to_numpy(np.int64)
        self.n_mels = int(np.load(self.entries[0], mmap_mode="r").shape[0])  # the size of an embedding

    def __getitem__(self, drawn: Sequence[Drawn]) -> Batch:
        """``windows`` are ``(batch, windows, 1 + size)`` float32, see ``weighted``; the other fields are as usual."""
        rows = np.array([row for row, _ in drawn])
        recordings, firsts, counts = self.recording[rows], self._first[rows], self._count[rows]
        examples = np.zeros((len(rows), int(counts.max()), 1 + self.n_mels), np.float32)
        for example, recording, first, count in zip(
            examples, recordings, firsts.tolist(), counts.tolist(), strict=True
        ):
            read = np.empty((count, self.n_mels), np.float16)
            _, scale = read_window(self.entries[recording], self.n_mels, self.frames[recording], first, read)
            example[:count, 0] = 1.0
            np.multiply(read, scale, out=example[:count, 1:])
        is_recording = counts > 1
        targets = np.where(is_recording[:, None], self.targets[recordings], self.targets_of(recordings, firsts))
        none = np.empty((len(rows), 0), np.float32)
        return Batch(*map(torch.from_numpy, (examples, none, none, targets, recordings)))


def weighted(embeddings: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``(windows, 1 + size)``, the input of a head for one example: the weight of each window, then its embedding.

    A weight of 0 means that there is no window; it pads an example with fewer windows than another of its batch.
    """
    return np.concatenate([np.asarray(weights, np.float32)[:, None], embeddings], axis=1)


class EmbeddingTransform:
    """Makes the input of a head; in training each example is slightly different every time.

    Args:
        pool: of [model]; the ``mean`` over windows is computed here, so that mixing two examples mixes their means.
        mixer: mixes training examples; None: nothing is mixed.
        seed: of the run; None: windows keep their weights in training too.
    """

    def __init__(self, pool: str, mixer: Mixes | None = None, seed: int | None = None):
        self._pool, self._mixer, self._seed = pool, mixer, seed

    def __call__(self, batch: Batch, step_key: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
        """``(batch, windows, 1 + size)`` float32, and targets ``(batch, classes)``."""
        examples = batch.windows
        if step_key is not None and self._seed is not None and self._pool != "windows":
            examples = self._reweighted(examples, step_key)
        if self._pool == "mean":
            examples = pooled(examples)
        if step_key is None or self._mixer is None:
            return examples, batch.targets
        return self._mixer.images(examples, batch.targets, step_key)

    def _reweighted(self, examples: Tensor, step_key: tuple[int, ...]) -> Tensor:
        """Each window with a weight drawn from 0 to 1, most of them small, so that few windows of each example count.

        It replaces the random crops of a network on sounds; without it every epoch would have the same examples.
        """
        generator = torch.Generator().manual_seed(seed_for(self._seed, "windows", *step_key))
        drawn = torch.rand(examples.shape[:2], generator=generator).clamp(min=_LEAST) ** 3
        weights = examples[..., 0] * drawn.to(examples.device)
        return torch.cat([weights[..., None], examples[..., 1:]], dim=-1)


def pooled(examples: Tensor) -> Tensor:
    """``(batch, 1, 1 + size)``: the weighted mean over the windows of each example, with weight 1."""
    weights = examples[..., :1]
    mean = (weights * examples).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True)
    return torch.cat([torch.ones_like(mean[..., :1]), mean[..., 1:]], dim=-1)
