"""Is a checkpoint whole, and is a damaged one found out?"""

import contextlib
import errno
import logging
import os
import random
import resource
import signal
import zipfile

import pytest
import torch

from utils.checkpoint import Checkpoints, load_checkpoint
from utils.errors import CheckpointError


def state(epoch=1, size=1000):
    return {
        "model": {"weight": torch.full((size,), float(epoch))},
        "model_type": "x",
        "epoch": epoch,
        "labels": ["a"],
        "data_process": {},
        "standardize_over": "window",
    }


def test_last_prev_and_best_hold_what_their_names_say(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep_best=True)
    for epoch, best in ((1, True), (2, True), (3, False)):
        checkpoints.save(state(epoch), best=best)
    epochs = [load_checkpoint(path)["epoch"] for path in (checkpoints.last, checkpoints.prev, checkpoints.best)]
    assert epochs == [3, 2, 2]
    assert len(list(tmp_path.iterdir())) == 3


def test_every_flipped_byte_that_changes_a_value_is_found(tmp_path):
    path = tmp_path / "last.pt"
    torch.save(state(), path)
    whole, rng = path.read_bytes(), random.Random(1)
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            loaded = load_checkpoint(path)
        except CheckpointError as error:
            assert str(path) in str(error)  # noqa: PT017 - either outcome is right, a wrong value is not
        else:
            assert torch.equal(loaded["model"]["weight"], torch.ones(1000))
            assert loaded["epoch"] == 1


@pytest.mark.parametrize("length", [0, 10, 500, 2000])
def test_a_truncated_checkpoint_is_refused(tmp_path, length):
    path = tmp_path / "last.pt"
    torch.save(state(), path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"last\.pt: damaged"):
        load_checkpoint(path)


def test_a_damaged_last_falls_back_to_the_one_before_with_a_warning_with_the_reason(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path, keep_best=True)
    checkpoints.save(state(1), best=False)
    checkpoints.save(state(2), best=False)
    checkpoints.last.write_bytes(checkpoints.last.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        assert checkpoints.load_last(torch.device("cpu"))["epoch"] == 1
    assert "damaged" in caplog.text
    assert "prev.pt" in caplog.text
    checkpoints.save(state(3), best=False)  # the damaged one takes no whole one's place
    assert [load_checkpoint(path)["epoch"] for path in (checkpoints.last, checkpoints.prev)] == [3, 1]
    checkpoints.save(state(4), best=False)
    assert load_checkpoint(checkpoints.prev)["epoch"] == 3


def test_a_damaged_last_without_one_before_is_reported_by_its_own_name(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep_best=True)
    checkpoints.save(state(1), best=False)
    checkpoints.last.write_bytes(checkpoints.last.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"last\.pt: damaged"):
        checkpoints.load_last(torch.device("cpu"))


def test_a_checkpoint_that_must_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep_best=True)
    checkpoints.save(state(1), best=False)
    checkpoints.save(state(2), best=False)

    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(zipfile, "ZipFile", refuse)
    with pytest.raises(PermissionError):
        checkpoints.load_last(torch.device("cpu"))


def test_a_best_that_cannot_reach_the_disk_leaves_the_old_one(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep_best=True)
    checkpoints.save(state(1), best=True)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(state(2), best=True)
    assert [load_checkpoint(path)["epoch"] for path in (checkpoints.last, checkpoints.best)] == [1, 1]


def test_a_path_given_by_the_user_never_falls_back(tmp_path):
    Checkpoints(tmp_path, keep_best=True).save(state(1), best=True)
    (tmp_path / "last.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="damaged, or not a checkpoint"):
        load_checkpoint(tmp_path / "last.pt")


def test_a_checkpoint_from_a_stranger_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    torch.save({**state(), "evil": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of plain values"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "owned").exists()


def test_something_else_is_refused_by_what_it_lacks(tmp_path):
    for other in ({"weight": torch.zeros(1)}, [torch.zeros(1)], torch.zeros(3), 0):
        torch.save(other, tmp_path / "other.pt")
        with pytest.raises(CheckpointError, match="no model, model_type"):
            load_checkpoint(tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt")


def test_killed_during_a_save_fifty_times_there_is_always_a_complete_last(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep_best=True)
    checkpoints.save(state(0, size=200_000), best=True)
    rng = random.Random(3)
    for _ in range(50):
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends it at once, also within a C library
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0005, 0.02))
            with contextlib.suppress(BaseException):
                for epoch in range(1, 1000):
                    checkpoints.save(state(epoch, size=200_000), best=epoch % 2 == 0)
            os._exit(1)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        rng.random()
        for path in (checkpoints.last, checkpoints.best):
            loaded = load_checkpoint(path)
            assert torch.equal(loaded["model"]["weight"], torch.full((200_000,), float(loaded["epoch"])))


@pytest.mark.parametrize("room", [2000, 100_000, 400_000])
def test_a_full_disk_leaves_the_last_as_it_was_and_is_reported_with_its_name(tmp_path, room):
    checkpoints = Checkpoints(tmp_path, keep_best=True)
    checkpoints.save(state(1), best=True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))  # bytes of a file: what is above them does not fit
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            checkpoints.save(state(2, size=200_000), best=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(checkpoints.last)
    assert load_checkpoint(checkpoints.last)["epoch"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt"]
