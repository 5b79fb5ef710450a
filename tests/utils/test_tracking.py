"""What a run leaves behind: the same bytes from equal runs, and nothing that a tracker's failure can spoil."""

import base64
import csv
import json
import logging
import math
import os
import subprocess
import sys
import threading
import time
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from utils.errors import DataError
from utils.local_files import COLUMNS, LocalFiles
from utils.neptune_tracker import Neptune
from utils.settings import Callbacks, Config, Source
from utils.tracker import HeldOutScores, public_settings
from utils.tracking import TRACKERS, Guarded, build_trackers

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-nobody-may-see"
ONLINE = Callbacks(neptune_logger=True, neptune_mode="online", neptune_project="birds/songs", neptune_token=TOKEN)


def row(epoch: int, **changes) -> dict:
    scores = {"lr": 0.1 / 3, "train_loss": 1 / epoch, "val_loss": 0.5, "val_macro_auc": 0.7, "val_top1": 0.25}
    return {"epoch": epoch, **scores, "val_cmap": 0.125, "seconds": 12.5, "windows_per_second": 99.0} | changes


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# Local files


def test_the_table_has_the_promised_columns_and_no_clock(tmp_path):
    LocalFiles(tmp_path).log_epoch(row(1))
    table = rows_of(tmp_path / "metrics.csv")
    assert list(table[0]) == ["epoch", "lr", "train_loss", "val_loss", "val_macro_auc", "val_top1", "val_cmap"]
    assert float(table[0]["lr"]) == 0.1 / 3  # to the last bit


def test_equal_runs_give_equal_bytes_whatever_their_speed_and_number_types(tmp_path):
    for name, kind, seconds in (("a", float, 1.0), ("b", np.float64, 2.0)):
        (tmp_path / name).mkdir()
        LocalFiles(tmp_path / name).log_epoch(row(1, train_loss=kind(0.1), seconds=seconds))
    assert (tmp_path / "a/metrics.csv").read_bytes() == (tmp_path / "b/metrics.csv").read_bytes()


@pytest.mark.parametrize("nothing", [None, math.nan, np.float32("nan"), math.inf])
def test_a_score_that_is_not_there_is_an_empty_cell_and_a_null(tmp_path, nothing):
    LocalFiles(tmp_path).log_epoch(row(1, val_cmap=nothing))
    assert rows_of(tmp_path / "metrics.csv")[0]["val_cmap"] == ""
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["val_cmap"] is None


def test_the_json_lines_hold_the_whole_row(tmp_path):
    files = LocalFiles(tmp_path)
    files.log_epoch(row(1))
    files.log_epoch(row(2, seconds=3.5))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [row(1), row(2, seconds=3.5)]


def test_the_summary_is_json_without_nan(tmp_path):
    summary = {
        "test_macro_auc": math.nan,
        "n_classes": np.int64(3),
        "run": tmp_path,
        "per_class": [np.float32(0.5), None],
    }
    LocalFiles(tmp_path).log_summary(summary)
    read = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    assert read == {"test_macro_auc": None, "n_classes": 3, "run": str(tmp_path), "per_class": [0.5, None]}


def test_a_resumed_run_keeps_the_epochs_done_and_makes_the_later_ones_again(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    files = LocalFiles(whole)
    for epoch in (1, 2, 3, 4):
        files.log_epoch(row(epoch))

    files = LocalFiles(stopped)
    for epoch in (1, 2, 3):  # the third row was written, its checkpoint was not
        files.log_epoch(row(epoch, train_loss=epoch / 3 if epoch == 3 else 1 / epoch))
    files = LocalFiles(stopped, keep_epochs=2)
    assert [line["epoch"] for line in rows_of(stopped / "metrics.csv")] == ["1", "2"]
    for epoch in (3, 4):
        files.log_epoch(row(epoch))
    for name in ("metrics.csv", "metrics.jsonl"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()


def test_a_run_that_starts_anew_leaves_no_old_rows(tmp_path):
    LocalFiles(tmp_path).log_epoch(row(1))
    LocalFiles(tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == ",".join(COLUMNS) + "\n"
    assert (tmp_path / "metrics.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("name", "line"), [("metrics.csv", "2,0.1"), ("metrics.csv", "two,,,,,,"), ("metrics.jsonl", '{"lr": 1}')]
)
def test_a_damaged_table_is_named_with_its_line(tmp_path, name, line):
    LocalFiles(tmp_path).log_epoch(row(1))
    with (tmp_path / name).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=rf"{name}: line \d is not a row of scores"):
        LocalFiles(tmp_path, keep_epochs=2)


# Neptune, as it is: one start of the real client serves all the claims about it


REAL_CLIENT = """
import logging, multiprocessing, random, sys
from pathlib import Path
from utils.command import log_to_stderr
from utils.settings import Callbacks, Config
from utils.tracking import build_trackers

log_to_stderr()
random.seed(1)
before = sys.excepthook, random.getstate()
for mode in ("offline", "debug"):
    callbacks = Callbacks(neptune_logger=True, neptune_mode=mode, neptune_token=sys.argv[1])
    Path(mode).mkdir()
    trackers = build_trackers(callbacks, mode, Config(callbacks=callbacks))
    assert len(trackers) == 2
    for epoch in (1, 2):
        for tracker in trackers:
            tracker.log_epoch({"epoch": epoch, "train_loss": 0.5, "val_loss": None, "val_cmap": float("nan")})
        if sys.platform == "linux":
            worker = multiprocessing.get_context("fork").Process(target=int)
            worker.start()
            worker.join()
    for tracker in trackers:
        tracker.log_summary({"best_epoch": 2, "test_top1": None, "names": ["a", "b"]})
        if mode == "offline":  # the other one is left to the end of the process
            tracker.close()
assert before == (sys.excepthook, random.getstate())
logging.getLogger("neptune").warning("connection lost")  # as the client's threads may
"""


@pytest.fixture(scope="module")
def real_client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real_client")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NEPTUNE_")}
    command = [sys.executable, "-W", "default", "-c", REAL_CLIENT, TOKEN]
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="module")
def operations(real_client):
    """What the offline run would send: ``(path, value)`` in order."""
    folder, _ = real_client
    found = []
    for log in folder.glob("offline/.neptune/offline/run__*/data-*.log"):
        for line in log.read_text().splitlines():
            operation = json.loads(line)["obj"]
            values = operation.get("values") or [operation]
            found += [("/".join(operation["path"]), value.get("step"), value.get("value")) for value in values]
    return found


def test_the_real_client_makes_no_noise_and_its_warnings_go_where_ours_go(real_client):
    _, done = real_client
    assert (done.stdout, done.stderr) == ("", "warning: connection lost\n")


def test_offline_data_stays_in_the_run_folder(real_client):
    folder, _ = real_client
    assert sorted(path.name for path in folder.iterdir()) == ["debug", "offline"]
    assert not [path for path in folder.glob("debug/.neptune/**/*") if path.is_file()]


def test_the_real_client_receives_settings_scores_and_summary(operations):
    assert ("config/trainer/n_epochs", None, Config().trainer.n_epochs) in operations
    assert [entry for entry in operations if entry[0].startswith("epochs/")] == [
        ("epochs/train_loss", 1, 0.5),
        ("epochs/train_loss", 2, 0.5),
    ]
    summary = [entry for entry in operations if entry[0].startswith("summary/")]
    assert summary == [("summary/best_epoch", None, 2), ("summary/names", None, "['a', 'b']")]


def test_a_forked_loader_writes_nothing_twice(operations):
    assert len(operations) == len(set(operations))


def test_the_token_is_in_no_file(real_client):
    folder, _ = real_client
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 6
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]


# Neptune, when it fails: a stand-in for the client


class StandIn:
    """A client's run that keeps what it receives."""

    def __init__(self, **arguments):
        self.arguments = arguments
        self.received = {}
        self.stopped = threading.Event()

    def __setitem__(self, path, value):
        self.received[path] = value

    def __getitem__(self, path):
        return types.SimpleNamespace(fetch=lambda: "SONGS-7", append=lambda value, step: None)

    def wait(self, *, disk_only):
        assert disk_only

    def stop(self, *, seconds):
        self.stopped.set()


@pytest.fixture
def client(monkeypatch):
    """Put ``init_run`` in the place of the real client's; gives the list of runs it made."""

    def install(kind: type = StandIn) -> list:
        runs = []

        def init_run(**arguments):
            runs.append(kind(**arguments))
            return runs[-1]

        monkeypatch.setitem(sys.modules, "neptune", types.SimpleNamespace(init_run=init_run))
        return runs

    return install


def warnings_of(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def build(tmp_path, callbacks=ONLINE) -> list:
    return build_trackers(callbacks, tmp_path, Config(callbacks=callbacks))


def test_without_neptune_its_package_is_not_imported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "neptune", None)  # any import of it would fail
    assert [type(tracker) for tracker in build(tmp_path, Callbacks())] == [LocalFiles]


def test_a_package_that_is_not_installed_is_one_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "neptune", None)
    assert [type(tracker) for tracker in build(tmp_path)] == [LocalFiles]
    (warning,) = warnings_of(caplog)
    assert warning.startswith("neptune: ")
    assert warning.endswith("; training continues without it")


def test_a_client_that_cannot_start_is_one_warning_of_one_line_without_the_token(tmp_path, client, caplog):
    class Refusing(StandIn):
        def __init__(self, **arguments):
            raise RuntimeError(f"\n\x1b[95m\n----Refused----\n\x1b[0m\nNo such token: {TOKEN}.\nMore advice\n")

    client(Refusing)
    assert len(build(tmp_path)) == 1
    assert warnings_of(caplog) == ["neptune: No such token: (secret); training continues without it"]


def test_a_tracker_that_fails_is_warned_of_once_and_left_alone(tmp_path, client, caplog):
    class Failing(StandIn):
        asked = 0

        def __getitem__(self, path):
            if path.startswith("epochs"):
                Failing.asked += 1
                raise ConnectionError("the server went away")
            return super().__getitem__(path)

    client(Failing)
    local, neptune = build(tmp_path)
    for epoch in (1, 2, 3):
        local.log_epoch(row(epoch))
        neptune.log_epoch(row(epoch))
    neptune.close()
    assert Failing.asked == 1
    assert warnings_of(caplog) == ["neptune: the server went away; training continues without it"]
    assert len(rows_of(tmp_path / "metrics.csv")) == 3


def test_only_exceptions_are_taken_with_patience():
    class Interrupted:
        def log_epoch(self, row):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Guarded(Interrupted, "a").log_epoch(row(1))


def test_a_stop_that_hangs_is_given_up_in_time(tmp_path, client, caplog):
    release = threading.Event()

    class Hanging(StandIn):
        def stop(self, *, seconds):
            release.wait(60)

    client(Hanging)
    tracker = Guarded(lambda: Neptune(ONLINE, tmp_path, Config(), stop_seconds=0.05), "neptune")
    start = time.monotonic()
    tracker.close()
    release.set()
    assert time.monotonic() - start < 10
    assert warnings_of(caplog) == ["neptune: its data was not sent within 0.05 s; training continues without it"]


def test_a_stop_that_fails_is_reported(tmp_path, client, caplog):
    class Failing(StandIn):
        def stop(self, *, seconds):
            raise ConnectionError("no route to host")

    client(Failing)
    build(tmp_path)[1].close()
    assert warnings_of(caplog) == ["neptune: no route to host; training continues without it"]


@pytest.mark.parametrize("method", ["__init__", "log_epoch", "log_test", "log_summary", "close"])
@pytest.mark.parametrize("fault", ["raises", "hangs"])
def test_a_tracker_that_raises_or_hangs_anywhere_costs_one_warning_and_its_patience(caplog, method, fault):
    release, called = threading.Event(), []

    def fails(*_):
        called.append(method)
        if fault == "raises":
            raise OSError(f"no route to host with {TOKEN}")
        release.wait(60)

    methods = {name: lambda *_: None for name in ("log_epoch", "log_test", "log_summary", "close")}
    started = time.monotonic()
    tracker = Guarded(type("Bad", (), methods | {method: fails}), "bad", TOKEN, start_seconds=0.05, seconds=0.05)
    for _ in range(3):
        tracker.log_epoch(row(1))
    tracker.log_test(None)
    tracker.log_summary({})
    tracker.close()
    release.set()
    assert time.monotonic() - started < 10
    assert called == [method]
    why = "no route to host with (secret)" if fault == "raises" else "no answer within 0.05 s"
    assert warnings_of(caplog) == [f"bad: {why}; training continues without it"]


def test_the_token_of_the_hosted_service_is_refused_with_the_reason(tmp_path, client, caplog):
    runs = client()
    token = base64.b64encode(b'{"api_address": "https://app.neptune.ai"}').decode()
    assert len(build(tmp_path, replace(ONLINE, neptune_token=token))) == 1
    assert not runs
    (warning,) = warnings_of(caplog)
    assert "ended on 2026-03-05; use neptune_mode = offline" in warning
    assert token not in warning


def test_a_server_of_ones_own_is_asked(tmp_path, client):
    runs = client()
    build(tmp_path, replace(ONLINE, neptune_token=base64.b64encode(b'{"api_address": "https://birds.org"}').decode()))
    assert len(runs) == 1


def test_closing_stops_the_client(tmp_path, client):
    runs = client()
    build(tmp_path)[1].close()
    assert runs[0].stopped.is_set()


def test_the_client_gets_the_token_as_an_argument_and_nothing_else_of_it(tmp_path, client):
    runs = client()
    config = Config(callbacks=ONLINE)
    build_trackers(ONLINE, tmp_path, config)
    assert runs[0].arguments["api_token"] == TOKEN
    assert runs[0].arguments["mode"] == "async"
    assert TOKEN not in str(runs[0].received)
    assert runs[0].received["config"]["callbacks"]["neptune_project"] == "birds/songs"


def test_the_client_is_kept_from_uploading_code_and_output(tmp_path, client):
    runs = client()
    build(tmp_path)
    off = ["capture_stdout", "capture_stderr", "capture_hardware_metrics", "capture_traceback", "git_ref"]
    assert [runs[0].arguments[name] for name in off] == [False] * len(off)
    assert runs[0].arguments["source_files"] == []


def test_a_resumed_run_continues_with_its_online_run(tmp_path, client):
    runs = client()
    build(tmp_path)
    build(tmp_path)
    build(tmp_path, replace(ONLINE, neptune_project="birds/other"))
    assert [run.arguments["with_id"] for run in runs] == [None, "SONGS-7", None]


def test_the_settings_of_sources_are_sent_and_the_token_is_not():
    sources = (("nights", Source(weight=2.0)),)
    sent = list(public_settings(Config(sources=sources, callbacks=Callbacks(neptune_token=TOKEN))))
    assert ("source.nights", "weight", 2.0) in sent
    assert ("trainer", "seed", 1) in sent
    assert TOKEN not in str(sent)


# TensorBoard, read back


def test_neptune_logger_puts_neptune_among_the_trackers():
    assert Callbacks(trackers="tensorboard , neptune", neptune_logger=True).tracker_names == ["tensorboard", "neptune"]
    assert Callbacks(neptune_logger=True).tracker_names == ["neptune"]
    assert Callbacks().tracker_names == []
    assert set(TRACKERS) == {"neptune", "tensorboard"}


def test_tensorboard_reads_back_scores_settings_curves_and_pictures(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: requirements-dev.txt")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callbacks = Callbacks(trackers="tensorboard", neptune_token=TOKEN)
    trackers = build_trackers(callbacks, tmp_path, Config(callbacks=callbacks))
    assert len(trackers) == 2
    targets = np.eye(3)[[0, 1, 0]]
    test = HeldOutScores(["a", "b", "c"], targets, targets * 0.8 + 0.1, [("one", np.arange(12.0).reshape(3, 4))])
    for tracker in trackers:
        tracker.log_epoch(row(1))
        tracker.log_epoch(row(2, val_macro_auc=None))
        tracker.log_test(test)
        tracker.log_summary({"best_epoch": 2, "test_macro_auc": 0.75, "test_top1": None})
        tracker.close()
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(one.step, round(one.value, 6)) for one in found.Scalars("train/loss")] == [(1, 1.0), (2, 0.5)]
    assert len(found.Scalars("val/macro_auc")) == 1
    assert found.Scalars("summary/test_macro_auc")[0].value == 0.75
    assert found.Tags()["images"] == ["most wrong/1 one"]
    assert {"test/all classes", "test classes/a", "test classes/b"} <= set(found.Tags()["tensors"])
    assert "test classes/c" not in found.Tags()["tensors"]
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"n_epochs" in one for one in written)
    assert not any(TOKEN.encode() in one for one in written)


def test_tensorboard_that_is_not_installed_is_one_warning_with_its_name(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("utils.packages.is_installed", lambda _: False)
    assert len(build(tmp_path, Callbacks(trackers="tensorboard"))) == 1
    (warning,) = warnings_of(caplog)
    assert "tensorboard is not installed; install it with: pip install tensorboard" in warning
