"""Are scores kept, and used again only while they are valid?"""

import errno
import os
import random

import numpy as np
import pytest

from inference.combine import smooth
from inference.predictor import Scores
from inference.score_store import ScoreStore
from utils.errors import DataError

SETTINGS = {"--run": ["abc"], "--step-s": 5.0, "--shift-tta": False}


@pytest.fixture
def recordings(tmp_path):
    paths = [tmp_path / f"{name}.wav" for name in "abc"]
    for path in paths:
        path.write_text(path.name)
    return paths


def scores(path, problem=None):
    rng = np.random.default_rng(sum(os.fsencode(path.name)))
    each = rng.random((2, 4, 3), dtype=np.float32)
    return Scores(path, np.arange(4) * 5.0, np.arange(4) * 5.0 + 5, each, 20.0, 44_100, problem)


def store(tmp_path, *, resume=True, **changes):
    return ScoreStore(tmp_path / "out.csv", SETTINGS | changes, resume=resume)


def file_of(kept, path):
    return kept._file_of(path)


def test_what_is_kept_comes_back_as_it_was(tmp_path, recordings):
    first = store(tmp_path, resume=False)
    for path in recordings[:2]:
        first.keep(scores(path))
    again = store(tmp_path)
    assert [path in again for path in recordings] == [True, True, False]
    for result, path in zip(again.results(recordings[:2], "mean", False), recordings[:2], strict=True):
        assert result.path == path
        np.testing.assert_array_equal(result.scores, scores(path).each.mean(axis=0, dtype=np.float32))
        np.testing.assert_array_equal(result.end_s, scores(path).end_s)
        assert (result.seconds, result.sample_rate) == (20.0, 44_100)


def test_models_are_combined_and_then_rows_are_smoothed(tmp_path, recordings):
    kept = store(tmp_path)
    for path in recordings:
        kept.keep(scores(path))
    (result, *_) = kept.results(recordings, "min", True)
    np.testing.assert_allclose(result.scores, smooth(scores(recordings[0]).each.min(axis=0)))
    ranks = [result.scores for result in kept.results(recordings, "rank", False)]
    assert max(map(np.max, ranks)) <= 1
    assert np.concatenate(ranks).mean() == pytest.approx((12 + 1) / 2 / 12)


def test_without_resume_a_job_starts_from_the_beginning(tmp_path, recordings):
    store(tmp_path).keep(scores(recordings[0]))
    assert recordings[0] not in store(tmp_path, resume=False)


@pytest.mark.parametrize(("key", "value"), [("--step-s", 2.5), ("--run", ["other"]), ("--shift-tta", True)])
def test_another_setting_is_refused_by_name_and_nothing_is_lost(tmp_path, recordings, key, value):
    store(tmp_path).keep(scores(recordings[0]))
    with pytest.raises(DataError, match=f"the earlier job had another {key}; use the same value, or start again"):
        store(tmp_path, **{key: value})
    assert recordings[0] in store(tmp_path)


def test_a_recording_changed_since_is_scored_again(tmp_path, recordings):
    kept = store(tmp_path)
    for path in recordings:
        kept.keep(scores(path))
    recordings[0].write_text("something longer")
    os.utime(recordings[1], ns=(1, 1))
    recordings[2].unlink()
    assert [path in store(tmp_path) for path in recordings] == [False, False, False]


@pytest.mark.parametrize("how", ["mean", "rank"])
def test_a_recording_changed_or_removed_after_it_was_scored_is_written_all_the_same(tmp_path, recordings, how):
    kept = store(tmp_path)
    assert not any(path in kept for path in recordings)
    os.utime(recordings[2], ns=(1, 1))  # while it was scored
    for path in recordings:
        kept.keep(scores(path))
    os.utime(recordings[0], ns=(1, 1))
    recordings[1].unlink()
    assert [result.path for result in kept.results(recordings, how, False)] == recordings
    assert not any(path in store(tmp_path) for path in recordings)  # for the next job they are others


@pytest.mark.parametrize("how", ["mean", "rank"])
def test_a_missing_result_is_an_error_and_not_left_out(tmp_path, recordings, how):
    kept = store(tmp_path)
    for path in recordings:
        kept.keep(scores(path))
    file_of(kept, recordings[1]).unlink()
    with pytest.raises(DataError, match=r"b\.wav: its kept scores are missing or damaged; score it again"):
        list(kept.results(recordings, how, False))


def test_damaged_scores_are_not_used_wherever_the_damage_is(tmp_path, recordings):
    kept, rng = store(tmp_path), random.Random(1)
    kept.keep(scores(recordings[0]))
    path = file_of(kept, recordings[0])
    whole = path.read_bytes()
    (expected,) = kept.results(recordings[:1], "mean", False)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        if recordings[0] not in kept:
            refused += 1
        else:  # a byte of no meaning, such as a date
            (result,) = kept.results(recordings[:1], "mean", False)
            np.testing.assert_array_equal(result.scores, expected.scores)
            np.testing.assert_array_equal(result.start_s, expected.start_s)
    assert refused > 200
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert recordings[0] not in kept


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_damaged_job_starts_from_the_beginning(tmp_path, recordings, content):
    kept = store(tmp_path)
    kept.keep(scores(recordings[0]))
    (kept.folder / "job.json").write_bytes(content)
    assert recordings[0] not in store(tmp_path)


def test_the_problem_of_a_recording_is_kept(tmp_path, recordings):
    kept = store(tmp_path)
    kept.keep(scores(recordings[0], problem="truncated: 3 s are missing"))
    kept.keep(scores(recordings[1]))
    assert list(store(tmp_path).problems(recordings)) == [(recordings[0], "truncated: 3 s are missing")]


def test_a_full_disk_leaves_what_was_kept(tmp_path, recordings, monkeypatch):
    kept = store(tmp_path)
    kept.keep(scores(recordings[0]))
    before = sorted(kept.folder.iterdir())

    def full(file, **_):
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        kept.keep(scores(recordings[1]))
    assert sorted(kept.folder.iterdir()) == before
    assert recordings[0] in kept


def test_an_output_of_this_folder_has_a_name_too(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert ScoreStore(tmp_path.__class__("."), SETTINGS, resume=False).folder == tmp_path / ".here.parts"


def test_nothing_is_left_in_the_end(tmp_path, recordings):
    kept = store(tmp_path)
    kept.keep(scores(recordings[0]))
    kept.remove()
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in recordings}
