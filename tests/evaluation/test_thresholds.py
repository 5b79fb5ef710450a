"""Do thresholds do what they are fitted for, and is what the data cannot show refused with what it would take?"""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.ranking import count_decisions
from evaluation.thresholds import CONFIDENCE, fit, positives_needed, precision_bound


def counts(table, thresholds):
    found = count_decisions(
        table.targets, table.scores, thresholds, table.group_of_rows, np.ones((table.n_groups, 1))
    )  # fmt: skip
    return [found[name][:, 0] for name in ("true", "false", "missed")]


def test_a_fitted_precision_holds_on_recordings_it_was_not_fitted_on(make_table):
    held, detected = [], 0
    for seed in range(5):
        found = fit(make_table(300, 5, skill=2.5, seed=seed), "precision", 0.9)
        true, false, missed = counts(make_table(300, 5, skill=2.5, seed=100 + seed), found.thresholds)
        judged = true + false > 0
        held += list(true[judged] / (true + false)[judged] >= 0.88)
        detected += (true / (true + missed)).mean()
    assert len(held) >= 20
    assert np.mean(held) >= 0.9
    assert detected / 5 > 0.4  # and it is not held by never detecting anything


def test_the_precision_is_shown_by_the_windows_it_is_fitted_on_and_no_lower_threshold_shows_it(make_table):
    table = make_table(200, 4, skill=2.5)
    found = fit(table, "precision", 0.9)
    true, false, _ = counts(table, found.thresholds)
    assert (precision_bound(true, true + false) >= 0.9).all()
    for column in range(4):
        for lower in np.unique(table.scores[:, column][table.scores[:, column] < found.thresholds[column]])[::40]:
            its_true, its_false, _ = counts(table, np.full(4, lower))
            assert precision_bound(its_true, its_true + its_false)[column] < 0.9


def test_a_precision_takes_so_many_right_detections_to_show():
    for aim in (0.5, 0.9, 0.99):
        n = positives_needed(aim)
        assert precision_bound(np.array(n), np.array(n)) >= aim
        assert precision_bound(np.array(n - 1), np.array(n - 1)) < aim
    assert positives_needed(0.9) == 22
    assert CONFIDENCE == 0.9


def test_what_cannot_be_shown_is_refused_with_the_number_it_would_take(make_table):
    few = make_table(16, 4, seed=3)
    found = fit(few, "precision", 0.95)
    assert np.isnan(found.thresholds).all()
    n = int(few.targets[:, 0].sum())
    assert found.refused["bird0"] == f"{n} positives, but a precision of 0.95 needs at least 45"
    rubbish = make_table(300, 4, skill=0.01)
    assert "no threshold reaches a precision of 0.95" in fit(rubbish, "precision", 0.95).refused["bird0"]
    assert "a recall of 0.99 needs at least 100" in fit(few, "recall", 0.99).refused["bird0"]
    alarms = fit(few, "false_alarms_per_hour", 1.0)
    assert "1 false alarms per hour need at least 1 h" in alarms.refused["bird0"]


@pytest.mark.parametrize("aim", [0.5, 0.9])
def test_a_recall_is_reached_and_not_by_more_than_one_positive(make_table, aim):
    table = make_table(60, 4, skill=1.0)
    true, _, missed = counts(table, fit(table, "recall", aim).thresholds)
    assert (true / (true + missed) >= aim - 1e-9).all()
    assert ((true - 1) / (true + missed) < aim).all()


def test_false_alarms_stay_within_the_number_an_hour(make_table):
    table = make_table(300, 4, skill=1.0)
    found = fit(table, "false_alarms_per_hour", 10.0)
    _, false, _ = counts(table, found.thresholds)
    hours = np.array([table.seconds[table.targets[:, column] == 0].sum() / 3600 for column in range(4)])
    assert (false <= 10 * hours).all()
    assert (false + 1 > 10 * hours).all()


def test_classes_with_few_positives_share_the_threshold_of_the_best_f1(make_table):
    table = make_table(80, 3)
    targets = table.targets.copy()
    targets[np.flatnonzero(targets[:, 0])[3:], 0] = 0
    found = fit(replace(table, targets=targets), "f1", None)
    assert found.pooled == ("bird0",)
    true, false, missed = counts(table, found.thresholds)
    best = 2 * true / (2 * true + false + missed)
    for shift in (-0.1, 0.1):
        true, false, missed = counts(table, found.thresholds + shift)
        assert (2 * true[1:] / (2 * true + false + missed)[1:] <= best[1:]).all()


def test_unknown_cells_are_left_out(make_table):
    table = make_table(100, 2)
    targets = table.targets.copy()
    wrong = (targets[:, 0] == 0) & (np.arange(len(targets)) % 3 == 0)
    scores = table.scores.copy()
    scores[wrong, 0] = 0.999
    masked = np.where(wrong, -1, targets[:, 0])
    known = replace(table, targets=np.stack([masked, targets[:, 1]], axis=1).astype(np.int8), scores=scores)
    assert fit(known, "precision", 0.9).thresholds[0] < 0.9
    assert not fit(replace(table, scores=scores), "precision", 0.9).thresholds[0] < 0.9
