"""Which segments of a recording are the rows, and which windows does each row have?"""

import numpy as np
import pytest

import inference.window_plan
from dataloader.batches.windows import window_starts
from dataloader.cache.spectrogram import standardise
from inference.window_plan import SPAN_S, Grid, Windower, WindowPlan
from utils.settings import DataProcess

RATE = 64.0
BANDS = 4
PROCESS = DataProcess(n_mels=BANDS)


def plan(window, length=None, *, step=None, shift_tta=False, span=0, rate=RATE):
    """A plan whose row and step are given in frames."""
    grid = Grid(window / rate, (step or window) / rate, shift_tta)
    return WindowPlan(grid, rate, length or window, PROCESS, span)


def recording(frames, seed=0):
    return np.random.default_rng(seed).normal(-50, 10, (frames, BANDS)).astype(np.float32)


def cut(frames, *plans, rng=None, size=None):
    """All rows and windows of a recording that arrives in pieces of ``size`` frames, or of random lengths."""
    rng = rng or np.random.default_rng(0)
    windower, found, windows, first = Windower(plans, [0] * len(plans)), [], [[] for _ in plans], 0
    while first < len(frames):
        piece = size or int(rng.integers(1, 400))
        done = windower.push([frames[first : first + piece]])
        first += piece
        found += done.rows
        for all_of, new in zip(windows, done.windows, strict=True):
            all_of += new
    done = windower.finish(len(frames) / plans[0].rate)
    for all_of, new in zip(windows, done.windows, strict=True):
        all_of += new
    return found + done.rows, windows


def test_rows_are_the_windows_of_training_whatever_the_blocks():
    rng = np.random.default_rng(1)
    for _ in range(300):
        total, window = int(rng.integers(1, 2500)), int(rng.integers(2, 400))
        step, length = int(rng.integers(1, 2 * window)), int(rng.integers(2, 500))
        if total / step > 200:
            continue
        its = plan(window, length, step=step, shift_tta=bool(rng.integers(2)), span=int(rng.choice([0, 600])))
        rows, _ = cut(recording(total), its, rng=rng)
        starts = [round(row.start_s * RATE) for row in rows]
        assert starts == window_starts(total, window, step=step), (total, window, step, length)
        assert rows[-1].end_s * RATE == pytest.approx(min(total, starts[-1] + window))


def test_windows_are_slices_of_the_recording_to_the_bit():
    rng, whole = np.random.default_rng(2), recording(1500)
    for window, length in ((320, 320), (160, 320), (320, 100), (333, 57)):
        its = plan(window, length, step=100)
        rows, (windows,) = cut(whole, its, rng=rng)
        for row in rows:
            for (number, _), (first, _) in zip(row.windows[0], its.windows(row.start_s), strict=True):
                first = min(max(0, first), len(whole) - length)
                assert np.array_equal(windows[number], whole[first : first + length])


@pytest.mark.parametrize(("window", "length"), [(320, 320), (160, 320), (320, 100), (640, 448), (333, 57)])
def test_the_windows_of_a_row_cover_it_and_their_weights_sum_to_1(window, length):
    for shift_tta in (False, True):
        windows = plan(window, length, shift_tta=shift_tta).windows(10.0)
        assert sum(weight for _, weight in windows) == pytest.approx(1)
        seen = np.zeros(5000, bool)
        for first, _ in windows:
            seen[first : first + length] = True
        assert seen[640 : 640 + window].all()


def test_a_window_longer_than_its_row_has_the_row_in_its_middle_and_is_inside_the_recording():
    whole = recording(700)  # rows of 160 frames, windows of 320: 80 before and 80 after
    rows, (windows,) = cut(whole, plan(160, 320))
    firsts = [int(np.flatnonzero((whole == windows[row.windows[0][0][0]][0]).all(axis=1))[0]) for row in rows]
    assert [round(row.start_s * RATE) for row in rows] == [0, 160, 320, 480]
    assert firsts == [0, 80, 240, 380]


@pytest.mark.parametrize("total", [1, 7, 50, 99])
def test_a_recording_shorter_than_a_window_is_repeated(total):
    whole = recording(total)
    rows, (windows,) = cut(whole, plan(100))
    assert len(rows) == len(windows) == 1
    assert np.array_equal(windows[0], np.tile(whole, (100, 1))[:100])
    assert (rows[0].start_s, rows[0].end_s) == (0.0, total / RATE)


@pytest.mark.parametrize("total", [101, 150, 768, 1000, 3839])
def test_the_windows_of_a_recording_shorter_than_a_row_are_spread_over_it(total):
    """Spread over the whole row, those beyond the recording's end would all fall on its last window."""
    whole = recording(total)
    (row,), (windows,) = cut(whole, plan(3840, 100))
    firsts = [int(np.flatnonzero((whole == window[0]).all(axis=1))[0]) for window in windows]
    assert firsts == [round(number * (total - 100) / (len(firsts) - 1)) for number in range(len(firsts))]
    assert len(firsts) == -(-total // 100)
    assert [weight for _, weight in row.windows[0]] == pytest.approx([1 / len(firsts)] * len(firsts))
    assert (row.start_s, row.end_s) == (0.0, total / RATE)


def test_shift_tta_adds_windows_half_a_window_earlier_and_later_with_half_the_weight():
    windows = plan(320, shift_tta=True).windows(20.0)
    assert sorted(windows) == [(1120, 0.25), (1280, 0.5), (1440, 0.25)]


def test_a_window_that_two_rows_share_is_cut_once():
    whole = recording(3200)
    rows, (windows,) = cut(whole, plan(320, shift_tta=True))
    assert len(rows) == 10
    # Ten in the middle, the nine between them; what would reach beyond an end falls on the first or the last.
    assert len(windows) == 19


def test_a_window_standardised_over_a_span_is_the_same_in_a_file_of_any_length():
    span = round(SPAN_S * RATE)
    short = recording(round(180 * RATE))
    long = np.concatenate([recording(round(300 * RATE), 7), short, recording(round(120 * RATE), 8)])
    its = plan(320, span=span)
    rows_short, (in_short,) = cut(short, its, rng=np.random.default_rng(3))
    rows_long, (in_long,) = cut(long, its, rng=np.random.default_rng(4))
    inner = range(6, 30)  # from 30 s to 150 s: their spans are whole in both
    for number in inner:
        assert rows_long[number + 60].start_s == rows_short[number].start_s + 300
        assert np.array_equal(in_short[number], in_long[number + 60])


def test_a_recording_no_longer_than_the_span_is_standardised_over_all_of_it():
    for total in (500, 1920, 3840):
        whole = recording(total)
        _, (windows,) = cut(whole, plan(320, span=round(SPAN_S * RATE)))
        expected = standardise(whole.T, PROCESS).T
        for window, first in zip(windows, window_starts(total, 320), strict=True):
            np.testing.assert_allclose(window, expected[first : first + 320], atol=1e-4)


def test_a_row_of_hours_is_joined_once_and_not_with_every_block(monkeypatch):
    joined, join = [], np.concatenate
    monkeypatch.setattr(
        inference.window_plan.np, "concatenate", lambda pieces: joined.append(len(pieces)) or join(pieces)
    )
    windower, block = Windower([plan(720 * 640, 320)], [0]), recording(640)
    cuts = [windower.push([block]) for _ in range(720)]
    assert [len(cut.rows) for cut in cuts] == [0] * 719 + [1]
    assert sum(len(cut.windows[0]) for cut in cuts) == 1440
    assert sum(joined) < 730


def test_twelve_hours_are_cut_in_the_memory_of_some_minutes():
    plans = [plan(320, span=round(SPAN_S * RATE)), plan(320, 960, shift_tta=True)]
    windower, block = Windower(plans, [0, 0]), recording(1920)
    held = rows = 0
    for _ in range(12 * 120):
        cut = windower.push([block])
        rows += len(cut.rows)
        held = max(held, len(windower._held[0].frames))
    rows += len(windower.finish(12 * 3600.0).rows)
    assert rows == 12 * 720
    assert held / RATE < 180  # seconds
    assert sum(map(len, windower._known)) < 10


@pytest.mark.parametrize("shift_tta", [False, True])
@pytest.mark.parametrize("span", [0, 600])
@pytest.mark.parametrize(("window", "length"), [(160, 320), (160, 768), (320, 640), (320, 320), (333, 57)])
def test_windows_do_not_depend_on_how_the_sound_arrives(window, length, span, shift_tta):
    whole = recording(1500)
    plans = [plan(window, length, step=100, span=span, shift_tta=shift_tta)]
    rows, (windows,) = cut(whole, *plans, size=len(whole))
    for size in (1, 64, 320, 639, 640, 767):
        its_rows, (its_windows,) = cut(whole, *plans, size=size)
        assert its_rows == rows
        assert all(map(np.array_equal, its_windows, windows)), size


def test_models_of_other_windows_share_a_recording_however_it_arrives():
    """The widest window decides what must be kept and when a row is complete."""
    whole = recording(1500)
    plans = [plan(160, 160), plan(160, 700, shift_tta=True), plan(160, 100, span=600)]
    for order in (plans, plans[::-1]):
        rows, windows = cut(whole, *order, size=len(whole))
        for size in (1, 64, 333):
            its_rows, its_windows = cut(whole, *order, size=size)
            assert its_rows == rows
            for one, other in zip(its_windows, windows, strict=True):
                assert len(one) == len(other)
                assert all(map(np.array_equal, one, other)), size


def test_models_of_other_frame_rates_get_the_same_seconds():
    """The second spectrogram has half the frames a second; its values are the seconds they stand for."""
    seconds = 62.0
    fine, coarse = (np.arange(round(seconds * rate), dtype=np.float32)[:, None] / rate for rate in (64.0, 32.0))
    grid = Grid(5.0, 5.0)
    plans = [WindowPlan(grid, 64.0, 320, PROCESS), WindowPlan(grid, 32.0, 96, PROCESS)]
    windower = Windower(plans, [0, 1])
    cuts = [
        windower.push([fine[second * 64 : (second + 7) * 64], coarse[second * 32 : (second + 7) * 32]])
        for second in range(0, 62, 7)
    ]
    cuts.append(windower.finish(seconds))
    rows = [row for cut in cuts for row in cut.rows]
    windows = [[window for cut in cuts for window in cut.windows[number]] for number in range(2)]
    assert [row.start_s for row in rows] == [5.0 * number for number in range(12)]
    for row in rows:
        for number, rate in enumerate((64.0, 32.0)):
            its = np.concatenate([windows[number][window] for window, _ in row.windows[number]])
            assert its.min() == pytest.approx(row.start_s, abs=1 / rate)
            assert its.max() == pytest.approx(row.end_s, abs=2 / rate)
