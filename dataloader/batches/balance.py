"""How often is a training recording used in an epoch? Those of rare classes more often, common and loud ones less.

This is for training only: the validation and test sets do not change.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dataloader.cache.entries import loudness
from utils.errors import counted
from utils.utils import seed_for

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def keep_quietest(table: "pd.DataFrame", share: float) -> "pd.DataFrame":
    """Leave out the loudest training recordings of each class.

    The winners of BirdCLEF 2024 did this; they kept 80 %, by deviation and power of the first minute. Here it is the
    quietest ``share`` of each class, and at least one recording. A recording of two species is kept if one of them
    keeps it. Loudness is the mean power of the whole recording, read from its cache entry.

    Args:
        table: with ``entry``, ``labels`` and ``split``.
    """
    if share == 1.0:
        return table
    log.info("[data] keep_quietest: reading the loudness of the training recordings")
    of_class: dict[str, list[tuple[float, int]]] = {}
    for row, (entry, labels, split) in enumerate(zip(table["entry"], table["labels"], table["split"], strict=True)):
        if split == "train":
            power = loudness(entry)
            for label in labels or ("",):
                of_class.setdefault(label, []).append((power, row))
    quiet = {row for rows in of_class.values() for _, row in sorted(rows)[: max(1, round(share * len(rows)))]}
    kept = [split != "train" or row in quiet for row, split in enumerate(table["split"])]
    log.info("[data] keep_quietest: %s left out, the loudest", counted(len(table) - sum(kept), "training recording"))
    return table[kept].reset_index(drop=True)


class Balance:
    """The rows of each epoch, with more balanced classes: a function of the seed and the epoch.

    First ``class_cap`` and ``rare_to`` decide how many recordings of each class an epoch uses; then ``power`` and
    ``weights`` draw from their rows, with replacement. Every epoch has the same number of rows: for n recordings of a
    class, n times the mean number of rows of its recordings. If the drawn recordings are short, some more of the class
    are added.

    Args:
        recording: ``(rows,)``, the recording of each row.
        labels: of each recording. If it has several, it counts for the rarest; if it has none, "none" is a class.
        power: rows are drawn with weights (rows of their class)^-power; 0: each is used once.
        rare_to: recordings of a class with fewer are repeated until there are this many; 0: no.
        class_cap: an epoch has this many recordings of a class with more, others in each epoch; 0: all.
        weights: of each recording: its rows are drawn so much more often; None: all equally often.
    """

    def __init__(
        self, recording: np.ndarray, labels: Sequence[tuple[str, ...]], *, power: float, rare_to: int,
        class_cap: int, seed: int, weights: np.ndarray | None = None,
    ):  # fmt: skip
        self._power, self._seed = power, seed
        self._weights = None if weights is None else np.asarray(weights, dtype=np.float64)[recording]  # of each row
        counts = Counter(label for names in labels for label in names)
        class_of = [min(names, key=lambda label: (counts[label], label)) if names else "" for names in labels]
        rows_of: dict[str, dict[int, list[int]]] = {}  # class -> recording -> rows
        for row, number in enumerate(recording.tolist()):
            rows_of.setdefault(class_of[number], {}).setdefault(number, []).append(row)
        self._classes = [[np.array(rows) for rows in rows_of[name].values()] for name in sorted(rows_of)]
        self._wanted, self._sizes = [], []  # recordings and rows of each class in an epoch
        for rows in self._classes:
            wanted = max(min(len(rows), class_cap or len(rows)), rare_to)
            self._wanted.append(wanted)
            self._sizes.append(round(sum(map(len, rows)) * wanted / len(rows)))
        self.n_rows = sum(self._sizes)

    def rows(self, epoch: int) -> np.ndarray:
        """The rows of ``epoch``, sorted; a row that is used twice is listed twice."""
        rng = np.random.default_rng(seed_for(self._seed, "balance", epoch))
        classes = zip(self._classes, self._wanted, self._sizes, strict=True)
        rows = np.concatenate([self._of_class(recordings, wanted, size, rng) for recordings, wanted, size in classes])
        if self._power or self._weights is not None:
            weights = np.repeat(np.power(np.array(self._sizes, float), -self._power), self._sizes)
            if self._weights is not None:
                weights = weights * self._weights[rows]
            rows = rng.choice(rows, len(rows), p=weights / weights.sum())
        return np.sort(rows)

    @staticmethod
    def _of_class(recordings: list[np.ndarray], wanted: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """``size`` rows of ``wanted`` recordings: all of them equally often as far as possible, and some once more.

        If the recordings drawn for the rest have too few rows, others are added; no row is twice in the rest.
        """
        times, more = divmod(wanted, len(recordings))
        rows = np.tile(np.concatenate(recordings), times)
        if not (rest := size - len(rows)):
            return rows
        order = rng.permutation(len(recordings))
        reached = np.cumsum([len(recordings[number]) for number in order])
        drawn = order[: max(more, np.searchsorted(reached, rest) + 1)]
        return np.append(rows, rng.permutation(np.concatenate([recordings[number] for number in drawn]))[:rest])
