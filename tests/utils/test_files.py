"""Is a file written whole or not at all?"""

import contextlib
import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import train_classifier
from utils.errors import DataError
from utils.files import (
    TEMPORARY,
    fitting_name,
    host,
    must_be_writable,
    remove_leftovers,
    second_name,
    whole,
    write_text,
)


def test_what_is_written_appears_whole(tmp_path):
    write_text(tmp_path / "a.txt", "one\ntwo\n")
    assert (tmp_path / "a.txt").read_bytes() == b"one\ntwo\n"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(OSError, match="No space"), whole(tmp_path / "a.txt") as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_name_as_long_as_names_may_be_can_be_written(tmp_path):
    names = ["a" * 255, "a" * 254 + "b", "ü" * 127]
    with contextlib.ExitStack() as stack:  # all at once
        for name in names:
            temporary = stack.enter_context(whole(tmp_path / name))
            assert TEMPORARY.match(temporary.name)["pid"] == str(os.getpid())
            temporary.write_text(name)
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    assert all((tmp_path / name).read_text() == name for name in names)


@pytest.mark.parametrize("links", [True, False])
def test_a_second_name_keeps_what_the_first_held(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no links here")))
    write_text(tmp_path / "last", "1")
    write_text(tmp_path / "best", "0")
    second_name(tmp_path / "last", tmp_path / "best")
    write_text(tmp_path / "last", "2")
    assert (tmp_path / "best").read_text() == "1"
    assert sorted(os.listdir(tmp_path)) == ["best", "last"]


def test_only_what_dead_processes_of_this_machine_left_is_removed(tmp_path, monkeypatch):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    leftovers = {name: f".x.npy.{where}.{pid}.tmp" for name, where, pid in (
        ("dead", host(), dead.pid), ("alive", host(), os.getpid()), ("elsewhere", "other-machine", dead.pid),
    )}  # fmt: skip
    for name in [*leftovers.values(), "x.npy", ".hidden"]:
        (tmp_path / name).write_text("")
    with monkeypatch.context() as patch:  # another user's, in a sticky folder
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(PermissionError(errno.EPERM, "x")))
        assert remove_leftovers(tmp_path) == 0
    assert remove_leftovers(tmp_path) == 1
    assert sorted(os.listdir(tmp_path)) == sorted([leftovers["alive"], leftovers["elsewhere"], "x.npy", ".hidden"])


def test_a_place_that_cannot_be_written_is_reported_before_the_work(tmp_path, monkeypatch):
    must_be_writable(tmp_path / "new" / "folder" / "file")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file, not a folder; choose another folder"):
        must_be_writable(tmp_path / "file" / "run")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: a device or a pipe; choose the name of a file"):  # root could replace it
        must_be_writable(tmp_path / "pipe")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(DataError, match="permission denied; choose a folder you may write to"):
        must_be_writable(tmp_path / "run")
    (tmp_path / "tables").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path == tmp_path)
    with pytest.raises(DataError, match="tables: permission denied; choose a folder you may write to"):
        must_be_writable(tmp_path / "tables")


def test_a_file_system_that_flushes_no_folder_is_no_error(tmp_path, monkeypatch):
    flush = os.fsync

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        flush(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_a_run_that_cannot_be_kept_is_reported_before_recordings_are_prepared(tmp_path):
    (tmp_path / "runs").touch()
    settings = {"paths.runs_dir": "runs", "data.output_dir": "cache", "data.hash_path": "key", "paths.demo_dir": "demo"}
    with pytest.raises(DataError, match="runs is a file, not a folder; choose another folder"):
        train_classifier.main([f"--set={name}={tmp_path / place}" for name, place in settings.items()])
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize("name", ["a" * 250, "\u00e4" * 120, os.fsdecode(b"\xff" * 250)])
def test_a_name_too_long_for_a_file_ends_in_a_digest(tmp_path, name):
    short = fitting_name(name, ".parts")
    assert len(os.fsencode(short)) <= 240
    assert short.endswith(".parts")
    assert short != fitting_name(name + "b", ".parts")
    (tmp_path / short).touch()
    assert fitting_name("a.ogg", ".txt") == "a.ogg.txt"
