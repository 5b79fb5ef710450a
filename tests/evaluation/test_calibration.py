"""Are calibrated scores probabilities, and does the number of positives decide how they are fitted?"""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.calibration import Curve, calibrate, curve_of, fit_curves, reliability
from evaluation.intervals import draw_weights


def error_of(table):
    return reliability(table, draw_weights(table.n_groups, 20)).error.value


def test_calibration_undoes_a_temperature_on_recordings_it_has_not_seen(make_table):
    fitted = make_table(200, 4, temperature=3.0, seed=1)
    curves = fit_curves(fitted)
    assert {curve.kind for curve in curves} == {"isotonic"}
    new = make_table(200, 4, temperature=3.0, seed=2)
    after = replace(new, scores=calibrate(curves, new.scores))
    assert error_of(after) < min(0.5 * error_of(new), 0.02)


def test_how_a_class_is_calibrated_follows_its_positives(make_table):
    table = make_table(200, 4, temperature=3.0)
    targets = table.targets.copy()
    for column, kept in ((1, 60), (2, 10), (3, 0)):
        targets[np.flatnonzero(targets[:, column])[kept:], column] = 0
    curves = fit_curves(replace(table, targets=targets))
    assert [curve.kind for curve in curves] == ["isotonic", "temperature", "pooled", "pooled"]
    assert curves[2] == curves[3]


def test_positives_of_few_groups_count_as_few(make_table):
    table = make_table(200, 2, temperature=3.0)
    few = replace(table, group=tuple(f"g{number % 3}" for number in range(200)))
    assert {curve.kind for curve in fit_curves(few)} == {"pooled"}


def test_a_curve_rises_and_comes_back_from_plain_values(make_table):
    for curve in (*fit_curves(make_table(200, 2)), Curve("temperature", 0.5, -1.0)):
        scores = np.linspace(0, 1, 101)
        values = curve(scores)
        assert (np.diff(values) >= 0).all()
        assert (values >= 0).all()
        assert (values <= 1).all()
        np.testing.assert_array_equal(curve_of(curve.plain())(scores), values)


def test_the_calibration_error_is_the_mean_gap_of_the_bins(make_table):
    table = make_table(2, 2, windows=2, per_group=1)
    table = replace(
        table,
        scores=np.array([[0.05, 0.95], [0.05, 0.95], [0.15, 0.95], [0.15, 0.95]], dtype=np.float32),
        targets=np.array([[0, 1], [0, 1], [0, 1], [1, -1]], dtype=np.int8),
    )
    found = reliability(table, draw_weights(2, 5))
    assert found.cells.tolist() == [2, 2, 0, 0, 0, 0, 0, 0, 0, 3]
    assert found.error.value == pytest.approx((2 * 0.05 + 2 * 0.35 + 3 * 0.05) / 7, abs=1e-6)
    assert found.error_of_highest.value == pytest.approx((3 * 0.05 + 0.85) / 4, abs=1e-6)
