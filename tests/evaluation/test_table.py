"""Are rows, recordings and groups kept together?"""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.table import concatenate
from utils.errors import DataError


def test_a_recording_has_the_mean_of_its_windows_and_all_of_their_labels(make_table):
    table = make_table(4, 3)
    targets = table.targets.copy()
    targets[0, 2], targets[5, 1] = -1, -1
    found = replace(table, targets=targets).by_recording()
    np.testing.assert_allclose(found.scores[1], table.scores[5:10].mean(axis=0), rtol=1e-6)
    assert found.seconds.tolist() == [25.0] * 4
    assert found.targets[0, 2] in (-1, 1)
    assert found.targets[0, 2] == (1 if table.targets[1, 2] else -1)


def test_chosen_rows_keep_their_recordings_and_groups(make_table):
    table = make_table(6, 3)
    found = table.choose(table.recording >= 4)
    assert found.recordings == ("r4.ogg", "r5.ogg")
    assert found.group == ("g2", "g2")
    assert found.recording.tolist() == [0] * 5 + [1] * 5
    assert concatenate([table.choose(table.recording < 4), found]).recordings == table.recordings


def test_folds_that_score_a_recording_twice_are_refused(make_table):
    table = make_table(4, 3)
    with pytest.raises(DataError, match=r"r0\.ogg is scored twice"):
        concatenate([table, table])
    with pytest.raises(DataError, match="other classes"):
        concatenate([table, make_table(4, 2)])


def test_a_score_that_is_not_finite_is_named(make_table):
    table = make_table(4, 3)
    scores = table.scores.copy()
    scores[7, 1] = np.nan
    with pytest.raises(DataError, match=r"the score of bird1 in r1\.ogg is not a finite number"):
        replace(table, scores=scores)


def test_groups_are_recordings_where_nothing_else_is_known(make_table):
    assert make_table(4, 3, per_group=1).grouped_by == "recordings"
    assert make_table(4, 3, per_group=2).grouped_by == "recordists and places"
