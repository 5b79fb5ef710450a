"""Does a command end with the right code and one line?"""

import errno
import getpass
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from utils.command import ONLY_IN_FILE, log_to_file, log_to_stderr, run_command
from utils.errors import ConfigError, DataError, Problem
from utils.interrupt import Stopped

ROOT = Path(__file__).parents[2]
NO_ROOM = "the disk is full; free some space and start again, finished work is kept"
CASES = [
    (DataError("a.csv: empty"), 1, "a.csv: empty"),
    (ConfigError([Problem("one", "a", "b"), Problem("two", "a", "c")]), 2, "[a] b: one\n[a] c: two"),
    (Stopped("stopped and saved", 143), 143, "stopped and saved"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (OSError(errno.ENOSPC, "x", "cache/a.npy"), 1, f"cache/a.npy: {NO_ROOM}"),
    (OSError(errno.ENOSPC, "x"), 1, NO_ROOM),
    (OSError(errno.EMFILE, "x"), 1, "too many open files; raise the limit (ulimit -n 4096), or set fewer workers"),
    (
        PermissionError(errno.EACCES, "x", "runs"),
        1,
        "runs: permission denied; change its permissions, or choose another",
    ),
    (OSError(errno.EROFS, "x", "runs"), 1, "runs: the file system is read-only; choose a folder you may write to"),
    (FileNotFoundError(errno.ENOENT, "x", "gone"), 1, "gone: No such file or directory"),
]


def test_the_log_file_begins_with_what_was_logged_before_it_existed(tmp_path, capsys):
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    try:
        log_to_stderr()
        logging.info("early")
        logging.info("a pair of names", extra={ONLY_IN_FILE: True})
        log_to_file(tmp_path / "log.txt")
        logging.info("late")
    finally:
        root.handlers, root.level = handlers, level
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split(" INFO ")[1] for line in lines] == ["early", "a pair of names", "late"]
    assert capsys.readouterr().err.split("\n")[:2] == ["early", "late"]


@pytest.mark.parametrize(("error", "code", "text"), CASES, ids=[type(error).__name__ for error, _, _ in CASES])
def test_a_mistake_is_reported_in_a_line_with_its_exit_code(capsys, error, code, text):
    def fail(_):
        raise error

    with pytest.raises(SystemExit) as caught:
        run_command(fail)
    assert caught.value.code == code
    assert capsys.readouterr().err == text + "\n"


def test_done_is_0_and_a_bug_keeps_its_traceback():
    with pytest.raises(SystemExit) as caught:
        run_command(lambda _: None)
    assert caught.value.code == 0
    with pytest.raises(ZeroDivisionError):
        run_command(lambda _: 1 / 0)


def test_sigterm_ends_a_command_with_143_after_what_is_open_is_closed():
    closed = []

    def work(_):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            closed.append(True)

    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught:
            run_command(work)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 143
    assert closed


@pytest.mark.parametrize("own", [None, "7"])
def test_threads_do_not_spin_for_long_unless_the_environment_says_so(monkeypatch, own):
    monkeypatch.setenv("GOMP_SPINCOUNT", own or "")  # so that it is put back afterwards
    if own is None:
        monkeypatch.delenv("GOMP_SPINCOUNT")
    seen = []
    with pytest.raises(SystemExit):
        run_command(lambda _: seen.append(os.environ["GOMP_SPINCOUNT"]))
    assert seen == [own or "10000"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_log_on_a_full_disk_is_quiet(capsys):
    handlers = logging.getLogger().handlers[:]
    log_to_file(Path("/dev/full"))
    try:
        logging.getLogger("a").warning("x" * 10_000)
    finally:
        logging.getLogger().handlers = handlers
    assert "Logging error" not in capsys.readouterr().err


def test_a_reader_that_has_enough_ends_a_command_without_a_traceback():
    code = "import itertools, utils.command; utils.command.run_command(lambda _: [*map(print, itertools.count())])"
    line = f"{sys.executable} -c '{code}' | head -1"
    done = subprocess.run(line, cwd=ROOT, shell=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_user_without_an_entry_in_the_list_of_users_is_given_a_name(monkeypatch):
    """As with ``docker run --user 12345``: torch asks for a name when it is imported."""

    def unknown(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    pwd = pytest.importorskip("pwd", reason="Windows has no such list")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setenv("USER", "")  # so that it is as before afterwards
    with pytest.raises(SystemExit):
        run_command(lambda _: None)
    assert getpass.getuser() == f"user{os.getuid()}"


def test_a_process_of_torchrun_that_loses_another_ends_in_a_line():
    code = (
        "from utils.command import run_command\n"
        "def main(_):\n"
        "    raise RuntimeError('[gloo/transport/tcp/pair.cc:538] Read error [::1]:4: Connection reset by peer')\n"
        "run_command(main)\n"
    )
    for world, lines in (("2", ["another process of this run has ended; its message says why"]), ("1", None)):
        line, environment = [sys.executable, "-c", code], os.environ | {"WORLD_SIZE": world}
        done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.splitlines() == lines or (lines is None and "Traceback" in done.stderr)
