"""Does an interval contain the true value as often as it should?"""

import numpy as np
import pytest

from evaluation.intervals import Estimate, draw_weights, estimate, estimate_share


def test_the_first_draw_is_the_data_and_each_draw_has_as_many_groups():
    weights = draw_weights(7, resamples=50)
    assert weights.shape == (7, 51)
    assert (weights[:, 0] == 1).all()
    assert (weights.sum(axis=0) == 7).all()


def test_intervals_over_groups_hold_the_truth_where_those_over_rows_do_not():
    rng, truth, inside = np.random.default_rng(0), 0.5, {"groups": 0, "rows": 0}
    for _ in range(100):
        shares = rng.beta(2, 2, size=30)  # each group has its own share
        rows = rng.random((30, 20)) < shares[:, None]
        for kind, values in (("groups", rows), ("rows", rows.reshape(600, 1))):
            weights = draw_weights(len(values), resamples=200)
            found = estimate((values.sum(axis=1) @ weights) / (weights.sum(axis=0) * values.shape[1]))
            inside[kind] += found.low <= truth <= found.high
    assert inside["groups"] >= 88  # of 100, by an interval of 95 % with 30 groups
    assert inside["rows"] < inside["groups"] - 15


def test_a_share_of_one_in_few_groups_is_no_proof():
    five, fifty = (estimate_share(np.ones(101), n) for n in (5, 50))
    assert five == Estimate(1.0, pytest.approx(0.4782, abs=1e-4), 1.0)  # 0.025 ** (1 / 5)
    assert fifty.low > 0.9
    assert estimate_share(np.zeros(101), 5).high == pytest.approx(1 - five.low)


def test_what_cannot_be_computed_has_no_value_and_too_few_groups_have_no_interval():
    assert estimate(np.array([np.nan, 0.5, 0.5])) == Estimate(None)
    assert estimate(np.array([0.5, 0.4, 0.6]), n_groups=2) == Estimate(0.5)
    assert str(Estimate(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"
    assert str(Estimate(None)) == "-"
