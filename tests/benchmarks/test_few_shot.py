"""Does the table of the few-shot benchmark hold what its runs scored, over whole draws?"""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks import few_shot
from utils.errors import UserError


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Runs that are finished as soon as they are trained: of three recordings a fold, all right with many shots."""

    def train_all(plan, lock, jobs):
        for planned in plan:
            run = planned.folder / "run"
            run.mkdir(parents=True)
            (run / "config.ini").write_text("")
            names = [f"{label}/{planned.fold}.ogg" for label in "abc"]
            many = "data.train_per_class=0" in planned.overrides
            right = np.eye(3) if many else np.roll(np.eye(3), planned.seed - 1, axis=1)
            index = pd.Index(names, name="filename")
            pd.DataFrame(right, index=index, columns=list("abc")).to_csv(run / "test_scores.csv")
            split = {"filename": names, "label": list("abc"), "group": "", "split": "test"}
            pd.DataFrame(split).to_csv(run / "split.csv", index=False)
            (run / "summary.json").write_text(json.dumps({"seconds": 10.0}))
        return 0

    monkeypatch.setattr(few_shot, "train_all", train_all)
    recipe = tmp_path / "my.ini"
    recipe.write_text("")
    return ["--recipes", str(recipe), "--folds", "2", "--output", str(tmp_path / "out")]


def test_a_line_has_the_mean_and_the_spread_over_draws_of_all_folds_together(trained, tmp_path, capsys):
    assert few_shot.main([*trained, "--shots", "1", "all", "--draws", "2"]) == 0
    one, every = capsys.readouterr().out.splitlines()[2:4]
    assert "| my | 1 | 2 | 0.625 ± 0.530 |" in one  # an AUC of 1 in the first draw, of 0.25 in the second
    assert "| 0.500 ± 0.707 | 10 |" in one
    assert "| my | all | 2 | 1.000 ± 0.000 | 1.000 ± 0.000 | 1.000 ± 0.000 | 10 |" in every
    assert len(pd.read_csv(tmp_path / "out/few_shot.csv")) == 4
    assert (tmp_path / "out/few_shot.png").stat().st_size > 1000


def test_a_draw_without_all_its_folds_is_in_no_line(trained, monkeypatch):
    monkeypatch.setattr(few_shot, "train_all", lambda plan, lock, jobs: len(plan))
    with pytest.raises(UserError, match="no draw has all its folds"):
        few_shot.main([*trained, "--shots", "1", "--draws", "1"])


def test_the_reference_is_compared_on_the_same_recordings(trained, monkeypatch, capsys):
    def wrong(planned):
        return few_shot.scores_of(planned.run).iloc[:, ::-1].set_axis(list("abc"), axis=1)

    monkeypatch.setattr(few_shot, "reference_scores", wrong)
    assert few_shot.main([*trained, "--shots", "all", "--draws", "1", "--reference"]) == 0
    *_, reference, ours, softmax = capsys.readouterr().out.splitlines()
    assert "my, all a class, draw 1, scikit-learn: macro AUC 0.500" in reference  # right for one class of three
    assert "ours: macro AUC +0.500 [+0.500, +0.500]" in ours
    assert "top-1 +0.667" in softmax
