"""Is an evaluation printed and written as it was computed?"""

import json

import pandas as pd

from evaluation.output import CLASSES, CONFUSIONS, RELIABILITY, SCORES, as_text, write
from evaluation.scores import evaluate


def test_the_printed_table_has_counts_intervals_and_what_cannot_be_scored(make_table):
    text = as_text(evaluate(make_table(12, 9, skill=1.0), 0.5, resamples=30))
    assert text.startswith("12 recordings (0.08 h), 6 groups; ")
    assert "95% intervals by bootstrap over recordists and places" in text
    assert "not scored, no positives: bird" in text
    assert "cmAP, padded" in text
    assert "most classes have fewer than the 5 positives" in text
    assert "each window has its recording's labels" in text
    assert "advice: 12 held-out recordings say little" in text
    assert "macro AUC" in text


def test_intervals_over_recordings_are_named_so(make_table):
    text = as_text(evaluate(make_table(12, 3, per_group=1), resamples=10))
    assert "bootstrap over recordings (no recordist or place is known)" in text


def test_the_files_agree_with_the_evaluation(make_table, tmp_path):
    found = evaluate(make_table(40, 4, nocall=4), 0.5, resamples=30)
    write(found, tmp_path / "out", {"name": "made"})
    scores = json.loads((tmp_path / "out" / SCORES).read_text())
    assert scores["macro_auc"] == found.overall["macro_auc"].value
    assert scores["intervals"]["macro_auc"] == list(found.overall["macro_auc"][1:])
    assert scores["name"] == "made"
    assert scores["unit"] == "recording"
    classes = pd.read_csv(tmp_path / "out" / CLASSES)
    assert classes["label"].tolist() == list(found.classes["label"])
    assert {"auc_low", "precision_high", "recall_low", "threshold", "false_alarms_per_hour"} <= set(classes.columns)
    assert len(pd.read_csv(tmp_path / "out" / RELIABILITY)) == 10
    assert (tmp_path / "out" / CONFUSIONS).is_file()
    for name in ("reliability.png", "classes.png"):
        assert (tmp_path / "out" / name).read_bytes()[:4] == b"\x89PNG"
