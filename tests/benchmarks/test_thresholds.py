"""Does the experiment judge thresholds on folds that they were not fitted on?"""

import numpy as np

from benchmarks.thresholds import as_text, judge_folds
from evaluation.table import ScoreTable


def folds(n_folds=4, n_recordings=60):
    rng = np.random.default_rng(0)
    for number in range(n_folds):
        recording = np.repeat(np.arange(n_recordings), 4)
        present = (recording % 3)[:, None] == np.arange(3)
        scores = 1 / (1 + np.exp(-(6 * (present - 0.5) + rng.normal(size=present.shape))))
        yield ScoreTable(
            ("a", "b", "c"), scores.astype(np.float32), present.astype(np.int8),
            tuple(f"{number}-{one}" for one in range(n_recordings)), recording,
            tuple(f"{number}-{one // 2}" for one in range(n_recordings)), np.full(len(recording), 3.0), False,
        )  # fmt: skip


def test_each_class_is_judged_on_each_fold_by_thresholds_of_the_others():
    tables = list(folds())
    rows = judge_folds(tables, 0.9, 20, 0.9)
    assert len(rows) == 12
    assert rows["holds"].sum() >= 10
    # A fold whose labels are wrong changes no threshold that is judged on it, and holds nothing.
    wrong = np.roll(tables[0].targets, 1, axis=1)
    spoilt = [ScoreTable(**(vars(tables[0]) | {"targets": wrong})), *tables[1:]]
    again = judge_folds(spoilt, 0.9, 20, 0.9)
    assert again["threshold"].tolist()[:3] == rows["threshold"].tolist()[:3]
    assert not again["holds"].tolist()[0]


def test_the_table_has_a_line_for_each_confidence_and_the_calibration():
    text = as_text(list(folds()), 0.9, 20, [0.8, 0.9])
    assert "| 0.8 | 12 | 0 | 0 | 12 | " in text
    assert "| 0.9 | 12 | 0 |" in text
    assert "| all windows x classes |" in text
