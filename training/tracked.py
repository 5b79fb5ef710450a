"""What do trackers receive after the test? Its scores, and pictures of the recordings with the largest errors."""

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
    """The argument of ``Tracker.log_test``.

    Args:
        scores: a row for each recording, by filename, and a column for each class.
        cache: the folder of the spectrograms; a recording without a readable spectrogram has no picture.
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
