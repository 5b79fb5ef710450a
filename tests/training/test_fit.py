"""Is a run summarised by the weights that are kept, and are its trackers closed whatever happens?"""

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from training.fit import log_test_scores, score_table, summarise, train
from utils.distributed import Processes
from utils.errors import UserError, counted
from utils.interrupt import Stopped
from utils.settings import Config

PLAIN = Config()


def test_a_dead_process_that_read_batches_is_reported_in_a_line(metadata, tmp_path):
    def die():
        raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")

    trainer = SimpleNamespace(processes=Processes(), trackers=(), fit=die)
    with pytest.raises(UserError, match=r"has died \(DataLoader worker .*lower \[trainer\] num_workers, or"):
        train(PLAIN, trainer, metadata, tmp_path)


def test_the_summary_pairs_the_test_with_the_validation_of_the_same_weights(metadata, tmp_path):
    rows = [{"epoch": epoch, "train_loss": 0.5, "val_macro_auc": 1 - epoch / 10} for epoch in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    summaries = []
    trainer = SimpleNamespace(
        test=lambda: ({"test_macro_auc": 0.7}, None),
        processes=Processes(),
        scored_epoch=2,  # the last, as where model_checkpoint = false
        card={"labels": ["a"]},
        seconds=1.0,
        trackers=[SimpleNamespace(log_summary=summaries.append, close=lambda: None)],
    )
    summarise(trainer, metadata.assign(split="train", seconds=2.0), tmp_path, tmp_path)
    assert [summaries[0][name] for name in ("best_epoch", "val_macro_auc", "test_macro_auc")] == [2, 0.8, 0.7]


@pytest.mark.parametrize(("n", "advice"), [(8, True), (80, False)])
def test_test_scores_are_logged_with_intervals_counts_and_advice(n, advice, caplog):
    names = [f"{number}.ogg" for number in range(n)]
    targets = np.eye(2)[np.arange(n) % 2]
    trainer = SimpleNamespace(
        test_subset=SimpleNamespace(filenames=names, targets=targets), card={"labels": ["a", "b"]}
    )
    groups = pd.DataFrame({"filename": names, "group": [f"g{number // 2}" for number in range(n)]})
    scores = np.clip(targets * 0.6 + np.random.default_rng(0).random((n, 2)) * 0.5, 0, 1)
    with caplog.at_level("INFO"):
        log_test_scores(score_table(trainer, scores, groups), 7)
    line = caplog.messages[0]
    assert re.match(r"test: macro AUC \d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\], top-1 ", line)
    counts = f"({counted(n, 'recording')}, {counted(n // 2, 'group')}; 95 % intervals over recordists and places"
    assert line.endswith(f"{counts}; the weights of epoch 7)")
    assert ("cmAP" in line) == (n // 2 >= 5)
    assert bool(caplog.messages[1:]) == advice


def test_a_run_that_is_stopped_closes_its_trackers(metadata, tmp_path):
    def fit():
        raise Stopped("stopped", 143)

    closed = []
    trackers = [SimpleNamespace(close=lambda: closed.append(True))]
    trainer = SimpleNamespace(fit=fit, trackers=trackers, processes=Processes())
    with pytest.raises(Stopped):
        train(PLAIN, trainer, metadata, tmp_path)
    assert closed == [True]
