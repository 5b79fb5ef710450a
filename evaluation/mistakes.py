"""Which recordings is a model most wrong about, and which is it least sure of? The first are where label errors are."""

from dataclasses import dataclass

import numpy as np

from evaluation.table import PRESENT, ScoreTable


@dataclass(frozen=True)
class Doubts:
    """The recordings of a table, and how well their scores go with their labels.

    Attributes:
        wrong: ``(recordings,)``, how much the scores speak against the labels; above 0 another class scores higher.
        unsure: ``(recordings,)``, 0 to 1: 1 where label and strongest other class score alike.
        other: ``(recordings,)``, the class of the highest score among those that are not labelled.
        given: ``(recordings,)``, the labelled class of the lowest score; -1 for a recording without any.
    """

    wrong: np.ndarray
    unsure: np.ndarray
    other: np.ndarray
    given: np.ndarray

    def order(self) -> np.ndarray:
        """The recordings, the one that the model is most wrong about first."""
        return np.argsort(-self.wrong, kind="stable")


def find_doubts(table: ScoreTable) -> Doubts:
    """Compare scores with labels; the scores should come from a model that has not seen the recordings.

    A class counts relative to the scores that it gives to the recordings labelled with it: some classes are scored
    high wherever something sings (the class thresholds of confident learning; Northcutt et al. 2021).

    Args:
        table: a row a recording; unknown labels count as absent and are never proposed.
    """
    scores, present = np.clip(np.asarray(table.scores, dtype=float), 1e-6, 1 - 1e-6), table.targets == PRESENT
    logits = np.log(scores) - np.log1p(-scores)
    typical = _typical(logits, present)
    relative = logits - typical
    rows = np.arange(len(scores))
    others = np.where(table.targets == 0, relative, -np.inf)
    labelled = np.where(present, relative, np.inf)
    other, given = others.argmax(axis=1), labelled.argmin(axis=1)
    empty = ~present.any(axis=1)
    own = np.where(empty, -typical.mean(), relative[rows, given])
    wrong = np.where(np.isfinite(others[rows, other]), others[rows, other], relative.min()) - own
    return Doubts(wrong, 1 / (1 + np.abs(wrong)), other, np.where(empty, -1, given))


def _typical(logits: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The mean logit of each class in its own recordings, drawn towards that of all classes where there are few."""
    number = present.sum(axis=0)
    overall = logits[present].mean() if present.any() else 0.0
    return ((logits * present).sum(axis=0) + 2 * overall) / (number + 2)
