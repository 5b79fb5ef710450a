"""Does a tracker that fails leave the training as it is without one?"""

import random
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import train_classifier
from dataloader.demo import make_demo
from utils import tracking

SETTINGS = {
    "testing.testing": "false",
    "model.type": "test_efficientnet",
    "model.transfer_learning": "false",
    "model.drop_rate": "0.5",  # dropout draws from the generator that a tracker might use too
    "data_process.n_mels": "32",
    "data_process.max_length_s": "3",
    "data.num_workers": "1",
    "data.multi_threading": "true",
    "trainer.n_epochs": "2",
    "trainer.batch_size_train": "8",
    "agent.lr_warmup_epochs": "0",
}


class Raises:
    """A tracker that fails in its first epoch, after it has used the generators that everybody shares."""

    def __init__(self, *_):
        pass

    def log_epoch(self, row):
        random.random()
        np.random.random()
        raise RuntimeError("the server is on fire")


class Hangs(Raises):
    def log_epoch(self, row):
        time.sleep(5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracked")
    make_demo(folder / "data", species=2, recordings=6)
    return folder


def trained(data: Path, name: str, *sets: str) -> Path:
    folders = {"paths.data_dir": "data", "paths.runs_dir": name, "data.output_dir": "cache", "data.hash_path": "key"}
    (data / f"{name}.ini").write_text("")
    line = ["--config", str(data / f"{name}.ini"), *(f"--set={key}={value}" for key, value in SETTINGS.items())]
    line += [f"--set={key}={data / value}" for key, value in folders.items()]
    assert train_classifier.main([*line, *(f"--set={one}" for one in sets)]) == 0
    (run,) = (data / name).iterdir()
    return run


def test_a_tracker_that_raises_or_hangs_changes_no_score_and_no_weight(data, monkeypatch, caplog):
    monkeypatch.setattr(train_classifier, "write_page", lambda *_: None)
    monkeypatch.setattr(tracking, "Guarded", partial(tracking.Guarded, start_seconds=5.0, seconds=0.2))
    plain = trained(data, "plain")
    for tracker, why in ((Raises, "the server is on fire"), (Hangs, "no answer within 0.2 s")):
        monkeypatch.setitem(tracking.TRACKERS, "tensorboard", tracker)
        caplog.clear()
        run = trained(data, tracker.__name__, "callbacks.trackers=tensorboard")
        assert [line for line in caplog.messages if "tensorboard" in line] == [
            f"tensorboard: {why}; training continues without it"
        ]
        assert (run / "metrics.csv").read_bytes() == (plain / "metrics.csv").read_bytes()
        assert (run / "test_scores.csv").read_bytes() == (plain / "test_scores.csv").read_bytes()
        weights, expected = (torch.load(one / "last.pt", weights_only=True)["model"] for one in (run, plain))
        assert all(torch.equal(weights[key], expected[key]) for key in expected)
