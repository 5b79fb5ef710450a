"""Which scores are detections, and which consecutive ones are one?"""

from pathlib import Path

import numpy as np
import pytest

from inference.detections import DetectionFilter, Result, detections


def result(scores, row_s: float = 5.0, step_s: float = 5.0) -> Result:
    """One label's scores, a row every ``step_s`` seconds."""
    start_s = np.arange(len(scores)) * step_s
    return Result(Path("a"), start_s, start_s + row_s, np.array(scores)[:, None], start_s[-1] + row_s, 32_000)


def spans(scores, **settings) -> list[tuple[float, float, float]]:
    found = detections(result(scores), DetectionFilter(merge=True, **settings))
    return [(one.start_s, one.end_s, round(one.score, 3)) for one in found]


def test_a_merged_detection_starts_above_one_threshold_and_goes_on_above_another():
    scores = [0.3, 0.8, 0.3, 0.3, 0.1, 0.3, 0.8]
    assert spans(scores, threshold=0.5) == [(5, 10, 0.8), (30, 35, 0.8)]
    assert spans(scores, threshold=0.5, stop_threshold=0.25) == [(5, 20, 0.8), (30, 35, 0.8)]


def test_a_merged_detection_is_no_longer_than_allowed_and_cut_where_it_is_weakest():
    scores = [0.9, 0.9, 0.9, 0.3, 0.9, 0.9, 0.9, 0.9]
    assert spans(scores, threshold=0.25, longest_s=25.0) == [(0, 15, 0.9), (15, 40, 0.9)]
    assert max(end - start for start, end, _ in spans(np.full(303, 0.9), threshold=0.25)) == 60.0


def test_what_is_left_of_a_cut_starts_anew_above_the_threshold():
    scores = [0.9, 0.3, 0.3, 0.3, 0.3, 0.9]
    assert spans(scores, threshold=0.5, stop_threshold=0.2, longest_s=15.0) == [(0, 15, 0.9), (25, 30, 0.9)]


@pytest.mark.parametrize("longest_s", [0.1, 1.0, 5.0, 7.0])
def test_a_row_is_never_cut(longest_s):
    assert spans([0.9, 0.8], threshold=0.5, longest_s=longest_s) == [(0, 5, 0.9), (5, 10, 0.8)]


def test_every_row_above_the_threshold_is_in_exactly_one_merged_detection():
    scores = np.random.default_rng(1).random(500)
    found = spans(scores, threshold=0.6, stop_threshold=0.3, longest_s=20.0)
    rows = [row for start, end, _ in found for row in range(int(start) // 5, int(end) // 5)]
    assert len(rows) == len(set(rows))
    assert set(np.flatnonzero(scores >= 0.6)) <= set(rows)
    assert all(scores[int(start) // 5] >= 0.6 and end - start <= 20 for start, end, _ in found)


def test_the_moment_of_the_highest_score_is_known():
    (found,) = detections(result([0.3, 0.9, 0.4]), DetectionFilter(threshold=0.25, merge=True))
    assert (found.start_s, found.peak_s) == (0.0, 5.0)


def test_rows_that_do_not_touch_are_not_merged():
    apart = result([0.9, 0.9], row_s=5.0, step_s=6.0)
    assert len(list(detections(apart, DetectionFilter(threshold=0.5, merge=True)))) == 2


def test_the_description_of_a_filter():
    assert DetectionFilter().description() == "all scores"
    both = DetectionFilter(0.5, 3, merge=True, stop_threshold=0.2)
    merged = "consecutive ones as one until a score is below 0.2, of up to 60 s"
    assert both.description() == f"scores of at least 0.5, the best 3 of each row, {merged}"
