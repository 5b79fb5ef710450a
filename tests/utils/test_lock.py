"""Does only one process at a time write, and is a lock gone with its process?"""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from utils.errors import DataError
from utils.lock import alone

ROOT = Path(__file__).parents[2]
HOLD = """
import os, sys, time
from pathlib import Path
from utils.lock import alone
with alone(Path(sys.argv[1]), "busy"):
    if os.fork():
        print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_has_ended_or_died(tmp_path):
    output = tmp_path / "out.csv"
    for end in (signal.SIGINT, signal.SIGKILL):
        line = [sys.executable, "-c", HOLD, str(output)]
        with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as first:
            assert first.stdout.readline() == "held\n"
            with pytest.raises(DataError, match="it is busy"), alone(output, "it is busy"):
                pass
            assert (tmp_path / ".out.csv.lock").exists()  # the one refused took nothing away
            with alone(tmp_path / "other.csv", "busy"):
                pass
            child = int(Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text())
            first.send_signal(end)
            first.wait()
        with alone(output, "busy"):  # though what the first forked lives on
            os.kill(child, signal.SIGKILL)
    assert not list(tmp_path.iterdir())


def test_nor_does_one_process_get_it_twice(tmp_path):
    with alone(tmp_path / "out.csv", "busy"):
        with pytest.raises(DataError, match="it is busy"), alone(tmp_path / "out.csv", "it is busy"):
            pass
        assert (tmp_path / ".out.csv.lock").exists()
    with alone(tmp_path / "out.csv", "busy"):
        pass


def test_a_file_system_without_locks_is_no_error_and_another_refusal_is(tmp_path, monkeypatch):
    def refuse(number):
        def lockf(*_):
            raise OSError(number, os.strerror(number))

        return lockf

    monkeypatch.setattr("fcntl.lockf", refuse(errno.ENOLCK))
    with alone(tmp_path / "out.csv", "busy"):
        pass
    monkeypatch.setattr("fcntl.lockf", refuse(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), alone(tmp_path / "out.csv", "busy"):
        pass
