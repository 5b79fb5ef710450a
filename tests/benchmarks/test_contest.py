"""Are recipes compared on the same recordings, and is a contest that was stopped continued?"""

import csv
import json
import os
import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import contest, contest_table
from benchmarks.contest import main, plan_runs
from benchmarks.contest_table import mean_and_spread, pooled
from tests.forked import Forked
from training import folds
from training.folds import train_all
from training.planned_runs import is_complete
from utils.errors import ConfigError, DataError, UserError
from utils.interrupt import Interrupt, Stopped

RECIPE = """
[testing]
testing = false
[paths]
data_dir = data
[model]
type = {}
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
def folder(tmp_path_factory, demo):
    """Two recipes beside the data."""
    folder = tmp_path_factory.mktemp("contest")
    (folder / "data").symlink_to(demo)
    for name, model in (("a", "test_convnext"), ("b", "test_efficientnet")):
        (folder / f"{name}.ini").write_text(RECIPE.format(model))
    return folder


def command(folder, *more):
    configs = [str(folder / "a.ini"), str(folder / "b.ini")]
    return ["--configs", *configs, "--folds", "2", "--seeds", "1", "--output", str(folder / "out"), *more]


@pytest.fixture(scope="module")
def finished(folder, in_this_process):
    """A contest that was stopped while its second run was trained, and resumed: when its first run ended."""
    recipes = [folder / "a.ini", folder / "b.ini"]
    planned = list(plan_runs(recipes, 2, 1, folder / "out", []))
    with in_this_process():
        assert train_all(planned[:1], []) == 0
    process = Forked(["-m", "benchmarks.contest", *command(folder)], folder)
    until = time.monotonic() + 60
    while not list(folder.glob("out/b/seed1-fold1/*/config.ini")) and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    stopped = process.wait(60)
    assert stopped.returncode == 143, stopped.stderr
    first_left = "(b, seed 1, fold 1|a, seed 1, fold 2)"  # the latter if b was at its end
    assert re.fullmatch(f"stopped at {first_left}; continue with the same command", stopped.stderr.splitlines()[-1])
    assert not list(folder.glob("out/*/seed1-fold2"))
    (first,) = folder.glob("out/a/seed1-fold1/*/summary.json")
    ended = first.stat().st_mtime_ns
    with in_this_process(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(contest_table, "TIMED", 2)  # ten recordings take seconds
        assert main(command(folder)) == 0
    return first, ended


def rows(folder):
    with open(folder / "out/contest.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_finished_run_is_not_trained_again_and_a_stopped_one_keeps_its_folder(folder, finished):
    first, ended = finished
    assert first.stat().st_mtime_ns == ended
    assert len(list(folder.glob("out/*/seed1-fold*/*/config.ini"))) == 4
    assert [(row["recipe"], row["fold"]) for row in rows(folder)] == [("a", "1"), ("b", "1"), ("a", "2"), ("b", "2")]


@pytest.mark.usefixtures("finished")
def test_both_recipes_are_tested_on_every_recording_once_and_on_the_same_folds(folder):
    tested = {}
    for row in rows(folder):
        scores = pd.read_csv(Path(row["run"]) / "test_scores.csv")
        tested[row["recipe"], row["fold"]] = set(scores["filename"])
    assert tested["a", "1"] == tested["b", "1"]
    assert tested["a", "2"] == tested["b", "2"]
    assert not tested["a", "1"] & tested["a", "2"]
    assert len(tested["a", "1"] | tested["a", "2"]) == 24


@pytest.mark.usefixtures("finished")
def test_the_table_has_the_pooled_scores_and_the_costs(folder):
    runs = [Path(row["run"]) for row in rows(folder) if row["recipe"] == "a"]
    (line,) = [line for line in (folder / "out/contest.md").read_text().splitlines() if line.startswith("| a |")]
    cells = line.strip("| ").split(" | ")
    assert cells[1] == f"{pooled(runs)['macro_auc']:.3f}"
    mean, spread = mean_and_spread(float(row["macro_auc"]) for row in rows(folder) if row["recipe"] == "a")
    assert cells[4] == f"{mean:.3f} ± {spread:.3f}"
    assert cells[7] == "206,555"
    seconds = [json.loads((run / "summary.json").read_text())["seconds"] for run in runs]
    assert cells[8] == f"{sum(seconds) / len(seconds):.1f}"
    assert float(cells[9]) > 1  # x real time
    assert cells[10] == "2"
    assert (folder / "out/contest.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("finished")
def test_costs_that_cannot_be_measured_do_not_hide_the_scores(folder, monkeypatch, caplog, capsys):
    def refuse(*_, **__):
        raise UserError("no such backend")

    monkeypatch.setattr(contest_table, "Predictor", refuse)
    before = {name: (folder / "out" / name).read_bytes() for name in ("contest.csv", "contest.md", "contest.png")}
    try:
        assert main(command(folder)) == 0
        text = (folder / "out/contest.md").read_text()
        assert text in capsys.readouterr().out
    finally:
        for name, content in before.items():
            (folder / "out" / name).write_bytes(content)
    assert "a: its costs cannot be measured: no such backend" in caplog.text
    (line,) = [line for line in text.splitlines() if line.startswith("| a |")]
    assert line.strip("| ").split(" | ")[7::2] == ["206,555", "-"]


@pytest.mark.usefixtures("finished")
def test_runs_of_other_settings_are_not_compared(folder):
    with pytest.raises(DataError, match=r"was made with \[trainer\] n_epochs = 1, but now it is 2; choose another"):
        main(command(folder, "--set=trainer.n_epochs=2"))
    with pytest.raises(DataError, match=r"was made with \[agent\] optimizer = adamw, but now it is sgd"):
        main(command(folder, "--set=agent.optimizer=sgd"))


def cut(path):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))


def replaced(pattern, new):
    return lambda path: path.write_text(re.sub(pattern, new, path.read_text(), count=1))


DAMAGE = {
    "a row less": ("test_scores.csv", cut, r"test_scores.csv and split.csv differ by \d+ recordings"),
    "a digit less": (
        "test_scores.csv",
        lambda path: path.write_text(path.read_text()[:-2]),
        "test_scores.csv is truncated",
    ),
    "no score": ("test_scores.csv", replaced(r",0\.\d+\n", ",\n"), "a score that is not a number"),
    "a word": ("test_scores.csv", replaced(r",0\.\d+\n", ",good\n"), "could not convert string"),
    "another class": ("test_scores.csv", replaced("^filename,", "filename,x"), "other classes than labels.csv"),
    "half a summary": ("summary.json", cut, "Expecting"),
    "no such key": ("summary.json", replaced("test_macro_auc", "other"), "summary.json has no test_macro_auc"),
    "no labels": ("labels.csv", lambda path: path.write_text("\n"), "No columns to parse from file"),
    "a label less": ("labels.csv", cut, "labels.csv has 2 classes, summary.json 3"),
    "no split": ("split.csv", lambda path: path.unlink(), "No such file or directory"),
}


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_run_is_reported_and_does_not_count(folder, tmp_path, caplog, name):
    run = Path(shutil.copytree(folder / "out" / "a" / "seed1-fold2", tmp_path / "run"))
    planned = replace(some_runs(folder)[0], folder=run)
    assert is_complete(planned)
    file, damage, why = DAMAGE[name]
    damage(planned.run / file)
    assert not is_complete(planned)
    (line,) = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(
        f"{re.escape(str(planned.run))}: damaged \\(.*{why}.*\\); remove this folder, and the run .*", line
    )


@pytest.mark.usefixtures("finished")
def test_a_damaged_run_does_not_hide_the_scores_of_the_others(folder, tmp_path, monkeypatch, caplog):
    output = Path(shutil.copytree(folder / "out", tmp_path / "out"))
    cut(next(output.glob("b/seed1-fold1/*/test_scores.csv")))
    monkeypatch.setattr(contest, "costs_of", lambda *_: {"parameters": None, "speed": None, "backend": None})
    assert main(command(folder, "--output", str(output))) == 1
    assert "remove this folder, and the run is trained again" in caplog.text
    lines = (output / "contest.md").read_text().splitlines()
    assert any(re.match(r"\| a \| 0\.", line) for line in lines)
    assert any(re.match(r"\| b \| - \|", line) for line in lines)  # one fold of two: nothing to pool
    config = next(output.glob("b/seed1-fold2/*/config.ini"))
    config.write_text("nonsense")
    with pytest.raises(DataError, match=rf"{config.parent}: damaged \(config.ini: line 1: .*remove this folder"):
        main(command(folder, "--output", str(output)))


def test_recipes_whose_folds_would_differ_are_refused(folder, tmp_path):
    (tmp_path / "b.ini").write_text((folder / "b.ini").read_text().replace("[data]", "[data]\nduplicates = drop"))
    recipes = [str(folder / "a.ini"), str(tmp_path / "b.ini")]
    line = ["--configs", *recipes, "--output", str(tmp_path / "out"), f"--set=paths.data_dir={folder / 'data'}"]
    with pytest.raises(ConfigError) as error:
        main(line)
    text = "a has keep; other recordings make other folds. Choose one with --set data.duplicates="
    assert str(error.value) == f"b [data] duplicates = 'drop': {text}"
    with pytest.raises(ConfigError, match=r"\[data\] folds = '99': the recordings have only \d+ groups"):
        main([*line, "--set=data.duplicates=keep", "--folds", "99"])
    assert not (tmp_path / "out").exists()


def some_runs(folder, seeds=1):
    return list(plan_runs([folder / "a.ini", folder / "b.ini"], 2, seeds, folder / "other", []))


def test_recipes_take_turns_and_each_run_has_its_own_seed_and_fold(folder):
    runs = some_runs(folder, seeds=2)
    assert [str(planned) for planned in runs[:3]] == ["a, seed 1, fold 1", "b, seed 1, fold 1", "a, seed 1, fold 2"]
    assert len({(planned.recipe, planned.seed, planned.fold) for planned in runs}) == len(runs) == 8
    assert {"trainer.seed=2", "data.folds=2", "data.fold=1"} < set(runs[4].overrides)


def test_a_run_that_fails_is_reported_and_the_others_are_trained(folder, monkeypatch, caplog):
    tried = []

    def fail(planned, lock, jobs, interrupt):
        tried.append(str(planned))
        planned.folder.mkdir(parents=True, exist_ok=True)
        (planned.folder / "output.txt").write_text("preparing\nout of memory\n\n")
        return 0 if planned.recipe == "b" else 1

    monkeypatch.setattr(folds, "_train", fail)
    assert train_all(some_runs(folder), 0) == 4
    assert len(tried) == 4
    assert "run 1 of 4: a, seed 1, fold 1: failed with exit code 1: out of memory (its output: " in caplog.messages[0]
    assert caplog.messages[1].endswith("stopped by [trainer] max_minutes; continue with the same command")


def test_a_run_that_was_stopped_is_resumed(tmp_path, monkeypatch):
    lines = []

    class Process:
        def __init__(self, line, **_):
            lines.append(line)

        def wait(self):
            return 0

        def terminate(self):
            pass

    monkeypatch.setattr(folds.subprocess, "Popen", Process)
    planned = replace(some_runs(tmp_path)[0], overrides=("trainer.num_workers=0",))
    folds._train(planned, 0, 1, Interrupt())
    run = planned.folder / "20260101-000000-x"
    run.mkdir()
    (run / "config.ini").touch()
    folds._train(planned, 0, 1, Interrupt())
    assert [line[2:] for line in lines] == [
        ["--config", tmp_path / "a.ini", "--set=trainer.num_workers=0"],
        ["--resume", run, "--set=trainer.num_workers=0"],
    ]


@pytest.mark.parametrize("jobs", [1, 2])
def test_as_many_runs_as_jobs_are_trained_at_once(folder, monkeypatch, jobs):
    at_work, most = [], []

    def train(planned, lock, jobs, interrupt):
        at_work.append(planned)
        most.append(len(at_work))
        time.sleep(0.1)
        at_work.remove(planned)
        return 0

    monkeypatch.setattr(folds, "_train", train)
    monkeypatch.setattr(folds, "_call", lambda *_: 0)  # that fills the caches
    monkeypatch.setattr(folds, "_reason", lambda planned, code: "")
    train_all(some_runs(folder), 0, jobs)
    assert len(most) == 4
    assert max(most) == jobs


def test_a_stop_while_the_caches_are_filled_starts_nothing_more(folder, monkeypatch):
    calls = []

    def call(planned, what, lock, jobs, interrupt):
        calls.append(planned.recipe)
        if len(calls) == 1:  # a second signal ends the process
            os.kill(os.getpid(), signal.SIGTERM)
        return 0

    monkeypatch.setattr(folds, "_call", call)
    with pytest.raises(Stopped, match="continue with the same command"):
        train_all(some_runs(folder), 0, 2)
    assert calls == ["a"]


@pytest.mark.parametrize("folds", ["0", "-2", "1", "two"])
def test_fewer_than_two_folds_are_refused_in_one_line(folder, capsys, folds):
    with pytest.raises(SystemExit):
        main(command(folder, "--folds", folds))
    assert f"argument --folds: '{folds}' is not a whole number of at least 2" in capsys.readouterr().err


def test_two_contests_cannot_be_in_one_folder(tmp_path):
    with folds.alone_in(tmp_path), pytest.raises(DataError, match="another command"), folds.alone_in(tmp_path):
        pass
    with folds.alone_in(tmp_path):
        pass


def test_wrong_settings_of_all_recipes_are_reported_before_anything_is_run(folder):
    (folder / "c.ini").write_text("[agent]\noptimizer = adamv\n")
    line = ["--configs", str(folder / "a.ini"), str(folder / "c.ini"), str(folder / "c.ini"), "--folds", "2"]
    with pytest.raises(ConfigError) as error:
        main([*line, "--output", str(folder / "wrong"), "--set=trainer.seed=7"])
    problems = str(error.value).splitlines()
    assert problems[0] == "--set [trainer] seed: is set by the contest; use --seeds"
    assert problems[1] == "c: two recipes have this name; rename one"
    assert problems[2].startswith("c.ini [agent] optimizer = 'adamv': unknown")
    assert len(problems) == 3
    assert not (folder / "wrong").exists()
