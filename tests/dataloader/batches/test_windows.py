"""Which windows of a recording are used?"""

import pandas as pd
import pytest

from dataloader.batches.windows import make_windows, window_frames, window_starts
from utils.settings import DataProcess


@pytest.mark.parametrize(
    ("frames", "starts"),
    [
        (1, [0]),
        (99, [0]),
        (100, [0]),
        (149, [0]),
        (150, [0, 50]),
        (200, [0, 100]),
        (249, [0, 100]),
        (260, [0, 100, 160]),
    ],
)
def test_windows_follow_one_another_and_a_long_tail_makes_a_last_one(frames, starts):
    assert window_starts(frames, 100) == starts


def test_single_takes_the_first_and_a_step_overlaps():
    assert window_starts(500, 100, mode="single") == [0]
    assert window_starts(250, 100, step=50) == [0, 50, 100, 150]
    assert window_starts(230, 100, step=50) == [0, 50, 100, 130]


def test_what_lies_between_windows_that_do_not_touch_is_no_tail():
    assert window_starts(400, 100, step=200) == [0, 200]
    assert window_starts(449, 100, step=200) == [0, 200]
    assert window_starts(450, 100, step=200) == [0, 200, 350]


def test_a_window_of_five_seconds_has_320_frames_and_one_of_twenty_1280():
    assert window_frames(DataProcess()) == 320
    assert window_frames(DataProcess(max_length_s=20.0)) == 1280
    assert window_frames(DataProcess(sample_rate=22_050, hop_length=512, max_length_s=5, f_max=11_000.0)) == 215


@pytest.mark.parametrize(("mode", "firsts"), [("slice", [0, 0, 320]), ("single", [0, 0])])
def test_the_windows_of_a_table_are_those_of_its_mode_and_no_longer_than_their_recording(mode, firsts):
    windows = make_windows(pd.DataFrame({"frames": [100, 640]}), DataProcess(mode=mode))
    assert windows["recording"].tolist() == [0, 1, 1][: len(firsts)]
    assert windows["first_frame"].tolist() == firsts
    assert windows["n_frames"].tolist() == [100, 320, 320][: len(firsts)]
