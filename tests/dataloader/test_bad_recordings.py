"""Which recordings are bad, and are the results of earlier versions checked again where they may differ?"""

import csv
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from dataloader.audio import decoder, endings
from dataloader.audio.findings import Findings
from dataloader.cache import entries as cache
from dataloader.cache import prepare as entry
from tests.dataloader.conftest import RATE, files, preprocessor, song, table_of, write
from utils.errors import DataError

# Bad recordings


def make_bad(folder):
    good = write(folder / "a/good.ogg", song(3, 1))
    (folder / "a/text.ogg").write_text("this is no sound")
    (folder / "a/empty.ogg").write_bytes(b"")
    (folder / "a/cut.ogg").write_bytes(good.read_bytes()[: -good.stat().st_size // 3])
    write(folder / "a/silent.wav", np.zeros(RATE, np.float32))
    loud = song(1, 2)
    loud[100] = np.nan
    write(folder / "a/nan.wav", loud, subtype="FLOAT")
    write(folder / "a/short.wav", song(0.2, 3))
    return {"text": "unreadable", "empty": "empty", "cut": "truncated", "silent": "silent", "nan": "not_finite"} | {
        "short": "too_short"
    }


def test_bad_recordings_are_listed_with_their_reasons_and_left_out(tmp_path):
    expected = make_bad(tmp_path / "audio")
    job = preprocessor(tmp_path)
    table = table_of(tmp_path / "audio")
    table.loc[len(table)] = ["a/gone.ogg", str(tmp_path / "audio/a/gone.ogg"), "a", ("a",), (), "g", ""]
    metadata = job.prepare(table)
    assert metadata["filename"].tolist() == ["a/good.ogg"]
    with open(job.folder / "bad_recordings.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {Path(row["path"]).stem: row["reason"] for row in rows} == expected | {"gone": "missing"}
    assert all(row["detail"] for row in rows)


def test_what_can_be_read_is_good_whatever_its_form(tmp_path):
    folder = tmp_path / "audio"
    write(folder / "a/one.wav", song(1, 1))
    write(folder / "a/two.flac", song(1, 2))
    write(folder / "a/three.mp3", song(2, 3, 32_000), 32_000)
    write(folder / "a/four.ogg", song(1, 4, 44_100), 44_100)
    write(folder / "a/five.wav", np.stack([song(1, 5), song(1, 6)], axis=1))
    assert len(preprocessor(tmp_path).prepare(table_of(folder))) == 5


def test_too_many_bad_recordings_stop_the_run_with_the_path_of_the_list(tmp_path):
    make_bad(tmp_path / "audio")
    with pytest.raises(DataError, match=r"bad_recordings\.csv: 6 of 7 recordings are bad .*max_bad_share = 0\.5"):
        preprocessor(tmp_path, max_bad_share=0.5).prepare(table_of(tmp_path / "audio"))


def test_another_least_length_needs_no_preparing_again(tmp_path, recordings, decoded):
    assert len(preprocessor(tmp_path).prepare(table_of(recordings))) == 6
    decoded.clear()
    before = files(tmp_path / "cache")
    for _ in range(2):
        assert len(preprocessor(tmp_path, min_recording_s=2.0).prepare(table_of(recordings))) == 4
        with open(preprocessor(tmp_path).folder / "bad_recordings.csv", newline="") as file:
            assert [row["reason"] for row in csv.DictReader(file)] == ["too_short"] * 2
    assert len(preprocessor(tmp_path).prepare(table_of(recordings))) == 6
    assert decoded == []
    assert files(tmp_path / "cache") == before  # no other run on this cache lost an entry


def test_a_header_with_a_rate_that_is_none_is_a_bad_recording(tmp_path, recordings):
    path = write(recordings / "a/slow.wav", song(2, 9), RATE)
    header = bytearray(path.read_bytes())
    header[24:28] = (1).to_bytes(4, "little")  # Hz
    path.write_bytes(header)
    job = preprocessor(tmp_path)
    assert len(job.prepare(table_of(recordings))) == 6
    assert 'unreadable,"its header states 1 Hz, which is too low' in (job.folder / "bad_recordings.csv").read_text()


def test_names_that_end_in_dots_are_not_done_twice(tmp_path, recordings, decoded):
    (recordings / "a/XC0.ogg").rename(recordings / "a/no_ending.")
    assert len(preprocessor(tmp_path).prepare(table_of(recordings))) == 6
    decoded.clear()
    assert len(preprocessor(tmp_path).prepare(table_of(recordings))) == 6
    assert decoded == []


# Verdicts of an earlier reader


def as_an_earlier_version_left_it(job):
    """Take the columns out of the index that say who judged the recordings."""
    with open(job.folder / cache.INDEX, newline="") as file:
        rows = [row[:9] for row in csv.reader(file)]
    with open(job.folder / cache.INDEX, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def write_mp3(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, song(seconds, 1), RATE, "MPEG_LAYER_III", format="MP3", bitrate_mode="CONSTANT")
    return path.read_bytes()


def test_entries_that_an_earlier_version_made_stay_and_are_checked_once(
    tmp_path, recordings, decoded, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)
    job = preprocessor(tmp_path)
    job.prepare(table_of(recordings))
    before = files(job.folder)
    as_an_earlier_version_left_it(job)
    decoded.clear()
    monkeypatch.setattr(entry, "content_digest", lambda path: pytest.fail("read again"))
    assert len(job.prepare(table_of(recordings))) == 6
    assert decoded == []
    assert files(job.folder) == before  # the index too
    assert "6 recordings are checked again, once" in caplog.text
    caplog.clear()
    assert len(job.prepare(table_of(recordings))) == 6
    assert "checked again" not in caplog.text


@pytest.mark.parametrize("with_ffmpeg", [True, False])
def test_a_recording_that_an_earlier_version_cut_is_made_again_or_left_out(
    tmp_path, recordings, monkeypatch, with_ffmpeg
):
    joined = recordings / "a/joined.mp3"
    joined.write_bytes(write_mp3(joined, 1) + write_mp3(joined, 3))
    job = preprocessor(tmp_path)
    with monkeypatch.context() as earlier:  # it saw nothing wrong with it
        earlier.setattr(decoder, "examine", lambda path: Findings())
        seconds = dict(zip(*job.prepare(table_of(recordings))[["filename", "seconds"]].to_numpy().T, strict=True))
    assert seconds["a/joined.mp3"] == pytest.approx(1, abs=0.1)
    as_an_earlier_version_left_it(job)
    monkeypatch.setattr(endings, "HAS_FFMPEG", with_ffmpeg)
    again = job.prepare(table_of(recordings)).set_index("filename")
    assert len(again) == (7 if with_ffmpeg else 6)
    if with_ffmpeg:
        assert again.loc["a/joined.mp3", "seconds"] == pytest.approx(4, abs=0.3)
        assert again.loc["a/joined.mp3", "frames"] == pytest.approx(4 * RATE / 125, abs=20)
    else:
        assert "a/joined.mp3" not in again.index
        assert not (job.folder / "a/joined.npy").exists()


def test_a_healthy_recording_that_an_earlier_version_refused_is_used(tmp_path, recordings):
    job = preprocessor(tmp_path)
    job.prepare(table_of(recordings))
    index = cache.read_index(job.folder)
    index["a/XC0.ogg"] = replace(index["a/XC0.ogg"], frames=0, reason="truncated", detail="0.07 of 1.5 s are missing")
    cache.write_index(job.folder, index)
    (job.folder / "a/XC0.npy").unlink()
    assert len(job.prepare(table_of(recordings))) == 5  # by today's reader: its verdict holds
    as_an_earlier_version_left_it(job)
    assert len(job.prepare(table_of(recordings))) == 6


def test_what_was_bad_without_av_is_judged_again_once_with_it(tmp_path, recordings, decoded, monkeypatch):
    (recordings / "a/no_sound.wav").write_text("no bird" * 100)
    joined = recordings / "a/joined.mp3"
    joined.write_bytes(write_mp3(joined, 1) + write_mp3(joined, 3))
    job = preprocessor(tmp_path)
    with monkeypatch.context() as without:
        without.setattr(endings, "HAS_FFMPEG", False)
        assert len(job.prepare(table_of(recordings))) == 6
        decoded.clear()
        assert len(job.prepare(table_of(recordings))) == 6
        assert decoded == []
    assert len(job.prepare(table_of(recordings))) == 7
    assert sorted(decoded) == ["joined.mp3", "no_sound.wav"]
    decoded.clear()
    assert len(job.prepare(table_of(recordings))) == 7
    monkeypatch.setattr(endings, "HAS_FFMPEG", False)
    assert len(job.prepare(table_of(recordings))) == 7  # what was read with it stays
    assert decoded == []
