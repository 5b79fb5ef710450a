"""Is what a run keeps of thresholds and calibration read as it was written, and damage named?"""

import json

import numpy as np
import pytest

from evaluation.calibration import Curve
from evaluation.decisions import Decisions, Fit, aim_of, read_decisions
from utils.errors import DataError, UserError

MADE = Decisions(
    labels=("a", "b"),
    checkpoint="0" * 64,
    fitted_on="the validation subset",
    window_s=5.0,
    curves=(Curve("pooled", 0.5, -1.0), Curve("isotonic", logits=(-2.0, 3.0), probabilities=(0.1, 0.9))),
    fits={"precision=0.9": Fit(np.array([0.25, np.nan]), {"b": "2 positives"}), "f1": Fit(np.array([0.5, 0.5]), {})},
)


def test_what_was_written_is_read(tmp_path):
    MADE.save(tmp_path / "thresholds.json")
    found = read_decisions((tmp_path / "thresholds.json").read_text(), "x", ["a", "b"])
    assert found.plain() == MADE.plain()
    np.testing.assert_array_equal(found.fits["precision=0.9"].thresholds, [0.25, np.nan])
    scores = np.array([[0.1, 0.9]])
    np.testing.assert_array_equal(found.probabilities(scores), MADE.probabilities(scores))


def test_the_newest_thresholds_are_those_that_auto_means():
    assert MADE.fit_for("auto", "run") is MADE.fits["f1"]
    again = MADE.with_fit("precision=0.9", MADE.fits["precision=0.9"])
    assert again.fit_for("auto", "run") is MADE.fits["precision=0.9"]
    assert list(again.fits) == ["f1", "precision=0.9"]


def test_an_aim_that_was_not_fitted_names_the_command_that_fits_it():
    with pytest.raises(
        UserError, match=r"there are: precision=0\.9, f1\).*--run RUN --fit-thresholds --precision 0\.8"
    ):
        MADE.fit_for(aim_of("precision", 0.8), "RUN")
    with pytest.raises(UserError, match="--false-alarms-per-hour 2"):
        MADE.fit_for(aim_of("false_alarms_per_hour", 2.0), "RUN")


@pytest.mark.parametrize(
    "change",
    [
        {"version": 99},
        {"labels": ["a"]},
        {"calibration": [{"kind": "isotonic", "logits": [1], "probabilities": []}] * 2},
        {"thresholds": {"f1": {"values": [0.5, "x"], "refused": {}, "pooled": []}}},
        {"window_s": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_damage_is_named_with_the_mend(change):
    with pytest.raises(DataError, match=r"x: damaged, or of another version .* --fit-thresholds"):
        read_decisions(json.dumps(MADE.plain() | change), "x")
    with pytest.raises(DataError, match="damaged"):
        read_decisions(MADE.text()[:-20], "x")


def test_thresholds_of_other_classes_are_refused():
    with pytest.raises(DataError, match="of other classes than the model's"):
        read_decisions(MADE.text(), "x", ["a", "c"])
