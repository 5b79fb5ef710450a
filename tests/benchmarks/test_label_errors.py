"""Are as many labels swapped as asked for, and are their positions in the list read rightly?"""

import pandas as pd
import pytest

from benchmarks.label_errors import positions_of, swap_labels
from utils.errors import UserError


def test_a_swapped_label_is_another_one_and_the_seed_decides_which():
    labels = ["a", "b", "c", "d"] * 25
    swapped = swap_labels(labels, 0.05, seed=1)
    assert len(swapped) == 5
    assert all(label != labels[row] and label in labels for row, label in swapped.items())
    assert swapped == swap_labels(labels, 0.05, seed=1)
    assert swapped != swap_labels(labels, 0.05, seed=2)


def test_positions_are_shares_of_the_list(tmp_path):
    pd.DataFrame({"filename": list("abcdefghij")}).to_csv(tmp_path / "doubts.csv")
    assert positions_of({"a", "d"}, tmp_path / "doubts.csv").tolist() == [0.0, 0.3]


def test_a_missing_list_is_reported_in_one_line(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        positions_of({"a"}, tmp_path / "doubts.csv")
