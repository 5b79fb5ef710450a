"""Is every figure of an evaluation the one that it should be, and does what cannot be computed have no value?"""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from evaluation.intervals import Estimate
from evaluation.scores import advice_on, evaluate


def timed(table):
    return replace(table, timed=True)


def test_the_macro_auc_is_exactly_that_of_birdclef(make_table):
    table = timed(make_table(40, 6, nocall=3))
    targets = table.targets.copy()
    targets[:, 4] = 0  # absent: skipped, not counted as 0
    found = evaluate(replace(table, targets=targets), resamples=20)
    present = [0, 1, 2, 3, 5]
    exact = roc_auc_score(targets[:, present], table.scores[:, present], average="macro")
    assert found.overall["macro_auc"].value == pytest.approx(exact, abs=1e-6)
    assert found.unscored["bird4"] == "no positives"
    assert found.classes["auc"].isna().tolist() == [False] * 4 + [True, False]


def test_labels_of_whole_recordings_are_ranked_by_recording_and_decided_by_window(make_table):
    table = make_table(40, 4)
    found = evaluate(table, 0.5, resamples=20)
    assert found.unit == "recording"
    assert len(found.ranked.scores) == 40
    decided = table.scores >= 0.5
    assert found.overall["macro_f1"].value == pytest.approx(f1_score(table.targets, decided, average="macro"), abs=1e-6)
    assert found.overall["f1"].value == pytest.approx(f1_score(table.targets, decided, average="micro"), abs=1e-6)
    assert found.classes["detections"].tolist() == decided.sum(axis=0).tolist()
    assert evaluate(timed(table), resamples=5).unit == "window"


def test_a_bird_in_the_background_is_no_false_alarm_and_no_miss(make_table):
    table = make_table(40, 4)
    targets = table.targets.copy()
    background = (targets[:, 1] == 0) & (table.scores[:, 1] > 0.5)
    assert background.any()
    targets[background, 1] = -1
    found = evaluate(replace(table, targets=targets), 0.5, resamples=5)
    assert found.classes["precision"][1] == 1.0
    assert found.overall["macro_auc"].value == evaluate(table, 0.5, resamples=5).overall["macro_auc"].value


def test_classes_with_fewer_positives_than_asked_for_are_left_out(make_table):
    table = timed(make_table(40, 4))
    targets = table.targets.copy()
    targets[np.flatnonzero(targets[:, 0])[3:], 0] = 0
    found = evaluate(replace(table, targets=targets), resamples=5, min_positives=5)
    assert found.unscored["bird0"] == "3 positives, fewer than 5"
    assert found.overall["macro_auc"].value == pytest.approx(found.classes["auc"][1:].mean())


def test_false_alarms_are_counted_in_recordings_without_the_species(make_table):
    table = make_table(60, 4, nocall=12)
    found = evaluate(table, 0.5, resamples=50)
    of_recording = table.by_recording().targets
    for column in range(4):
        without = of_recording[table.recording, column] == 0
        hours = table.seconds[without].sum() / 3600
        alarms = (table.scores[without, column] >= 0.5).sum() / hours
        assert found.classes["hours_without"][column] == pytest.approx(hours, rel=1e-5)
        assert found.classes["false_alarms_per_hour"][column] == pytest.approx(alarms, rel=1e-4)
    silent = table.recording < 12
    assert found.nocall_hours == pytest.approx(12 * 25 / 3600)
    expected = (table.scores[silent] >= 0.5).sum() / found.nocall_hours
    assert found.false_alarms_per_hour.value == pytest.approx(expected, rel=1e-5)
    never = evaluate(table, np.nan, threshold_name="none", resamples=5).false_alarms_per_hour
    assert never.value == 0
    assert never.high == pytest.approx(3.689 / found.nocall_hours, rel=1e-3)  # the rule of three, two-sided


def test_confusions_name_the_class_that_is_there_and_the_one_with_the_highest_score(make_table):
    table = timed(make_table(40, 4, skill=8))
    scores = table.scores.copy()
    swapped = np.flatnonzero(table.targets[:, 2])[:10]
    scores[swapped, 3] = 0.999999
    scores[swapped, 2] = 0.5
    found = evaluate(replace(table, scores=scores), resamples=5).confusions
    assert found.loc[0, ["present", "highest", "rows"]].tolist() == ["bird2", "bird3", 10]
    assert found["share"][0] == pytest.approx(10 / table.targets[:, 2].sum())


def test_a_padded_cmap_that_is_mostly_padding_is_not_shown(make_table):
    few = evaluate(make_table(12, 4), resamples=5)
    assert few.overall["cmap_padded"] == Estimate(None)
    assert "fewer than the 5 positives" in few.unscored["cmap_padded"]
    assert evaluate(make_table(60, 4), resamples=5).overall["cmap_padded"].value is not None


def test_small_sets_and_wide_intervals_get_advice():
    assert "19 held-out recordings say little" in advice_on(19, Estimate(0.9, 0.89, 0.91))[0]
    assert "1 held-out recording says little" in advice_on(1, Estimate(None))[0]
    assert "interval of the macro AUC is 0.20 wide" in advice_on(50, Estimate(0.9, 0.75, 0.95))[0]
    assert "--folds 5" in advice_on(1, Estimate(0.9))[0]
    assert advice_on(50, Estimate(0.9, 0.89, 0.91)) == []
    assert "only more recordings" in advice_on(1, Estimate(0.9), all_scored=True)[0]


def test_a_row_without_any_detection_is_no_confusion_with_the_first_class(make_table):
    table = timed(make_table(20, 4))
    found = evaluate(replace(table, scores=np.zeros_like(table.scores)), resamples=5)
    assert found.confusions.empty
    assert found.overall["top1"].value == 0


def test_a_recording_of_a_species_that_the_run_does_not_know_is_none_without_a_bird(make_table):
    table = make_table(20, 3, nocall=4)
    hours = evaluate(table).nocall_hours
    assert hours == pytest.approx(4 * 25 / 3600)
    others = tuple(number < 3 for number in range(20))
    assert evaluate(replace(table, with_others=others)).nocall_hours == pytest.approx(25 / 3600)
    chosen = replace(table, with_others=others).choose(table.recording >= 2)
    assert chosen.with_others == others[2:]
