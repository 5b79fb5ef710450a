"""Do a run, a cache and an exported file that commit 37b5890 made still resume, serve and predict?"""

import json
import logging
import runpy
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import predict
import train_classifier
from dataloader.data_preprocess import AudioPreprocessor
from dataloader.metadata import load_table
from utils.config import load_config

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The files as they were left, with the recordings that they are of; nothing changes them."""
    folder = tmp_path_factory.mktemp("before")
    with zipfile.ZipFile(FIXTURES / "before.zip") as archive:
        archive.extractall(folder)
    runpy.run_path(str(FIXTURES / "make_before.py"))["make_recordings"](folder / "data")
    path = folder / "run/config.ini"
    path.write_text(path.read_text().replace("@FOLDER@", str(folder)))
    return folder


@pytest.fixture
def before(unpacked, tmp_path):
    """A copy, whose config points at it."""
    folder = shutil.copytree(unpacked, tmp_path / "before")
    path = folder / "run/config.ini"
    path.write_text(path.read_text().replace(str(unpacked), str(folder)))
    return folder


def test_the_fixture_is_small():
    assert (FIXTURES / "before.zip").stat().st_size < 200_000


def test_the_cache_serves_as_it_is(before):
    config = load_config(before / "run/config.ini", ["data.multi_threading=true"])  # no process has to start
    entries = {path: path.stat().st_mtime_ns for path in before.glob("cache/*/*/*.npy")}
    assert len(entries) == 12
    metadata = AudioPreprocessor(config.data_process, config.data).prepare(load_table(config))
    assert {Path(path): Path(path).stat().st_mtime_ns for path in metadata["entry"]} == entries


def test_the_run_resumes_with_its_old_keys(before, caplog):
    run = before / "run"
    split, first = (run / "split.csv").read_bytes(), (run / "metrics.csv").read_text()
    with caplog.at_level(logging.INFO):
        train_classifier.main(
            ["--resume", str(run), "--set", "trainer.max_minutes=0", "--set", "data.multi_threading=true"]
        )
    assert "continuing at epoch 2" in caplog.text
    assert (run / "split.csv").read_bytes() == split
    assert (run / "metrics.csv").read_text().startswith(first)
    assert json.loads((run / "summary.json").read_text())["best_epoch"] == 2  # few validate: the last epoch counts
    assert "segment_max_s = 1.5" in (run / "config.ini").read_text()


@pytest.mark.parametrize("model", ["run", "model.onnx"])
def test_predictions_are_what_they_were(before, model):
    if model.endswith(".onnx"):
        pytest.importorskip("onnxruntime", reason="onnxruntime is an extra")
    line = ["--run", before / model, "--input", before / "data/train_audio", "--format", "csv"]
    line += ["--output", before / "now.csv", *(["--backend", "torch"] if model == "run" else [])]
    assert not predict.main([*map(str, line)])
    was, now = (pd.read_csv(before / name) for name in ("scores.csv", "now.csv"))
    assert len(was) == len(now) > 12
    np.testing.assert_allclose(now["score"], was["score"], atol=1e-4)
