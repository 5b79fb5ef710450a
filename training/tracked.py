"""What do trackers get of the test? Its scores, and pictures of the recordings that the model is most wrong about."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dataloader.cache.entries import DamagedEntry, decibels, entry_path
from evaluation.mistakes import find_doubts
from evaluation.table import ScoreTable
from utils.tracking import HeldOutScores

if TYPE_CHECKING:
    import pandas as pd

_PICTURES, _FRAMES = 8, 1500  # of the worst recordings; frames of each, from its beginning


def test_scores_of(scores: "pd.DataFrame", metadata: "pd.DataFrame", cache: Path) -> HeldOutScores:
    """Put together what ``Tracker.log_test`` takes.

    Args:
        scores: a row a recording, by filename, and a column a class.
        cache: the folder of the spectrograms; what is not there, or cannot be read, has no picture.
    """
    labels = list(scores.columns)
    by_name = metadata.set_index("filename").loc[scores.index]
    targets = np.array([[label in names for label in labels] for names in by_name["labels"]], dtype=np.int8)
    n = len(scores)
    table = ScoreTable(
        tuple(labels), scores.to_numpy(), targets, tuple(scores.index), np.arange(n), tuple(by_name["group"]),
        np.zeros(n), timed=False, source="the test subset",
    )  # fmt: skip
    doubts = find_doubts(table)
    pictures = []
    for row in doubts.order()[:_PICTURES]:
        path = entry_path(cache, scores.index[row])
        try:
            title = f"{scores.index[row]} sounds like {labels[doubts.other[row]]}"
            pictures.append((title, decibels(path)[:, :_FRAMES]))
        except (OSError, DamagedEntry):
            continue
    return HeldOutScores(labels, targets, scores.to_numpy(), pictures)
