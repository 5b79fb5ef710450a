"""Are the scores of several seeds averaged by recording?"""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.seeds import figures_of_seeds, lines_of_seeds, mean_over_seeds
from evaluation.table import concatenate
from utils.errors import DataError


def test_the_mean_over_seeds_goes_by_recording_whatever_their_order(make_table):
    table = make_table(6, 3)
    halves = [table.choose(table.recording >= 3), table.choose(table.recording < 3)]
    other = replace(concatenate(halves), scores=1 - concatenate(halves).scores)
    found = mean_over_seeds([table, other])
    assert (found.recordings, found.group) == (table.recordings, table.group)
    np.testing.assert_allclose(found.scores, 0.5)
    np.testing.assert_array_equal(found.targets, table.targets)
    assert mean_over_seeds([table, halves[0]]).recordings == ("r3.ogg", "r4.ogg", "r5.ogg")
    with pytest.raises(DataError, match="its classes or rows are not those of"):
        mean_over_seeds([table, make_table(6, 3, windows=4)])


def test_a_figure_has_the_mean_and_the_deviation_of_the_sample_over_seeds(make_table):
    one, two = make_table(40, 3, seed=1), make_table(40, 3, seed=2)
    figures = figures_of_seeds({1: one, 2: two})
    line, _ = lines_of_seeds(figures)
    values = list(figures["macro_auc"].values())
    mean, spread = np.mean(values), np.std(values, ddof=1)
    assert line == f"each seed alone, macro AUC: {mean:.3f} ± {spread:.3f} ({values[0]:.3f}, {values[1]:.3f})"
    assert lines_of_seeds(figures_of_seeds({1: one})) == []
