"""Does prediction obey the thresholds and the calibration that were fitted for a run, in every format?"""

import csv
import json
import logging

import numpy as np
import pytest
import soundfile as sf

import predict
from evaluation.calibration import Curve
from evaluation.decisions import Decisions, Fit
from inference.backends import is_available, load
from inference.checkpoints import network_of
from inference.exported import write_onnx
from inference.predictor import Predictor
from utils.errors import DataError, UserError
from utils.files import file_digest
from utils.run_folder import THRESHOLDS

LABELS = ("asbfly", "bkskit1", "comgre")
EACH = (0.3, np.nan, 0.6)  # thresholds for a precision of 0.9; the second class is never detected


@pytest.fixture
def fitted(run):
    """A run with thresholds for two aims, and a calibration that halves the logits."""
    decisions = Decisions(
        labels=LABELS, checkpoint=file_digest(run / "best.pt"), fitted_on="the validation subset", window_s=3.0,
        curves=(Curve("temperature", 0.5),) * 3,
        fits={"f1": Fit(np.full(3, 0.9), {}), "precision=0.9": Fit(np.array(EACH), {"bkskit1": "2 positives"})},
    )  # fmt: skip
    decisions.save(run / THRESHOLDS)
    return run


@pytest.fixture
def recording(tmp_path, sound):
    sf.write(tmp_path / "r1.wav", sound(60.0), 16_000)
    return tmp_path / "r1.wav"


def rows(run, recording, *options, output="out", kind="csv"):
    """The rows that predict.py writes."""
    path = recording.parent / output
    line = ["--run", run, "--input", recording, "--output", path, "--format", kind, "--backend", "torch", *options]
    assert predict.main([str(argument) for argument in line]) == 0
    with open(path, newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if kind == "raven" else ","))


@pytest.mark.parametrize("options", [("--precision", "0.9"), ("--threshold", "auto")])
def test_each_class_has_its_own_threshold(fitted, recording, options, caplog):
    every = rows(fitted, recording)
    limits = dict(zip(LABELS, EACH, strict=True))
    expected = [row for row in every if float(row["score"]) >= limits[row["label"]]]
    assert 0 < len(expected) < len(every)
    assert rows(fitted, recording, *options) == expected
    assert "1 class has no threshold, because the data cannot show it, and will not be detected: bkskit1" in caplog.text
    raven = rows(fitted, recording, *options, kind="raven")
    assert [row["Species Code"] for row in raven] == [row["label"] for row in expected]


def test_calibrated_writes_probabilities_and_thresholds_still_apply_to_scores(fitted, recording):
    plain, calibrated = rows(fitted, recording), rows(fitted, recording, "--calibrated")
    logits = [np.log(float(row["score"]) / (1 - float(row["score"]))) for row in plain]
    np.testing.assert_allclose(
        [float(row["score"]) for row in calibrated], 1 / (1 + np.exp(-0.5 * np.array(logits))), atol=1e-4
    )
    both = rows(fitted, recording, "--calibrated", "--precision", "0.9")
    places = [(row["start_s"], row["label"]) for row in rows(fitted, recording, "--precision", "0.9")]
    assert [(row["start_s"], row["label"]) for row in both] == places
    submission = rows(fitted, recording, "--calibrated", "--window-s", "3", kind="submission")
    assert float(submission[0][LABELS[0]]) == pytest.approx(float(calibrated[0]["score"]), abs=1e-6)


def test_thresholds_and_calibration_go_with_the_species_that_are_kept(fitted, recording):
    (recording.parent / "species.txt").write_text("comgre\n")
    for options in (("--precision", "0.9"), ("--calibrated",)):
        expected = [row for row in rows(fitted, recording, *options) if row["label"] == "comgre"]
        assert expected
        assert rows(fitted, recording, *options, "--species", recording.parent / "species.txt") == expected


def test_live_detections_are_those_of_the_file(fitted, sound, recording):
    its = Predictor(fitted, backend="torch")
    live = list(its.stream_detections([sound(60.0)], 16_000, "precision=0.9"))
    found = [(f"{one.start_s:g}", LABELS[one.label]) for one in live]
    assert found == [(row["start_s"], row["label"]) for row in rows(fitted, recording, "--precision", "0.9")]


@pytest.mark.skipif(not (is_available("onnx") and is_available("openvino")), reason="no onnxruntime or openvino")
def test_an_exported_file_carries_the_thresholds(fitted, recording, tmp_path):
    write_onnx(network_of(fitted / "best.pt"), tmp_path / "m.onnx")
    assert load(tmp_path / "m.onnx").thresholds == (fitted / THRESHOLDS).read_text()
    line = ["--run", tmp_path / "m.onnx", "--input", recording, "--output", tmp_path / "o.csv", "--format", "csv"]
    assert predict.main([*map(str, line), "--precision", "0.9"]) == 0
    written = (tmp_path / "o.csv").read_text().splitlines()[1:]
    assert len(written) == len(rows(fitted, recording, "--precision", "0.9"))


def test_rows_of_another_length_are_warned_of(fitted, recording, caplog):
    caplog.set_level(logging.WARNING)
    rows(fitted, recording, "--precision", "0.9", "--window-s", "5")
    assert "the thresholds were fitted on rows of 3 s, and rows here have 5 s; they may not hold" in caplog.text


def other_weights(run):
    plain = json.loads((run / THRESHOLDS).read_text()) | {"checkpoint": "0" * 64}
    (run / THRESHOLDS).write_text(json.dumps(plain))


@pytest.mark.parametrize(
    ("damage", "options", "kind", "message"),
    [
        (lambda run: (run / THRESHOLDS).unlink(), ["--precision", "0.9"], UserError, "--fit-thresholds"),
        (lambda run: (run / THRESHOLDS).unlink(), ["--calibrated"], UserError, "no thresholds were fitted"),
        (lambda run: None, ["--precision", "0.8"], UserError, "no thresholds were fitted for precision 0.8"),
        (other_weights, ["--precision", "0.9"], UserError, "fitted for other weights"),
        (lambda run: (run / THRESHOLDS).write_bytes(b"\xff{"), ["--threshold", "auto"], DataError, "damaged"),
        (lambda run: None, ["--run", "RUN", "--threshold", "auto"], UserError, "belong to one run"),
    ],
)  # fmt: skip
def test_thresholds_that_cannot_be_used_are_one_line_before_the_work(fitted, recording, damage, options, kind, message):
    damage(fitted)
    with pytest.raises(kind, match=message) as error:
        rows(fitted, recording, *[str(fitted) if option == "RUN" else option for option in options])
    assert "\n" not in str(error.value)
    assert not (recording.parent / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "0.9", "--threshold", "0.5"], "exclude each other"),
        (["--precision", "0.9", "--format", "submission"], "a submission holds every score"),
        (["--window-s", "recording", "--step-s", "5"], "--window-s recording gives one row a recording"),
        (["--threshold", "most"], "most is not a number"),
        (["--precision", "90"], "90 is not between 0 and 1"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message, capsys):
    with pytest.raises(SystemExit):
        predict.main(["--run", "r", "--input", "i", "--output", "o", "--format", "csv", *options])
    assert message in capsys.readouterr().err.splitlines()[-1]
