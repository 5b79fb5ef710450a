"""Does the program do its job from the command line, as a person would use it?"""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from dataloader.demo import make_demo
from tests.forked import run_forked
from utils.files import host

ROOT = Path(__file__).parents[1]
BIRDS = Path(os.environ.get("BIRDS_DIR") or ROOT.parent / "shared" / "birds")
SMALL = {
    "model.type": "test_convnext",
    "model.transfer_learning": "false",
    "data_process.n_mels": "32",
    "data_process.max_length_s": "3",
    "data.num_workers": "1",
    "data.multi_threading": "true",
    "trainer.n_epochs": "2",
    "trainer.batch_size_train": "8",
    "agent.lr_warmup_epochs": "1",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a demo in it, where all runs of this file share one cache."""
    folder = tmp_path_factory.mktemp("place")
    make_demo(folder / "data", species=3, recordings=10)
    return folder


def command(place, *arguments, script="train_classifier.py", **settings):
    folders = {
        "paths.data_dir": place / "data",
        "paths.runs_dir": place / "runs",
        "paths.demo_dir": place / "demo",
        "data.output_dir": place / "cache",
        "data.hash_path": place / "cache/last_key",
    }
    chosen = {} if "--resume" in arguments else folders | SMALL
    sets = [f"--set={name}={value}" for name, value in (chosen | settings).items()]
    return [sys.executable, str(ROOT / script), *arguments, *sets]


def run(line, code=0):
    """Run a command to its end; where it is one process, by a fork, which costs less than the imports."""
    if line[1] == "-m":  # torchrun
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=240)
    else:
        with tempfile.TemporaryDirectory() as folder:
            done = run_forked(line[1:], Path(folder), cwd=ROOT, timeout=240)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def run_folder(done) -> Path:
    return Path(re.fullmatch(r"run: (.+)", done.stdout.splitlines()[-1])[1])


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(place):
    done = run(command(place))
    return run_folder(done), done


def test_a_run_leaves_the_files_it_promises(finished):
    folder, _ = finished
    names = {"config.ini", "labels.csv", "split.csv", "metrics.csv", "best.pt", "last.pt", "summary.json", "log.txt"}
    assert names | {"test_scores.csv"} <= {path.name for path in folder.iterdir()}
    assert re.fullmatch(r"\d{8}-\d{6}-test_convnext", folder.name)
    rows = rows_of(folder)
    assert list(rows[0]) == ["epoch", "lr", "train_loss", "val_loss", "val_macro_auc", "val_top1", "val_cmap"]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["n_classes"] == 3
    assert summary["n_train"] + summary["n_val"] + summary["n_test"] == 30
    assert summary["test_macro_auc"] is not None
    with open(folder / "test_scores.csv", newline="") as file:
        scores = {row.pop("filename"): row for row in csv.DictReader(file)}
    with open(folder / "split.csv", newline="") as file:
        tested = {row["filename"]: row["label"] for row in csv.DictReader(file) if row["split"] == "test"}
    assert scores.keys() == tested.keys()
    right = [max(row, key=lambda label: float(row[label])) == tested[name] for name, row in scores.items()]
    assert summary["test_top1"] == pytest.approx(sum(right) / len(right))
    state = torch.load(folder / "best.pt", weights_only=True)
    assert {"model", "model_type", "optimizer", "scheduler", "epoch", "labels", "data_process"} <= state.keys()


def test_a_second_start_prepares_nothing_and_gives_the_same_numbers_with_two_workers(place, finished):
    folder, _ = finished
    again = run(command(place, **{"trainer.num_workers": 2}))
    assert "preparing" not in again.stderr
    assert run_folder(again) != folder
    assert (run_folder(again) / "metrics.csv").read_bytes() == (folder / "metrics.csv").read_bytes()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_killed_with_9_goes_on_and_ends_the_same(place, finished, workers):
    folder, _ = finished
    line = command(place, **{"trainer.save_every_minutes": 1e-9, "trainer.num_workers": workers})
    process = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for told in process.stderr:
        if told.startswith("epoch 1/2"):
            break
    time.sleep(0.1)  # the line comes before the save, so what goes on may be either epoch
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = max((place / "runs").iterdir())
    assert not (killed / "summary.json").exists()
    done = run(command(place, "--resume", str(killed)))
    assert run_folder(done) == killed
    assert re.search("continuing at epoch [12], step", done.stderr)
    assert (killed / "metrics.csv").read_bytes() == (folder / "metrics.csv").read_bytes()
    ours, theirs = (torch.load(each / "last.pt")["model"] for each in (killed, folder))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_signal_to_the_whole_group_stops_a_run_with_workers_after_its_step(place):
    settings = {"trainer.n_epochs": 2000, "trainer.num_workers": 1}
    process = subprocess.Popen(
        command(place, **settings), cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        for told in process.stderr:
            if told.startswith("epoch 1/2000"):
                break
        os.killpg(process.pid, signal.SIGTERM)  # as torchrun and batch systems do
        _, told = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):  # as it should be
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 143, told
    assert "Traceback" not in told
    assert (max((place / "runs").iterdir()) / "last.pt").is_file()


def test_a_run_of_random_crops_and_balanced_classes_goes_on_in_the_middle_with_other_workers(place):
    settings = {
        "augmentation.augment_random_crop": "true",
        "data.segment_max_s": 4,
        "data.crops_per_segment": 2,
        "data.keep_quietest": 0.8,
        "data.balance_power": 0.5,
        "data.rare_to": 6,
        "data.class_cap": 7,
        "labels.secondary": "mask",
        "labels.smoothing": 0.1,
        "data.group_by": "author",
    }
    whole = run_folder(run(command(place, **settings)))
    run(command(place, **settings, **{"trainer.max_minutes": 1e-6}))  # ends after a step
    stopped = max((place / "runs").iterdir())
    assert stopped != whole
    run(command(place, "--resume", str(stopped), **{"trainer.max_minutes": 0, "trainer.num_workers": 2}))
    assert (stopped / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["n_train"] + summary["n_val"] + summary["n_test"] < 30  # the loudest are left out


def test_a_finished_run_says_so_and_gets_the_page_that_it_may_lack(place, finished):
    (finished[0] / "report.html").unlink()
    done = run(command(place, "--resume", str(finished[0])))
    assert (finished[0] / "report.html").is_file()
    assert "this run is finished" in done.stderr
    assert run_folder(done) == finished[0]


def test_a_finished_run_is_made_longer(place, finished):
    longer = place / "longer"
    shutil.copytree(finished[0], longer)
    leftover = longer / f".last.pt.{host()}.999999999.tmp"  # as of a kill -9 while it was saved
    leftover.touch()
    more = {"trainer.n_epochs": 3, "trainer.save_every_minutes": 1e-9, "trainer.max_minutes": 1e-6}  # a step
    run(command(place, "--resume", str(longer), **more))
    assert not leftover.exists()
    assert not (longer / "summary.json").exists()
    done = run(command(place, "--resume", str(longer), **{"trainer.max_minutes": 0}))
    assert "continuing at epoch 3, step 1" in done.stderr
    assert [row["epoch"] for row in rows_of(longer)] == ["1", "2", "3"]
    assert "this run is finished" in run(command(place, "--resume", str(longer))).stderr
    assert "this run is finished" in run(command(place, "--resume", str(longer), **{"trainer.n_epochs": 2})).stderr


def test_two_processes_score_like_one(place, monkeypatch):
    """LayerNorm and no augmentation: what a process does depends on nothing but its share of the batch."""
    settings = {"augmentation.data_augmentation": "false", "trainer.n_epochs": 2}
    one = run_folder(run(command(place, **settings)))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    monkeypatch.setenv("TMPDIR", str(place))  # torchrun leaves a folder there
    two = run_folder(run(launcher + command(place, **settings)[1:]))
    for ours, theirs in zip(rows_of(one), rows_of(two), strict=True):
        for name in ours:
            assert float(ours[name]) == pytest.approx(float(theirs[name]), abs=1e-5), name


def test_one_process_that_dies_ends_the_others_and_one_goes_on_alone(place, monkeypatch):
    psutil = pytest.importorskip("psutil")
    monkeypatch.setenv("TMPDIR", str(place))
    settings = {"trainer.n_epochs": 2000, "trainer.save_every_minutes": 1e-9}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    line = launcher + command(place, **settings)[1:]
    parent = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for told in parent.stderr:
        if told.startswith("epoch 1/2000"):
            break
    folder = max((place / "runs").iterdir())
    ranks = psutil.Process(parent.pid).children()
    ranks[-1].kill()
    _, told = parent.communicate(timeout=60)
    assert parent.returncode
    assert "SIGKILL" in told or "Signal 9" in told, told
    done = run(command(place, "--resume", str(folder), **{"trainer.max_minutes": 1e-6}))
    assert "continuing at epoch" in done.stderr


def test_what_cannot_change_in_a_run_is_refused(place, finished):
    done = run(
        command(place, "--resume", str(finished[0]), **{"agent.optimizer": "sgd", "data.train_ratio": 0.5}), code=2
    )
    assert "--set [agent] optimizer = 'sgd': cannot change in a run that has begun (it is adamw)" in done.stderr
    assert "[data] train_ratio" in done.stderr


def test_one_report_has_every_mistake_and_nothing_is_begun(place):
    done = run(command(place, **{"agent.optimizer": "adamv", "trainer.n_epochs": "many"}), code=2)
    assert done.stderr.splitlines() == [
        "--set [trainer] n_epochs = 'many': not a whole number",
        "--set [agent] optimizer = 'adamv': unknown; did you mean 'adam'? Known: adam, adamw, sgd, radam",
    ]


def test_no_data_and_no_testing_names_the_two_ways_to_data(place):
    settings = {"testing.testing": "false", "paths.data_dir": place / "nowhere"}
    done = run(command(place, **settings), code=1)
    assert "download_data.sh" in done.stderr
    assert "python -m dataloader.demo" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (place / "nowhere").exists()


def test_an_output_folder_that_cannot_be_made_is_one_line(place):
    (place / "file").write_text("")
    done = run(command(place, **{"data.output_dir": place / "file/cache"}), code=1)
    assert "a file, not a folder" in done.stderr


@pytest.mark.skipif(not BIRDS.is_dir(), reason="no real recordings: set BIRDS_DIR")
def test_real_recordings_go_all_the_way(place):
    settings = {
        "testing.data_samples_for_testing": 60,
        "paths.data_dir": BIRDS,
        "trainer.n_epochs": 1,
        "agent.lr_warmup_epochs": 0,
        "data.num_workers": 2,
    }
    summary = json.loads((run_folder(run(command(place, **settings))) / "summary.json").read_text())
    assert summary["n_classes"] >= 2
    assert summary["audio_hours"] > 0.3
    assert summary["test_macro_auc"] is not None
