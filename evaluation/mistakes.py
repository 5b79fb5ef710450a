"""For which recordings are the scores most wrong, or least certain? Many of the first have label errors."""

from dataclasses import dataclass

import numpy as np

from evaluation.table import PRESENT, ScoreTable


@dataclass(frozen=True)
class Doubts:
    """The recordings of a table, and how well their scores match their labels.

    Attributes:
        wrong: ``(recordings,)``, how much the scores contradict the labels; above 0 another class scores higher.
        unsure: ``(recordings,)``, 0 to 1; 1 if the label and the strongest other class have equal scores.
        other: ``(recordings,)``, the class of the highest score among those that are not labelled.
        labelled: ``(recordings,)``, the labelled class of the lowest score; -1 for a recording without any.
    """

    wrong: np.ndarray
    unsure: np.ndarray
    other: np.ndarray
    labelled: np.ndarray

    def order(self) -> np.ndarray:
        """The recordings, with the largest error first."""
        return np.argsort(-self.wrong, kind="stable")


def find_doubts(table: ScoreTable) -> Doubts:
    """Compare scores with labels; the scores should come from a model that was not trained on the recordings.

    The score of a class is compared with its scores in recordings with its label, because some classes have high scores
    wherever something sings (the class thresholds of confident learning; Northcutt et al. 2021).

    Args:
        table: a row for each recording; unknown labels count as absent and are never proposed.
    """
    scores, present = np.clip(np.asarray(table.scores, dtype=float), 1e-6, 1 - 1e-6), table.targets == PRESENT
    logits = np.log(scores) - np.log1p(-scores)
    typical = _typical(logits, present)
    relative = logits - typical
    rows = np.arange(len(scores))
    others = np.where(table.targets == 0, relative, -np.inf)
    of_labels = np.where(present, relative, np.inf)
    other, labelled = others.argmax(axis=1), of_labels.argmin(axis=1)
    empty = ~present.any(axis=1)
    own = np.where(empty, -typical.mean(), relative[rows, labelled])
    wrong = np.where(np.isfinite(others[rows, other]), others[rows, other], relative.min()) - own
    return Doubts(wrong, 1 / (1 + np.abs(wrong)), other, np.where(empty, -1, labelled))


def _typical(logits: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The mean logit of each class in its own recordings; if there are few, closer to the mean of all classes."""
    number = present.sum(axis=0)
    overall = logits[present].mean() if present.any() else 0.0
    return ((logits * present).sum(axis=0) + 2 * overall) / (number + 2)
