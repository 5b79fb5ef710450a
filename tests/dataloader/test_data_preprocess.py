"""Does the cache contain what it should, and is nothing prepared twice?"""

import errno
import os
import random
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from dataloader.audio.decoding import read_audio
from dataloader.batches.windows import make_windows
from dataloader.cache import entries as cache
from dataloader.cache import prepare as entry
from dataloader.cache.entries import cache_key, check_entry, decibels, read_window
from dataloader.cache.spectrogram import MelSpectrogram
from dataloader.data_preprocess import main, prune
from tests.dataloader.conftest import PROCESS, RATE, files, forked, preprocessor, song, table_of, write
from utils.errors import DataError
from utils.settings import CHOOSES_WINDOWS, DataProcess


def test_a_ready_cache_on_a_disk_that_is_read_only_will_do(tmp_path, recordings, monkeypatch):
    table = table_of(recordings)
    ready = preprocessor(tmp_path).prepare(table)

    def refuse(source, target):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(target))

    monkeypatch.setattr(os, "replace", refuse)
    pd.testing.assert_frame_equal(preprocessor(tmp_path).prepare(table), ready)


# The key


@pytest.mark.parametrize("name", [field.name for field in fields(DataProcess)])
def test_a_setting_changes_the_key_if_it_changes_the_arrays_and_only_then(name):
    value = getattr(PROCESS, name)
    other = {"mode": "single", "standardize": "none"}.get(name, value * 2 if not isinstance(value, str) else value)
    other = other or 1.0
    assert (cache_key(replace(PROCESS, **{name: other})) != cache_key(PROCESS)) is (name not in CHOOSES_WINDOWS)


def test_the_key_is_the_same_on_every_machine():
    """If this fails, every cache there is was made useless: raise FORMAT on purpose, or mend what changed it."""
    assert cache_key(DataProcess()) == "74fa50b89e84dffe"


# The entries


def test_an_entry_is_what_numpy_reads(tmp_path, recordings):
    metadata = preprocessor(tmp_path).prepare(table_of(recordings))
    for path, name, frames in zip(metadata["entry"], metadata["path"], metadata["frames"], strict=True):
        array = np.load(path, mmap_mode="r")
        assert array.dtype == np.float16
        assert array.flags.f_contiguous
        assert array.shape == (16, frames)
        expected = MelSpectrogram(PROCESS).db(read_audio(name, RATE))
        np.testing.assert_allclose(decibels(path), expected, atol=0.05)  # dB: half a step of float16 at 8 deviations
        values = np.asarray(array, dtype=np.float32)
        np.testing.assert_allclose(values.mean(axis=1), 0, atol=1e-3)
        check_entry(Path(path))


def test_a_window_read_is_a_slice_and_a_short_recording_is_repeated(tmp_path, recordings):
    row = preprocessor(tmp_path).prepare(table_of(recordings)).iloc[0]
    array = np.load(row["entry"])
    out = np.empty((30, 16), np.float16)
    read_window(row["entry"], 16, row["frames"], 20, out)
    np.testing.assert_array_equal(out.T, array[:, 20:50])
    longer = np.empty((2 * row["frames"] + 7, 16), np.float16)
    statistics = read_window(row["entry"], 16, row["frames"], 0, longer)
    np.testing.assert_array_equal(longer.T, np.concatenate([array, array, array], axis=1)[:, : len(longer)])
    np.testing.assert_array_equal(statistics, cache.band_statistics(row["entry"]))


def test_every_damaged_byte_is_found_by_verify(tmp_path, recordings, capsys):
    job = preprocessor(tmp_path)
    path = Path(job.prepare(table_of(recordings))["entry"][0])
    whole, rng = path.read_bytes(), random.Random(1)
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(cache.DamagedEntry, match=r"XC0\.npy"):
            check_entry(path)
    path.write_bytes(whole[:-50])
    gone = Path(path.parent.parent / "b/XC1.npy")
    gone.unlink()
    linked = tmp_path / "another disk"  # a label's folder may be elsewhere
    gone.parent.rename(linked)
    gone.parent.symlink_to(linked)
    (linked / "XC3.npy").write_bytes(b"short")
    (linked / "XC5.npy").unlink()
    (linked / "XC5.npy").mkdir()
    lines = dict(zip(["XC0.npy", "XC1.npy", "XC3.npy", "XC5.npy"], job.verify(), strict=True))
    assert not (linked / "XC3.npy").exists()
    assert all(name in line for name, line in lines.items())
    assert "removed, and the next start makes it again" in lines["XC0.npy"]
    assert not path.exists()
    (linked / "XC5.npy").rmdir()
    job.prepare(table_of(recordings))
    assert path.read_bytes() == whole


def test_verify_of_no_cache_is_an_error_and_damage_is_exit_code_1(tmp_path, recordings, capsys):
    with pytest.raises(DataError, match=r"no cache of these settings; prepare it first, or check \[data\] output_dir"):
        list(preprocessor(tmp_path, name="nowhere").verify())
    changed = [f"{key}={value}" for key, value in vars(PROCESS).items()]
    line = [part for text in changed for part in ("--set", f"data_process.{text}")]
    line += ["--set", f"data.output_dir={tmp_path / 'cache'}", "--verify"]
    entries = preprocessor(tmp_path).prepare(table_of(recordings))["entry"]
    assert main(line) == 0
    Path(entries[0]).write_bytes(b"short")
    assert main(line) == 1
    assert "XC0.npy: truncated" in capsys.readouterr().out
    assert main(line) == 1  # it is still not there
    assert capsys.readouterr().out.endswith("1 damaged\n")


def test_windows_are_rows(tmp_path, recordings):
    metadata = preprocessor(tmp_path).prepare(table_of(recordings))
    windows = make_windows(metadata, PROCESS)
    assert windows.columns.tolist() == ["recording", "first_frame", "n_frames"]
    assert (windows.groupby("recording").size() >= 1).all()
    assert len(make_windows(metadata, replace(PROCESS, mode="single"))) == len(metadata)


# Nothing twice


def test_nothing_is_prepared_twice(tmp_path, recordings, decoded):
    table = table_of(recordings)
    preprocessor(tmp_path).prepare(table)
    assert len(decoded) == 6
    decoded.clear()
    preprocessor(tmp_path).prepare(table)
    preprocessor(tmp_path, replace(PROCESS, max_length_s=0.5, mode="single")).prepare(table)
    for path in table["path"]:
        os.utime(path)  # touched, not changed
    preprocessor(tmp_path).prepare(table)
    (preprocessor(tmp_path).folder / "recordings.csv").unlink()  # the entries are the truth
    preprocessor(tmp_path).prepare(table)
    assert decoded == []


def test_what_is_added_or_replaced_is_done_and_nothing_else(tmp_path, recordings, decoded):
    preprocessor(tmp_path).prepare(table_of(recordings))
    before = files(preprocessor(tmp_path).folder)
    decoded.clear()
    replaced = recordings / "a/XC0.wav"
    (recordings / "a/XC0.ogg").unlink()
    write(replaced, song(1.5, 0))
    preprocessor(tmp_path).prepare(table_of(recordings))
    decoded.clear()
    size = replaced.stat().st_size
    write(replaced, song(1.5, 99))  # the same name and length
    assert replaced.stat().st_size == size
    os.utime(replaced, ns=(1, 1))
    write(recordings / "b/new.ogg", song(1, 7))
    preprocessor(tmp_path).prepare(table_of(recordings))
    assert sorted(decoded) == ["XC0.wav", "new.ogg"]
    after = files(preprocessor(tmp_path).folder)
    assert {name for name in before if name.endswith(".npy") and before[name] != after[name]} == {"a/XC0.npy"}


def test_without_a_readable_index_the_entries_are_found_and_used(tmp_path, recordings, decoded):
    job = preprocessor(tmp_path)
    job.prepare(table_of(recordings))
    decoded.clear()
    whole = (job.folder / "recordings.csv").read_text()
    last = whole.rstrip().rpartition("\n")[2]
    damaged = ["half a li", whole + "\n"]  # an editor's blank line
    damaged += [whole.removesuffix(last + "\n") + last[:length] for length in (1, last.index(",") + 1, len(last) // 2)]
    for text in damaged:
        (job.folder / "recordings.csv").write_text(text)
        assert len(job.prepare(table_of(recordings))) == 6
    assert decoded == []


def test_samples_that_a_header_counts_too_many_are_in_the_metadata(tmp_path):
    path = write(tmp_path / "audio/a/bar.wav", song(2, 1))
    content = bytearray(path.read_bytes())
    content[40:44] = (len(content)).to_bytes(4, "little")  # the size of the file, as some recorders write it
    path.write_bytes(content)
    (row,) = preprocessor(tmp_path).prepare(table_of(tmp_path / "audio")).to_dict("records")
    assert (row["missing_samples"], row["samples"]) == (22, 2 * RATE)


def test_a_time_expansion_gives_the_real_rate_and_another_one_makes_the_entry_again(tmp_path, decoded):
    write(tmp_path / "audio/a/bat.wav", song(10, 1))
    job = preprocessor(tmp_path, replace(PROCESS, sample_rate=10 * RATE, f_max=30_000.0))
    table = table_of(tmp_path / "audio")
    for expansion, seconds in ((1.0, 10.0), (10.0, 1.0), (10.0, 1.0)):
        (row,) = job.prepare(table.assign(time_expansion=expansion)).to_dict("records")
        assert row["seconds"] == pytest.approx(seconds)
        assert row["frames"] == 10 * RATE * seconds // 125
    assert len(decoded) == 2


@pytest.mark.parametrize("settings", [{"num_workers": 2}, {"multi_threading": False}], ids=["threads", "a process"])
def test_threads_and_processes_make_the_same_bytes(tmp_path, recordings, settings):
    table = table_of(recordings)
    preprocessor(tmp_path, name="one").prepare(table)
    preprocessor(tmp_path, name="two", **settings).prepare(table)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_shards_cover_everything_once(tmp_path, recordings):
    table = table_of(recordings)
    preprocessor(tmp_path, name="whole").prepare(table)
    for start in range(3):
        preprocessor(tmp_path, name="parts").prepare(table.iloc[start::3].reset_index(drop=True))
    entries = [{n: b for n, b in files(tmp_path / name).items() if n.endswith(".npy")} for name in ("whole", "parts")]
    assert entries[0] == entries[1]


def test_a_cache_that_is_a_link_is_pruned_without_what_it_points_to(tmp_path, recordings):
    other = preprocessor(tmp_path, replace(PROCESS, n_mels=8))
    other.prepare(table_of(recordings))
    other.folder.rename(tmp_path / "elsewhere")
    other.folder.symlink_to(tmp_path / "elsewhere")
    prune(tmp_path / "cache", preprocessor(tmp_path).key, remove=True)
    assert not other.folder.exists()
    assert len(list((tmp_path / "elsewhere").rglob("*.npy"))) == 6


def test_an_impossible_hash_path_is_reported_before_the_work(tmp_path, recordings, decoded):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is a file, not a folder; choose another folder"):
        preprocessor(tmp_path, hash_path=tmp_path / "file/key").prepare(table_of(recordings))
    with pytest.raises(DataError, match=r"\[data\] hash_path = .*: a folder; name a file"):
        preprocessor(tmp_path, hash_path=tmp_path).prepare(table_of(recordings))
    assert decoded == []


@pytest.mark.parametrize(("duplicates", "left"), [("keep", 7), ("drop", 6)])
def test_copies_are_listed_and_kept_or_become_one_recording_with_two_labels(tmp_path, recordings, duplicates, left):
    shutil.copy(recordings / "a/XC0.ogg", recordings / "b/copy.ogg")
    job = preprocessor(tmp_path, duplicates=duplicates)
    metadata = job.prepare(table_of(recordings)).set_index("filename")
    assert len(metadata) == left
    assert metadata.loc["a/XC0.ogg", "labels"] == (("a", "b") if duplicates == "drop" else ("a",))
    listed = (job.folder / "duplicates.csv").read_text()
    assert listed == "filename,duplicate_of,rule\nb/copy.ogg,a/XC0.ogg,content\n"


def test_two_shards_at_once_fill_one_cache(tmp_path, recordings):
    table = table_of(recordings)
    whole = preprocessor(tmp_path, name="whole")
    whole.prepare(table)
    parts = [table[number::2].reset_index(drop=True) for number in range(2)]
    for child in [forked(lambda part=part: preprocessor(tmp_path, name="shards").prepare(part)) for part in parts]:
        assert os.waitpid(child, 0)[1] == 0
    preprocessor(tmp_path, name="shards").prepare(table)
    assert files(tmp_path / "shards") == files(tmp_path / "whole")


def test_a_shard_does_not_judge_the_share_of_bad_recordings(tmp_path, recordings, caplog):
    write(recordings / "a/XC0.ogg", np.zeros(2 * RATE))
    table = table_of(recordings)
    part = table[:3].reset_index(drop=True)
    with pytest.raises(DataError, match="1 of 3 recordings are bad"):
        preprocessor(tmp_path, max_bad_share=0.2).prepare(part)
    assert len(preprocessor(tmp_path, max_bad_share=0.2).prepare(part, is_shard=True)) == 2
    assert "1 bad recording is left out" in caplog.text
    for number in range(12):  # in a whole table so many would end it early, as of a wrong folder
        (tmp_path / "wrong/x").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"wrong/x/{number}.wav").touch()
    assert preprocessor(tmp_path, max_bad_share=0.2).prepare(table_of(tmp_path / "wrong"), is_shard=True).empty
    assert len(preprocessor(tmp_path, max_bad_share=0.2).prepare(table)) == 5


def test_the_space_is_that_of_the_disk_of_the_cache(tmp_path, recordings, monkeypatch):
    job, asked = preprocessor(tmp_path), []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or shutil._ntuple_diskusage(0, 0, 10**12))
    job.prepare(table_of(recordings))
    assert asked == [job.folder]  # which may be a link to another than that of [data] output_dir


def test_a_shard_without_recordings_does_nothing(tmp_path, recordings):
    assert preprocessor(tmp_path).prepare(table_of(recordings)[:0]).empty


def test_caches_of_other_settings_are_listed_and_with_yes_removed(tmp_path, recordings):
    job, other = preprocessor(tmp_path), preprocessor(tmp_path, replace(PROCESS, n_mels=8))
    for one in (job, other):
        one.prepare(table_of(recordings))
    (line,) = prune(tmp_path / "cache", job.key, remove=False)
    assert str(other.folder) in line
    assert other.folder.exists()
    prune(tmp_path / "cache", job.key, remove=True)
    assert job.folder.exists()
    assert not other.folder.exists()


def memory_of(path, tmp_path):
    """Peak of the anonymous memory of a process that prepares ``path``, and its growth by that, in MB.

    By the system's own high-water mark, because sampling the memory now and then would miss it.
    """
    stage = entry.Spectrograms(PROCESS).ready()
    short = tmp_path / "short.wav"
    sf.write(short, song(60, 1), RATE)

    def kilobytes(name):
        return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0])

    def work():
        entry.prepare(entry.Job("a/short.wav", str(short)), tmp_path / "cache-short", stage)  # what is loaded once
        before, anonymous = kilobytes("VmRSS"), kilobytes("RssAnon")
        Path("/proc/self/clear_refs").write_text("5")  # the mark begins anew
        entry.prepare(entry.Job("a/long.wav", str(path)), tmp_path / f"cache-{path.stem}", stage)
        grown = kilobytes("VmHWM") - before
        (tmp_path / "memory").write_text(f"{(anonymous + grown) / 1024} {grown / 1024}")

    os.waitpid(forked(work), 0)
    return map(float, (tmp_path / "memory").read_text().split())


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc")
def test_a_recording_of_three_hours_needs_the_memory_of_one_of_thirty_minutes(tmp_path):
    peaks = []
    for minutes in (30, 180):
        path = tmp_path / f"{minutes}.wav"
        minute = (song(60, 1) * 32767).astype(np.int16)
        with sf.SoundFile(path, "w", RATE, 1, subtype="PCM_16") as file:
            for _ in range(minutes):
                file.write(minute)
        peaks.append(memory_of(path, tmp_path))
        assert list((tmp_path / f"cache-{minutes}").rglob("long.npy"))
    (half_hour, its_growth), (three_hours, growth) = peaks
    assert three_hours <= 1.2 * half_hour, peaks
    assert growth <= its_growth + 35, peaks  # MB; the frames of three hours alone are 44, the samples 345


def test_the_command_prepares_and_prints_the_folder(tmp_path, capsys):
    from dataloader.demo import make_demo

    make_demo(tmp_path / "demo", species=2, recordings=3)
    (tmp_path / "config.ini").write_text(
        "[paths]\ndata_dir = demo\n[data_process]\nn_mels = 32\n"
        "[data]\nnum_workers = 1\nmulti_threading = true\noutput_dir = c\nhash_path = c/key\n"
    )
    line = ["--config", str(tmp_path / "config.ini")]
    assert main([*line, "--shard", "1/2"]) == 0
    assert main(line) == 0
    folder = Path(capsys.readouterr().out.splitlines()[-1].removeprefix("prepared: "))
    assert folder.parent == tmp_path / "c"
    assert (tmp_path / "c/key").read_text().strip() == folder.name
    assert main([*line, "--verify"]) == 0
    assert main([*line, "--prune"]) == 0
    assert "no caches of other settings" in capsys.readouterr().out
