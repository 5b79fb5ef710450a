"""What is left of a cache if a process is killed, a worker crashes or the disk is full?"""

import csv
import errno
import itertools
import logging
import os
import random
import shutil
import signal
from pathlib import Path

import pytest

from dataloader import data_preprocess
from dataloader.cache import entries as cache
from dataloader.cache import prepare as entry
from dataloader.cache import space
from tests.dataloader.conftest import PROCESS, files, forked, preprocessor, song, table_of, write
from utils.errors import DataError


def test_killed_at_50_random_moments_it_ends_with_the_bytes_of_an_undisturbed_run(tmp_path):
    folder = tmp_path / "audio"
    for number in range(40):
        write(folder / f"a/XC{number}.wav", song(3, number))
    table = table_of(folder)
    preprocessor(tmp_path, name="whole").prepare(table)
    rng, kills = random.Random(5), 0
    while kills < 50:
        child = forked(lambda: preprocessor(tmp_path, name="killed").prepare(table), rng.uniform(0.001, 0.03))
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            kills += 1
        else:
            assert status == 0
            shutil.rmtree(tmp_path / "killed")  # done: again from nothing
    preprocessor(tmp_path, name="killed").prepare(table)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_a_crash_costs_one_worker_the_recording_alone(tmp_path, recordings, monkeypatch):
    """What a crash does to the workers is in test_workers.py; processes that load torch four times take 30 s."""

    def run(work, jobs, *, died, **_):
        for job in jobs:
            yield died(job) if job.filename == "a/XC2.ogg" else work(job)

    table, job = table_of(recordings), preprocessor(tmp_path, multi_threading=False)
    monkeypatch.setattr(data_preprocess, "run_jobs", run)
    assert len(job.prepare(table)) == 5
    with open(job.folder / "bad_recordings.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (Path(row["path"]).name, row["reason"]) == ("XC2.ogg", "crashed")
    assert not list(job.folder.glob(".*"))


def kill_prepare(job, **settings):
    if job.filename == "a/XC2.ogg":
        os.kill(os.getpid(), signal.SIGKILL)
    return entry.prepare(job, **settings)


def test_kill_9_accuses_no_recording(tmp_path, recordings, monkeypatch, caplog):
    table, job = table_of(recordings), preprocessor(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(data_preprocess, "prepare", kill_prepare)
        assert os.WTERMSIG(os.waitpid(forked(lambda: job.prepare(table)), 0)[1]) == signal.SIGKILL
    with caplog.at_level(logging.INFO):
        assert len(job.prepare(table)) == 6
    assert "crashed" not in caplog.text
    assert not list(job.folder.glob(".*"))


def test_two_processes_that_fill_one_cache_at_once_give_the_same_bytes(tmp_path):
    folder = tmp_path / "audio"
    for number in range(30):
        write(folder / f"a/XC{number}.wav", song(2, number))
    table = table_of(folder)
    preprocessor(tmp_path, name="one").prepare(table)
    children = [forked(lambda: preprocessor(tmp_path, name="two").prepare(table)) for _ in range(2)]
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    preprocessor(tmp_path, name="two").prepare(table)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_full_disk_leaves_nothing_half_and_the_next_start_goes_on(tmp_path, recordings, monkeypatch):
    table, original, counter = table_of(recordings), os.replace, itertools.count()

    def full(*names):
        if str(names[1]).endswith(".npy") and next(counter) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")  # as a write does
        original(*names)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match=r"No space left on device: .*cache"):
            preprocessor(tmp_path).prepare(table)
    assert 3 <= len(list((tmp_path / "cache").rglob("*.npy"))) < 6  # others may be under way when it fails
    assert not list((tmp_path / "cache").rglob("*.tmp"))
    assert len(preprocessor(tmp_path).prepare(table)) == 6


def test_a_cache_that_would_not_fit_is_refused_with_what_would(tmp_path, recordings, monkeypatch):
    jobs = [entry.Job(row.filename, row.path) for row in table_of(recordings).itertuples()]
    needed = space.estimate_bytes(jobs, entry.Spectrograms(PROCESS), 0.0)
    made = preprocessor(tmp_path, name="real").prepare(table_of(recordings))["entry"].map(os.path.getsize).sum()
    assert needed == pytest.approx(made, rel=0.02)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, needed // 2))
    with pytest.raises(DataError, match=r"is free; what would fit: .*hop_length = 2\d\d, .*n_mels = [78], 2|3 of the"):
        preprocessor(tmp_path).prepare(table_of(recordings))
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_already_cached_spectrograms_need_no_disk_space_even_if_the_index_is_lost(tmp_path, recordings, monkeypatch):
    table = table_of(recordings)
    made = preprocessor(tmp_path)
    entries = made.prepare(table)["entry"].tolist()
    (made.folder / cache.INDEX).unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 0))
    assert preprocessor(tmp_path).prepare(table)["entry"].tolist() == entries


def test_a_full_disk_is_reported_and_a_wrong_header_does_not_refuse_the_others(tmp_path, recordings, monkeypatch):
    jobs = [entry.Job(row.filename, row.path) for row in table_of(recordings).itertuples()]
    needed = space.estimate_bytes(jobs, entry.Spectrograms(PROCESS), 0.0)
    wrong = write(recordings / "a/wrong.flac", song(2, 9))
    header = bytearray(wrong.read_bytes())
    header[21:26] = bytes([header[21] | 0x0F, 255, 255, 255, 255])  # 2^36 - 1 samples
    wrong.write_bytes(header)
    assert (
        needed
        < space.estimate_bytes([*jobs, entry.Job("a/wrong.flac", str(wrong))], entry.Spectrograms(PROCESS), 0.0)
        < 20 * needed
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 0))
    with pytest.raises(DataError, match=r"0\.000 GB is free; what would fit: another disk as \[data\] output_dir$"):
        preprocessor(tmp_path).prepare(table_of(recordings))
