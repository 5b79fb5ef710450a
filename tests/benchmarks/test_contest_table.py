"""Is a recipe scored over all folds at once, and is the spread the standard deviation of the sample?"""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import contest_table
from benchmarks.contest_table import mean_and_spread, pooled, result_of, warn_of_other_recordings
from dataloader.audio.decoding import BadRecording
from training.planned_runs import PlannedRun
from utils.errors import DataError
from utils.metrics import padded_cmap, top1
from utils.settings import Config


def write_run(folder, names, truth, scores):
    folder.mkdir()
    (folder / "labels.csv").write_text("label,scientific_name,common_name\nGreat Tit,x,x\ny,y,y\nz,z,z\n")
    lines = [f"{name},{label},g,test\n" for name, label in zip(names, truth, strict=True)]
    (folder / "split.csv").write_text("".join(["filename,label,group,split\n", "other.ogg,y,g,train\n", *lines]))
    table = pd.DataFrame(scores, columns=["Great Tit", "y", "z"], index=pd.Index(names, name="filename"))
    table.to_csv(folder / "test_scores.csv")
    return folder


def test_the_pooled_score_is_that_of_the_recordings_of_all_folds(tmp_path):
    rng = np.random.default_rng(1)
    truth, scores = rng.choice(["Great Tit", "y", "z"], 40), rng.random((40, 3))
    names = [f"{number}.ogg" for number in range(40)]
    parts = [
        write_run(
            tmp_path / str(first), names[first : first + 20], truth[first : first + 20], scores[first : first + 20]
        )
        for first in (0, 20)
    ]
    targets = (truth[:, None] == ["Great Tit", "y", "z"]).astype(float)
    found = pooled(parts)
    assert found["macro_auc"] == pytest.approx(roc_auc_score(targets, scores, average="macro"))
    columns = parts[0] / "test_scores.csv"  # in another order they are the same scores
    pd.read_csv(columns, index_col="filename")[["z", "Great Tit", "y"]].to_csv(columns)
    assert pooled(parts) == found
    assert found["top1"] == top1(targets, scores)
    assert found["cmap"] == padded_cmap(targets, scores)
    with pytest.raises(DataError, match=r"it tests 0\.ogg, and so does another run"):
        pooled([parts[0], parts[0]])


def test_scores_are_pooled_by_seed_and_their_spread_is_over_seeds(tmp_path):
    rng, names = np.random.default_rng(2), [f"{number}.ogg" for number in range(40)]
    truth, cells, of_seed = rng.choice(["Great Tit", "y", "z"], 40), [], {}
    for seed in (1, 2, 3):
        scores = rng.random((40, 3))
        for fold, part in ((1, slice(0, 20)), (2, slice(20, 40))):
            folder = tmp_path / f"seed{seed}-fold{fold}"
            folder.mkdir()
            run = write_run(folder / "run", names[part], truth[part], scores[part])
            (run / "config.ini").touch()
            summary = {"test_macro_auc": seed / 10, "test_cmap": 0.5, "test_top1": fold / 10, "seconds": 10.0 * fold}
            (run / "summary.json").write_text(json.dumps(summary))
            cells.append(PlannedRun("a", tmp_path / "a.ini", seed, fold, folder, ()))
        of_seed[seed] = pooled([cell.run for cell in cells if cell.seed == seed])["macro_auc"]
    cells.pop()  # a seed without all of its folds is not pooled
    result = result_of("a", cells, 2, {"parameters": 7})
    assert result["macro_auc"] == mean_and_spread([of_seed[1], of_seed[2]])
    assert result["fold_macro_auc"] == mean_and_spread([0.1, 0.1, 0.2, 0.2, 0.3])
    assert result["fold_top1"] == mean_and_spread([0.1, 0.2, 0.1, 0.2, 0.1])
    assert (result["runs"], result["seconds"], result["parameters"]) == (5, pytest.approx(14.0), 7)


def test_the_speed_is_seconds_of_sound_a_second_the_best_of_three_after_a_first_go(tmp_path, monkeypatch):
    clock, tried = itertools.count(), []

    class Stub:
        def __init__(self, checkpoint, backend):
            self.models = [SimpleNamespace(backend=backend)]

        def predict_files(self, paths):
            tried.append(paths)  # the first go is the fastest, as its files were read just now
            yield from ((path, SimpleNamespace(seconds=900.0 / len(tried))) for path in paths)
            yield "bad.ogg", BadRecording("empty", "no samples")

    monkeypatch.setattr(contest_table, "Predictor", Stub)
    monkeypatch.setattr(
        contest_table, "load_table", lambda config: pd.DataFrame({"path": list("abcdefghijklmnopqrstuvwxyz")})
    )
    monkeypatch.setattr(contest_table.time, "perf_counter", lambda: 2.0 * next(clock))
    assert contest_table.time_prediction(tmp_path, Config(), "onnx") == (10 * 450.0 / 2.0, "onnx")
    assert tried == [list("acegikmoqs")] * 4


def test_a_recipe_tested_on_other_recordings_is_reported(tmp_path, caplog):
    cells = []
    for recipe, names in (("a", ["1.ogg", "2.ogg"]), ("b", ["1.ogg", "2.ogg"]), ("c", ["1.ogg"])):
        (tmp_path / recipe).mkdir()
        run = write_run(tmp_path / recipe / "run", names, ["y"] * len(names), np.zeros((len(names), 3)))
        (run / "config.ini").touch()
        cells.append(PlannedRun(recipe, tmp_path, 1, 1, tmp_path / recipe, ()))
    warn_of_other_recordings(cells)
    assert caplog.messages == ["c: fold 1 differs from that of a (1 recording, not 2); compare them with care"]


def test_spread_is_the_deviation_of_the_sample_and_one_value_has_none():
    assert mean_and_spread([0.5, 0.7, None]) == (pytest.approx(0.6), pytest.approx(np.std([0.5, 0.7], ddof=1)))
    assert mean_and_spread([0.5]) == (0.5, None)
    assert mean_and_spread([]) == (None, None)
