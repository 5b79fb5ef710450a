"""Is a run scored on the recordings that are meant, and are thresholds fitted on no others?"""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile

import evaluate
import predict
from evaluation.decisions import read_decisions
from utils.errors import DataError, UserError
from utils.metrics import macro_auc
from utils.run_folder import LABELS, SPLIT, SUMMARY, TEST_SCORES, THRESHOLDS

LABELS_OF_RUN = ("asbfly", "bkskit1", "comgre")
TABLE, AUDIO = "train_metadata.csv", "train_audio"


@pytest.fixture(scope="module")
def data(tmp_path_factory, sound):
    """Twenty-four recordings of three species, two a recordist."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for number in range(24):
        label = LABELS_OF_RUN[number % 3]
        name = f"{label}/XC{number}.ogg"
        (folder / AUDIO / label).mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / AUDIO / name, sound(9.0, seed=number), 16_000)
        secondary = "['comgre']" if number == 0 else "[]"
        rows.append((name, label, secondary, f"group{number // 2}"))
    table = pd.DataFrame(rows, columns=["filename", "primary_label", "secondary_labels", "group_id"])
    table.to_csv(folder / TABLE, index=False)
    return folder


@pytest.fixture
def run(make_run, data, tmp_path):
    """A finished run with 12 recordings to train on, 8 for validation and 4 for the test."""
    folder = tmp_path / "run"
    shutil.copytree(make_run(labels=LABELS_OF_RUN), folder)
    (folder / "config.ini").write_text(f"[paths]\ndata_dir = {data}\n[testing]\ntesting = false\n")
    split = pd.read_csv(data / TABLE).rename(columns={"primary_label": "label", "group_id": "group"})
    split["split"] = ["train"] * 12 + ["val"] * 8 + ["test"] * 4
    split[["filename", "label", "group", "split"]].to_csv(folder / SPLIT, index=False)
    pd.DataFrame({"label": LABELS_OF_RUN, "scientific_name": LABELS_OF_RUN, "common_name": LABELS_OF_RUN}).to_csv(
        folder / LABELS, index=False
    )
    (folder / SUMMARY).write_text("{}")
    return folder


def call(*arguments):
    return evaluate.main([*map(str, arguments), *(["--backend", "torch"] if "--run" in arguments else [])])


def test_a_run_is_scored_on_its_own_test_subset_as_predict_scores_it(run, data, tmp_path, capsys):
    from inference.predictor import Predictor

    assert call("--run", run, "--output", tmp_path / "out") == 0
    assert capsys.readouterr().out.strip().endswith(f"scores: {tmp_path / 'out'}")
    found = json.loads((tmp_path / "out" / "scores.json").read_text())
    names = [f"{LABELS_OF_RUN[number % 3]}/XC{number}.ogg" for number in range(20, 24)]
    predictor = Predictor(run, backend="torch")
    scores = np.stack([predictor.predict_file(data / AUDIO / name).each[0].mean(axis=0) for name in names])
    targets = np.array([[name.startswith(label) for label in LABELS_OF_RUN] for name in names])
    assert found["macro_auc"] == pytest.approx(macro_auc(targets, scores), abs=1e-6)
    assert (found["n_recordings"], found["n_groups"], found["n_decided_rows"]) == (4, 2, 12)
    assert "4 held-out recordings say little" in found["advice"][0]


def test_scores_are_kept_and_used_again_until_the_weights_change(run, data, capsys, monkeypatch):
    call("--run", run)
    first = capsys.readouterr().out
    monkeypatch.setattr("inference.run_scores.Predictor", None)  # would raise if it were called
    call("--run", run)
    assert capsys.readouterr().out == first
    with pytest.raises(TypeError):
        call("--run", run, "--window-s", 2)
    kept = next((run / "evaluation").iterdir())
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(TypeError):
        call("--run", run)


def test_thresholds_are_fitted_on_the_validation_subset_and_then_applied(run, capsys):
    assert call("--run", run, "--fit-thresholds", "--recall", 0.5) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].startswith("fitted on run, the recordings of its val subset: 24 windows of 8")
    assert printed.splitlines()[-1] == f"thresholds: {run / THRESHOLDS}"
    decisions = read_decisions((run / THRESHOLDS).read_text(), run)
    limits = decisions.fits["recall=0.5"].thresholds
    assert np.isfinite(limits).all()
    call("--run", run)
    assert "the run's thresholds (recall=0.5, run, the recordings of its val subset)" in capsys.readouterr().out
    call("--run", run, "--fit-thresholds", "--f1")
    assert list(read_decisions((run / THRESHOLDS).read_text(), run).fits) == ["recall=0.5", "f1"]
    with pytest.raises(UserError, match=r"no thresholds were fitted for precision 0\.9"):
        call("--run", run, "--precision", 0.9)


def test_a_precision_that_the_data_cannot_show_is_refused_by_class(run, capsys):
    call("--run", run, "--fit-thresholds", "--precision", 0.99)
    printed = capsys.readouterr().out
    assert "thresholds for precision=0.99: 0 of 3 classes" in printed
    assert "asbfly: refused: 9 positives, but a precision of 0.99 needs at least" in printed
    call("--run", run)
    assert "never" in capsys.readouterr().out


def test_thresholds_of_other_weights_are_not_used(run, make_run, capsys, caplog):
    call("--run", run, "--fit-thresholds", "--f1")
    shutil.copy(make_run(labels=LABELS_OF_RUN, seed=2) / "best.pt", run / "best.pt")
    capsys.readouterr()
    call("--run", run)
    assert "a threshold of 0.25" in capsys.readouterr().out
    assert "fitted for other weights" in caplog.text


def test_a_run_scores_any_data_set_and_warns_of_recordings_that_it_was_trained_on(run, data, capsys, caplog):
    call("--run", run, "--data", data)
    assert "24 recordings" in capsys.readouterr().out
    assert "20 of 24 recordings have the names of recordings that" in caplog.text


def test_other_tools_are_scored_on_the_same_truth(data, tmp_path, capsys):
    table = pd.read_csv(data / TABLE)
    rows = [(name, 0.0, 3.0, label, 0.9) for name, label in zip(table["filename"], table["primary_label"], strict=True)]
    frame = pd.DataFrame(rows, columns=["Begin File", "Begin Time (s)", "End Time (s)", "Species Code", "Confidence"])
    frame.to_csv(tmp_path / "raven.txt", sep="\t", index=False)
    call("--predictions", tmp_path / "raven.txt", "--labels", data, "--output", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["macro_auc"] == 1.0
    assert "recordists and places" in capsys.readouterr().out


@pytest.fixture(scope="module")
def annotated(tmp_path_factory, sound):
    """Three recordings with annotations: the first has asbfly from 1 to 2 s and comgre from 7 to 8 s, the last none."""
    folder = tmp_path_factory.mktemp("annotated")
    for number in range(3):
        soundfile.write(folder / f"night{number}.wav", sound(9.0, seed=number), 16_000)
    rows = [("night0.wav", 1, 2, "asbfly"), ("night0.wav", 7, 8, "comgre"), ("night1.wav", 0, 9, "bkskit1")]
    frame = pd.DataFrame([*rows, ("night2.wav", 0, 9, "nocall")], columns=["filename", "start", "end", "label"])
    frame.to_csv(folder / "annotations.csv", index=False)
    return folder


def by_recording(run, folder, tmp_path):
    """The scores of predict.py, a row a recording."""
    output = tmp_path / "whole.csv"
    line = ["--run", run, "--input", folder, "--output", output, "--format", "csv", "--window-s", "recording"]
    predict.main([str(one) for one in line])
    return pd.read_csv(output).pivot(index="file", columns="label", values="score")[list(LABELS_OF_RUN)].to_numpy()


def test_labels_with_times_are_scored_by_window(run, annotated, tmp_path, capsys):
    call("--run", run, "--data", annotated, "--output", tmp_path / "out")
    printed = capsys.readouterr().out
    assert "9 windows of 3 recordings" in printed
    assert "macro AUC, by recording  " in printed
    found = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert found["unit"] == "window"
    whole = macro_auc(np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]]), by_recording(run, annotated, tmp_path))
    assert found["macro_auc_by_recording"] == pytest.approx(whole)
    assert found["nocall_hours"] == pytest.approx(9 / 3600, abs=1e-4)
    classes = pd.read_csv(tmp_path / "out" / "classes.csv", index_col="label")
    assert classes["positives"].to_dict() == {"asbfly": 1, "bkskit1": 3, "comgre": 1}


def test_a_tool_is_scored_by_window_against_annotations(annotated, tmp_path):
    head = "file,start_s,end_s,label,score\n"
    right = "night0.wav,0,3,asbfly,1\nnight0.wav,6,9,comgre,1\n" + "".join(
        f"night1.wav,{start},{start + 3},bkskit1,1\n" for start in (0, 3, 6)
    )
    (tmp_path / "table.csv").write_text(head + right)
    arguments = ["--predictions", tmp_path / "table.csv", "--labels", annotated, "--window-s", 3]
    call(*arguments, "--output", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["f1"] == 1.0
    (tmp_path / "table.csv").write_text(head + "night0.wav,9,12,asbfly,1\n")
    with pytest.raises(DataError, match="begins at 9 s, after the end of the recording at 9 s"):
        call(*arguments)


def test_slowed_down_recordings_are_scored_as_the_sound_that_they_hold(run, annotated, tmp_path):
    """Their tables, and those of predictions, have the times of the file as it plays."""
    slow = tmp_path / "slow"
    slow.mkdir()
    for path in annotated.glob("*.wav"):
        soundfile.write(slow / path.name, soundfile.read(path, dtype="int16")[0], 1_600)
    table = pd.read_csv(annotated / "annotations.csv")
    table.assign(start=table["start"] * 10, end=table["end"] * 10, time_expansion=10).to_csv(slow / "t.csv")
    for data, name in ((annotated, "one"), (slow, "other")):
        call("--run", run, "--data", data, "--output", tmp_path / name)
    one, other = (pd.read_csv(tmp_path / name / "classes.csv") for name in ("one", "other"))
    pd.testing.assert_frame_equal(one, other)
    rows = "night0.wav,0,30,asbfly,1\nnight0.wav,60,90,comgre,1\nnight1.wav,0,90,bkskit1,1\n"
    (tmp_path / "table.csv").write_text("file,start_s,end_s,label,score\n" + rows)
    call("--predictions", tmp_path / "table.csv", "--labels", slow, "--window-s", 3, "--output", tmp_path / "tool")
    assert json.loads((tmp_path / "tool" / "scores.json").read_text())["f1"] == 1.0


def test_two_recordings_of_one_name_are_an_error_where_a_table_names_them(tmp_path, sound):
    for folder in ("a", "b"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        soundfile.write(tmp_path / "data" / folder / "1.wav", sound(3.0), 16_000)
    (tmp_path / "table.csv").write_text("file,start_s,end_s,label,score\n1.wav,0,3,a,1\n")
    with pytest.raises(DataError, match=r"a/1\.wav and b/1\.wav have the same name"):
        call("--predictions", tmp_path / "table.csv", "--labels", tmp_path / "data")


def test_folds_are_pooled_and_their_thresholds_are_out_of_fold(run, data, tmp_path, capsys):
    folds = tmp_path / "folds"
    split = pd.read_csv(run / SPLIT)
    for fold in (1, 2):
        folder = folds / f"seed1-fold{fold}" / "run"
        shutil.copytree(run, folder)
        (folder / "config.ini").write_text(
            f"[paths]\ndata_dir = {data}\n[testing]\ntesting = false\n[data]\nfolds = 2\nfold = {fold}\n"
        )
        test = np.arange(24) // 12 + 1 == fold
        split.assign(split=np.where(test, "test", "train")).to_csv(folder / SPLIT, index=False)
    call("--run", folds)
    assert capsys.readouterr().out.startswith("2 folds, pooled, seed 1: 24 recordings")
    with pytest.raises(UserError, match=r"no validation subset.*name the folder of all folds"):
        call("--run", folds / "seed1-fold1" / "run", "--fit-thresholds", "--f1")
    call("--run", folds, "--fit-thresholds", "--f1")
    assert len(list(folds.rglob(THRESHOLDS))) == 2
    capsys.readouterr()
    call("--run", folds)
    assert "fitted on these recordings" in capsys.readouterr().out


def test_the_page_of_a_run_has_its_thresholds_and_the_windows_that_they_hold_for(run, data, tmp_path):
    from training.run_page import contents_of

    split = pd.read_csv(run / SPLIT)
    test = split.loc[split["split"] == "test", "filename"]
    pd.DataFrame(np.eye(3)[[0, 1, 2, 0]], columns=LABELS_OF_RUN, index=test).to_csv(run / TEST_SCORES)
    (run / "metrics.jsonl").write_text("")
    (run / SUMMARY).write_text('{"n_classes": 3}')
    assert len(contents_of([run])["table"].scores) == 4  # recordings
    call("--run", run, "--fit-thresholds", "--f1")
    contents = contents_of([run])
    assert len(contents["table"].scores) == 12  # windows
    assert (
        contents["thresholds"].tolist()
        == read_decisions((run / THRESHOLDS).read_text(), run).fits["f1"].thresholds.tolist()
    )
    assert contents["threshold_name"].startswith("the run's thresholds (f1, run, the recordings of its val subset)")


def test_several_seeds_are_evaluated_together_and_each_seed_has_a_line(run, data, tmp_path, capsys, make_run):
    for seed in (1, 2):
        folder = tmp_path / "folds" / f"seed{seed}-fold1" / "run"
        shutil.copytree(run, folder)
        text = f"[paths]\ndata_dir = {data}\n[testing]\ntesting = false\n[trainer]\nseed = {seed}\n"
        (folder / "config.ini").write_text(text)
        shutil.copy(make_run(labels=LABELS_OF_RUN, seed=seed) / "best.pt", folder / "best.pt")
    call("--run", tmp_path / "folds", "--output", tmp_path / "out")
    printed = capsys.readouterr().out
    assert printed.startswith("2 runs, the scores of each recording averaged over 2 seeds: 4 recordings")
    found = json.loads((tmp_path / "out" / "scores.json").read_text())
    one, two = found["each_seed"]["macro_auc"].values()
    assert (
        f"each seed alone, macro AUC: {(one + two) / 2:.3f} ± {np.std([one, two], ddof=1):.3f} ({one:.3f}, " in printed
    )
    call("--run", tmp_path / "folds" / "seed2-fold1", "--output", tmp_path / "second")
    assert json.loads((tmp_path / "second" / "scores.json").read_text())["macro_auc"] == two
    with pytest.raises(UserError, match=r"belong to the runs of one seed, but these have 2; name .*folds/seed1-\*"):
        call("--run", tmp_path / "folds", "--threshold", "auto")


def test_a_run_without_its_recordings_is_evaluated_with_the_scores_of_training(run, data, tmp_path, capsys, caplog):
    split = pd.read_csv(run / SPLIT)
    test = split[split["split"] == "test"]
    scores = pd.DataFrame(np.eye(3)[[0, 1, 2, 0]], columns=LABELS_OF_RUN, index=test["filename"])
    (run / "config.ini").write_text(f"[paths]\ndata_dir = {tmp_path / 'gone'}\n[testing]\ntesting = false\n")
    with pytest.raises(DataError, match="gone"):
        call("--run", run)
    scores.to_csv(run / TEST_SCORES)
    call("--run", run)
    assert "4 recordings" in capsys.readouterr().out
    assert "the scores of whole recordings are used" in caplog.text
    with pytest.raises(DataError, match="gone"):
        call("--run", run, "--fit-thresholds", "--f1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda run: (run / SUMMARY).unlink(),
            "this run is not finished; continue with: python train",
        ),
        (lambda run: (run / SPLIT).unlink(), "no such file; this is not a run that has begun to train"),
        (lambda run: (run / "config.ini").unlink(), "not a run; name"),
    ],
)
def test_a_run_that_cannot_be_scored_is_an_error_of_a_line(run, change, message):
    change(run)
    with pytest.raises(UserError, match=message):
        call("--run", run)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name --run, or --predictions with --labels"),
        (["--predictions", "x"], "--predictions needs --labels, and --labels needs --predictions"),
        (["--run", "x", "--fit-thresholds"], "--fit-thresholds needs an aim"),
        (["--run", "x", "--precision", "0.9", "--f1"], "choose one of"),
        (["--run", "x", "--precision", "1.5"], "1.5 is not between 0 and 1"),
        (["--predictions", "x", "--labels", "y", "--data", "z"], "need --run"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate.parse(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
