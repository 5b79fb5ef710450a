"""What do trackers receive after the test? Its scores, and pictures of the recordings with the largest errors."""

import contextlib
from pathlib import Path

from dataloader.cache.entries import DamagedEntry, decibels, entry_path
from evaluation.mistakes import find_doubts
from evaluation.table import ScoreTable
from utils.tracker import HeldOutScores

_PICTURES, _FRAMES = 8, 1500  # of the worst recordings; frames of each, from its beginning


def held_out_scores(table: ScoreTable, cache: Path) -> HeldOutScores:
    """The argument of ``Tracker.log_test``.

    Args:
        table: the scores of the test subset, a row for each recording.
        cache: the folder of the spectrograms; a recording without a readable spectrogram has no picture.
    """
    doubts, pictures = find_doubts(table), []
    for row in doubts.order()[:_PICTURES]:
        name = table.recordings[row]
        with contextlib.suppress(OSError, DamagedEntry):
            db = decibels(entry_path(cache, name))
            pictures.append((f"{name} sounds like {table.labels[doubts.other[row]]}", db[:, :_FRAMES]))
    return HeldOutScores(table.labels, table.targets, table.scores, pictures)
