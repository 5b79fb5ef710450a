"""Does a comparison of runs report what differs, and only what can be compared?"""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from training.compare import difference, differing_settings, report
from training.run_page import contents_of, pooled_scores
from utils.config import to_ini
from utils.errors import UserError
from utils.settings import Config, Source

LABELS = ("wren", "owl")


def make_run(folder, *, quality=2.0, seed=1, names=("a", "b", "c", "d", "e", "f"), **trainer):
    """The files of a finished run whose test scores are as good as asked for."""
    folder.mkdir()
    config = Config(trainer=replace(Config().trainer, seed=seed, **trainer))
    (folder / "config.ini").write_text(to_ini(config))
    labels = [LABELS[row % 2] for row in range(len(names))]
    split = {"filename": names, "label": labels, "group": names, "split": "test"}
    pd.DataFrame(split).to_csv(folder / "split.csv", index=False)
    names_of = {"label": LABELS, "scientific_name": LABELS, "common_name": LABELS}
    pd.DataFrame(names_of).to_csv(folder / "labels.csv", index=False)
    logits = np.random.default_rng(3).normal(size=(len(names), 2))
    logits += quality * np.array([[label == one for one in LABELS] for label in labels])
    scores = pd.DataFrame(1 / (1 + np.exp(-logits)), index=pd.Index(names, name="filename"), columns=LABELS)
    scores.to_csv(folder / "test_scores.csv")
    (folder / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "train_loss": 0.5, "val_macro_auc": None}) + "\n")
    (folder / "summary.json").write_text(json.dumps({"best_epoch": 1, "n_classes": 2, "seconds": 60.0}))
    return folder


def test_it_reports_which_settings_and_scores_differ_with_an_interval_of_the_difference(tmp_path):
    good, bad = make_run(tmp_path / "good", quality=5.0), make_run(tmp_path / "bad", quality=-5.0, n_epochs=7)
    text = report([good, bad])
    assert "[trainer] n_epochs: A 24, B 7" in text
    assert "seed" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("  B - A")]
    assert "macro AUC -1.000 [" in line


def test_the_settings_of_a_source_are_compared_too():
    configs = [Config(sources=(("nights", Source(weight=weight)),)) for weight in (1.0, 2.0)]
    assert differing_settings(configs) == [("[source.nights] weight", [1.0, 2.0])]


def test_equal_runs_differ_by_nothing(tmp_path):
    text = report([make_run(tmp_path / "one"), make_run(tmp_path / "two")])
    assert "no setting differs" in text
    assert "macro AUC +0.000 [+0.000, +0.000]" in text


def test_runs_that_were_tested_on_other_recordings_are_not_subtracted(tmp_path):
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two", names=("u", "v", "w", "x"))
    assert "tested on different recordings" in report([one, two])
    assert difference(*(pooled_scores({1: [run]}) for run in (one, two))) is None


def test_what_is_no_run_is_one_line(tmp_path):
    with pytest.raises(UserError, match="not a run; name"):
        report([tmp_path, tmp_path])


def test_folds_are_pooled_and_seeds_averaged(tmp_path):
    halves = [("a", "b", "c"), ("d", "e", "f")]
    by_seed = {
        seed: [make_run(tmp_path / f"{seed}-{fold}", seed=seed, names=names) for fold, names in enumerate(halves)]
        for seed in (1, 2)
    }
    pooled = pooled_scores(by_seed)
    assert pooled.recordings == ("a", "b", "c", "d", "e", "f")
    one = pooled_scores({1: by_seed[1]})
    np.testing.assert_allclose(pooled.scores, one.scores)


def test_the_page_of_folds_counts_what_all_of_them_have_tested(tmp_path):
    runs = [make_run(tmp_path / name, names=tuple(name)) for name in ("abc", "def")]
    metadata = pd.DataFrame(
        {
            "filename": list("abcdefg"), "path": list("abcdefg"), "labels": [("wren",), ("owl",)] * 3 + [("owl",)],
            "group": list("abcdefg"), "split": ["test"] * 3 + ["train"] * 4, "seconds": 36.0,
        }
    )  # fmt: skip
    classes = contents_of(runs, metadata)["classes"]
    assert [(one["recordings"], one["splits"]) for one in classes] == [(3, {"test": 3}), (4, {"test": 3})]


def test_the_page_gets_settings_classes_and_scores_of_a_run(tmp_path):
    run = make_run(tmp_path / "run", n_epochs=7)
    metadata = pd.DataFrame(
        {
            "filename": list("abcdef"), "path": list("abcdef"), "labels": [("wren",), ("owl",)] * 3,
            "group": list("abcdef"), "split": "test", "seconds": 36.0,
        }
    )  # fmt: skip
    contents = contents_of([run], metadata)
    assert ("[trainer] n_epochs", "7", "24") in contents["settings"]
    assert [(one["label"], one["recordings"], one["hours"], one["splits"]) for one in contents["classes"]] == [
        ("wren", 3, 0.03, {"test": 3}), ("owl", 3, 0.03, {"test": 3}),
    ]  # fmt: skip
    assert contents["kept_epoch"] == 1
    assert contents["table"].recordings == tuple("abcdef")
    assert not contents["out_of_fold"]
    assert contents["thresholds"] is None
