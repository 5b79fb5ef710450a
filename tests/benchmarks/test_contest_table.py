"""Is a recipe scored over all folds at once, and is the spread what it is called?"""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.contest_table import mean_and_spread, pooled
from utils.errors import DataError
from utils.metrics import padded_cmap, top1


def write_run(folder, names, truth, scores):
    folder.mkdir()
    (folder / "labels.csv").write_text("label,scientific_name,common_name\nGreat Tit,x,x\ny,y,y\nz,z,z\n")
    lines = [f"{name},{label},g,test\n" for name, label in zip(names, truth, strict=True)]
    (folder / "split.csv").write_text("".join(["filename,label,group,split\n", "other.ogg,y,g,train\n", *lines]))
    table = pd.DataFrame(scores, columns=["Great Tit", "y", "z"], index=pd.Index(names, name="filename"))
    table.to_csv(folder / "test_scores.csv")
    return folder


def test_the_pooled_score_is_that_of_all_folds_recordings_put_together(tmp_path):
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
    with pytest.raises(DataError, match=r"tests on 0\.ogg, and so does another run"):
        pooled([parts[0], parts[0]])


def test_spread_is_the_deviation_of_the_sample_and_one_value_has_none():
    assert mean_and_spread([0.5, 0.7, None]) == (pytest.approx(0.6), pytest.approx(np.std([0.5, 0.7], ddof=1)))
    assert mean_and_spread([0.5]) == (0.5, None)
    assert mean_and_spread([]) == (None, None)
