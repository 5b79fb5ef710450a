"""Does the program do its job from the command line, as a person would use it?"""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest
import torch

from tests.forked import ROOT, Forked
from utils.files import host

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


# The page of a run is tested in tests/reports, and takes as long as an epoch here.
WITHOUT_PAGE = """
import train_classifier
from utils.command import run_command
train_classifier.write_page = lambda *_: None
run_command(train_classifier.main)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, demo):
    """A folder with the data in it, where all runs of this file share one cache."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "data").symlink_to(demo)
    return folder


def command(place, *arguments, script=("-c", WITHOUT_PAGE), **settings):
    """What follows ``python``."""
    folders = {
        "paths.data_dir": place / "data",
        "paths.runs_dir": place / "runs",
        "paths.demo_dir": place / "demo",
        "data.output_dir": place / "cache",
        "data.hash_path": place / "cache/last_key",
    }
    chosen = {} if "--resume" in arguments else folders | SMALL
    sets = [f"--set={name}={value}" for name, value in (chosen | settings).items()]
    return [*script, *arguments, *sets]


SCRIPT = (str(ROOT / "train_classifier.py"),)


@pytest.fixture
def start(tmp_path_factory):
    """Start a command by a fork, which costs less than its imports."""
    commands = []

    def start(line, **options):
        commands.append(Forked(line, tmp_path_factory.mktemp("output"), **options))
        return commands[-1]

    yield start
    for command in commands:  # nothing is left behind by a test that fails
        command.kill()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run a command to its end."""

    def run(line, code=0):
        return ended(Forked(line, tmp_path_factory.mktemp("output")), code)

    return run


def ended(command, code=0):
    done = command.wait()
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def run_folder(done) -> Path:
    return Path(re.fullmatch(r"run: (.+)", done.stdout.splitlines()[-1])[1])


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(place, run):
    done = run(command(place, script=SCRIPT))
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
    assert summary["n_train"] + summary["n_val"] + summary["n_test"] == 24
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


def test_a_second_start_prepares_nothing_and_gives_the_same_numbers_with_two_workers(place, finished, run):
    folder, _ = finished
    again = run(command(place, **{"trainer.num_workers": 2}))
    assert "preparing" not in again.stderr
    assert run_folder(again) != folder
    assert (run_folder(again) / "metrics.csv").read_bytes() == (folder / "metrics.csv").read_bytes()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_killed_with_9_continues_and_ends_the_same(place, finished, run, start, workers):
    folder, _ = finished
    process = start(command(place, **{"trainer.save_every_minutes": 1e-9, "trainer.num_workers": workers}))
    process.wait_for("epoch 1/2")
    time.sleep(0.1)  # the line comes before the save, so the run may continue at either epoch
    process.kill()
    assert process.wait().returncode == -signal.SIGKILL
    killed = max((place / "runs").iterdir())
    assert not (killed / "summary.json").exists()
    done = run(command(place, "--resume", str(killed)))
    assert run_folder(done) == killed
    assert re.search("continuing at epoch [12], step", done.stderr)
    assert (killed / "metrics.csv").read_bytes() == (folder / "metrics.csv").read_bytes()
    ours, theirs = (torch.load(each / "last.pt")["model"] for each in (killed, folder))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_signal_to_the_whole_group_stops_a_run_with_workers_after_its_step(place, start):
    process = start(command(place, **{"trainer.n_epochs": 2000, "trainer.num_workers": 1}), own_session=True)
    try:
        process.wait_for("epoch 1/2000")
        os.killpg(process.pid, signal.SIGTERM)  # as torchrun and batch systems do
        done = process.wait(60)
    finally:
        with contextlib.suppress(ProcessLookupError):  # as it should be
            os.killpg(process.pid, signal.SIGKILL)
    assert done.returncode == 143, done.stderr
    assert "Traceback" not in done.stderr
    assert (max((place / "runs").iterdir()) / "last.pt").is_file()


def test_a_run_of_random_crops_and_balanced_classes_continues_in_the_middle_with_other_workers(place, run):
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
    assert summary["n_train"] + summary["n_val"] + summary["n_test"] < 24  # the loudest are left out


def test_a_finished_run_is_reported_and_gets_the_page_that_it_may_lack(place, finished, run):
    (finished[0] / "report.html").unlink()
    done = run(command(place, "--resume", str(finished[0]), script=SCRIPT))
    assert (finished[0] / "report.html").is_file()
    assert "this run is finished" in done.stderr
    assert run_folder(done) == finished[0]


def test_a_finished_run_is_made_longer(place, finished, run):
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


def test_two_processes_score_like_one(place, run, start):
    """LayerNorm and no augmentation: what a process does depends on nothing but its share of the batch."""
    line = command(place, **{"augmentation.data_augmentation": "false"})
    one = run_folder(run(line))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [start(line, environment=as_by_torchrun(rank, port)) for rank in range(2)]
    first, second = map(ended, started)
    assert not second.stdout
    for ours, theirs in zip(rows_of(one), rows_of(run_folder(first)), strict=True):
        for name in ours:
            assert float(ours[name]) == pytest.approx(float(theirs[name]), abs=1e-5), name


def as_by_torchrun(rank, port):
    """The variables that torchrun gives to each of two processes."""
    ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return ranks | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def test_one_process_of_torchrun_that_dies_ends_the_others_and_one_continues_alone(place, run, start):
    psutil = pytest.importorskip("psutil")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    settings = {"trainer.n_epochs": 2000, "trainer.save_every_minutes": 1e-9}
    # torchrun leaves a folder there
    parent = start([*launcher, *command(place, script=SCRIPT, **settings)], environment={"TMPDIR": str(place)})
    parent.wait_for("epoch 1/2000")
    folder = max((place / "runs").iterdir())
    ranks = psutil.Process(parent.pid).children()
    ranks[-1].kill()
    done = parent.wait(60)
    assert done.returncode
    assert "SIGKILL" in done.stderr or "Signal 9" in done.stderr, done.stderr
    done = run(command(place, "--resume", str(folder), **{"trainer.max_minutes": 1e-6}))
    assert "continuing at epoch" in done.stderr


def test_what_cannot_change_in_a_run_is_refused(place, finished, run):
    done = run(
        command(place, "--resume", str(finished[0]), **{"agent.optimizer": "sgd", "data.train_ratio": 0.5}), code=2
    )
    assert "--set [agent] optimizer = 'sgd': cannot change in a run that has begun (it is adamw)" in done.stderr
    assert "[data] train_ratio" in done.stderr


def test_one_report_has_every_mistake_and_nothing_is_begun(place, run):
    done = run(command(place, **{"agent.optimizer": "adamv", "trainer.n_epochs": "many"}), code=2)
    assert done.stderr.splitlines() == [
        "--set [trainer] n_epochs = 'many': not a whole number",
        "--set [agent] optimizer = 'adamv': unknown; did you mean 'adam'? Known: adam, adamw, sgd, radam",
    ]


def test_without_data_and_testing_the_message_names_two_ways_to_data(place, run):
    settings = {"testing.testing": "false", "paths.data_dir": place / "nowhere"}
    done = run(command(place, **settings), code=1)
    assert "download_data.sh" in done.stderr
    assert "python -m dataloader.demo" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (place / "nowhere").exists()


def test_an_output_folder_that_cannot_be_made_is_one_line(place, run):
    (place / "file").write_text("")
    done = run(command(place, **{"data.output_dir": place / "file/cache"}), code=1)
    assert "a file, not a folder" in done.stderr


@pytest.mark.skipif(not BIRDS.is_dir(), reason="no real recordings: set BIRDS_DIR")
def test_real_recordings_go_all_the_way(place, run):
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
