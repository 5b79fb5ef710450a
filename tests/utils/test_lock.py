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
import sys, time
from pathlib import Path
from utils.lock import alone
with alone(Path(sys.argv[1]), "busy"):
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
            first.send_signal(end)
            first.wait()
        with alone(output, "busy"):
            pass
    assert not list(tmp_path.iterdir())


def test_nor_does_one_process_get_it_twice(tmp_path):
    with alone(tmp_path / "out.csv", "busy"):
        with pytest.raises(DataError, match="it is busy"), alone(tmp_path / "out.csv", "it is busy"):
            pass
        assert (tmp_path / ".out.csv.lock").exists()
    with alone(tmp_path / "out.csv", "busy"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_a_warning_and_another_refusal_an_error(tmp_path, monkeypatch, caplog, number):
    def refuse(number):
        def flock(*_):
            raise OSError(number, os.strerror(number))

        return flock

    monkeypatch.setattr("fcntl.flock", refuse(number))
    with alone(tmp_path / "out.csv", "busy"):
        pass
    assert "no locks on this file system; make sure that no other process writes there" in caplog.text
    monkeypatch.setattr("fcntl.flock", refuse(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), alone(tmp_path / "out.csv", "busy"):
        pass
