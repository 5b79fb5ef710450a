"""Is a run summed up by the weights that are kept, and closed whatever happens?"""

import json
from types import SimpleNamespace

import pytest

from training.fit import summarise, train
from utils.config import Config
from utils.distributed import Processes
from utils.errors import UserError
from utils.interrupt import Stopped

PLAIN = Config()


def test_a_dead_process_that_read_batches_is_told_in_a_line(metadata, tmp_path):
    def die():
        raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")

    trainer = SimpleNamespace(processes=Processes(), trackers=(), fit=die)
    with pytest.raises(UserError, match=r"has died \(DataLoader worker .*lower \[trainer\] num_workers, or"):
        train(PLAIN, trainer, metadata, tmp_path)


def test_the_summary_pairs_the_test_with_the_validation_of_the_same_weights(metadata, tmp_path):
    rows = [{"epoch": 1, "val_macro_auc": 0.9}, {"epoch": 2, "val_macro_auc": 0.8}]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    told = []
    trainer = SimpleNamespace(
        test=lambda: ({"test_macro_auc": 0.7}, None),
        processes=Processes(),
        scored_epoch=2,  # the last, as where model_checkpoint = false
        card={"labels": ["a"]},
        seconds=1.0,
        trackers=[SimpleNamespace(log_summary=told.append, close=lambda: None)],
    )
    summarise(trainer, metadata.assign(split="train", seconds=2.0), tmp_path)
    assert [told[0][name] for name in ("best_epoch", "val_macro_auc", "test_macro_auc")] == [2, 0.8, 0.7]


def test_a_run_that_is_stopped_closes_its_trackers(metadata, tmp_path):
    def fit():
        raise Stopped("stopped", 143)

    closed = []
    trackers = [SimpleNamespace(close=lambda: closed.append(True))]
    trainer = SimpleNamespace(fit=fit, trackers=trackers, processes=Processes())
    with pytest.raises(Stopped):
        train(PLAIN, trainer, metadata, tmp_path)
    assert closed == [True]
