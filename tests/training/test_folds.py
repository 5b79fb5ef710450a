"""Are all folds trained by one command, continued where they were stopped, and scored together?"""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import train_classifier
from training.folds import score_pooled
from utils.errors import ConfigError, DataError, UserError

RECIPE = """
[testing]
testing = false
[paths]
data_dir = data
runs_dir = runs
[model]
type = test_efficientnet
transfer_learning = false
[data_process]
n_mels = 32
max_length_s = 3
[data]
num_workers = 1
multi_threading = true
[trainer]
n_epochs = 1
batch_size_train = 8
[agent]
lr_warmup_epochs = 0
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, demo):
    folder = tmp_path_factory.mktemp("folds")
    (folder / "data").symlink_to(demo)
    (folder / "recipe.ini").write_text(RECIPE)
    return folder / "recipe.ini"


@pytest.fixture
def call(in_this_process):
    """train_classifier.py --folds, whose runs are trained in this process."""

    def call(*arguments, refuse=lambda overrides: False):
        with in_this_process(refuse):
            return train_classifier.main([str(one) for one in arguments])

    return call


def test_all_folds_are_trained_and_scored_pooled_and_a_fold_that_failed_is_continued(recipe, call, capsys, caplog):
    runs_dir = f"--set=paths.runs_dir={recipe.parent / 'other'}"
    with pytest.raises(UserError, match=r"1 of 2 runs are not finished.*--resume") as failed:
        call("--config", recipe, "--folds", 2, runs_dir, refuse=lambda overrides: "data.fold=2" in overrides)
    assert "run 2 of 2: recipe, seed 1, fold 2: failed with exit code 1: the disk is full" in caplog.text
    folder = Path(re.search(r"--resume (\S+)", str(failed.value))[1])
    assert folder.parent == recipe.parent / "other"
    (first,) = folder.glob("seed1-fold1/*/summary.json")
    made = first.stat().st_mtime_ns
    capsys.readouterr()
    assert call("--resume", folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"runs: {folder}"
    assert first.stat().st_mtime_ns == made
    assert any(line.startswith("seed 1, 2 folds pooled: 24 recordings") for line in lines)
    # The pooled score is that of all recordings, each by the run that has not seen it.
    from benchmarks.contest_table import pooled

    runs = sorted(path.parent for path in folder.glob("seed1-*/*/summary.json"))
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["macro_auc"] == pytest.approx(pooled(runs)["macro_auc"])
    assert scores["seeds"]["1"]["n_recordings"] == 24
    assert call("--resume", folder) == 0  # nothing is left to train


def test_several_seeds_are_scored_together_with_a_line_for_each_figure_of_the_seeds(tmp_path, capsys):
    names, labels = [f"{number}.ogg" for number in range(12)], ["a", "b", "c"] * 4
    plan = []
    for seed, fold in ((1, 1), (1, 2), (2, 1), (2, 2)):
        run = tmp_path / f"seed{seed}-fold{fold}"
        run.mkdir()
        rows = slice(0, 6) if fold == 1 else slice(6, 12)
        split = {"filename": names[rows], "label": labels[rows], "group": names[rows], "split": "test"}
        pd.DataFrame(split).to_csv(run / "split.csv", index=False)
        named = {key: list("abc") for key in ("label", "scientific_name", "common_name")}
        pd.DataFrame(named).to_csv(run / "labels.csv", index=False)
        right = np.eye(3)[[("abc".index(label) + (seed == 2)) % 3 for label in labels[rows]]]
        pd.DataFrame(right, pd.Index(names[rows], name="filename"), list("abc")).to_csv(run / "test_scores.csv")
        plan.append(SimpleNamespace(seed=seed, run=run))
    score_pooled(tmp_path, plan)
    printed = capsys.readouterr().out
    assert printed.startswith("4 runs, the scores of each recording averaged over 2 seeds: 12 recordings")
    assert "each seed alone, macro AUC: 0.625 ± 0.530 (1.000, 0.250)" in printed
    found = json.loads((tmp_path / "scores.json").read_text())
    assert (found["macro_auc"], found["seeds"]["2"]["macro_auc"]) == (0.625, 0.25)
    assert found["mean_over_seeds"]["macro_auc"] == pytest.approx(0.75)  # half of the negatives tie with the positives


def test_settings_that_differ_between_the_runs_are_refused(recipe, call):
    with pytest.raises(ConfigError, match=r"--set \[data\] fold: each run of --folds has another value"):
        call("--config", recipe, "--folds", 2, "--set", "data.fold=1")
    with pytest.raises(ConfigError, match=r"\[data\] folds = '99': the recordings have only \d+ groups"):
        call("--config", recipe, "--folds", 99)


def test_torchrun_is_refused(recipe, call, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="start it without torchrun"):
        call("--config", recipe, "--folds", 2)


def test_a_damaged_folder_of_folds_is_named(tmp_path, call):
    (tmp_path / "folds.json").write_text("{")
    with pytest.raises(DataError, match=r"folds\.json: damaged"):
        call("--resume", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "2"], "--seeds goes with --folds"),
        (["--folds", "1"], "not a whole number of at least 2"),
        (["--resume", "x", "--folds", "2"], "do not go with it"),
        (["--folds", "2", "--prepare-only"], "all folds share the cache and the settings"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        train_classifier.parse(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
