"""Do windows of annotated recordings have the labels of what lies in them, and does training use the right ones?"""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataloader.batches.timed import TimedLabels, training_windows
from dataloader.tables.schema import Annotation
from utils.errors import DataError
from utils.settings import Data, DataProcess

CLASSES = ["a", "b", "c"]
PROCESS = DataProcess(
    sample_rate=16_000, hop_length=250, n_fft=512, f_max=7_500.0, max_length_s=2.0
)  # 64 frames a second
LENGTH, RATE = 128, 64


def recordings(*annotations, seconds=60.0, unannotated="absent", known_for=None):
    """One recording for each list of annotations; None: one whose label is on the whole of it."""
    return pd.DataFrame(
        {
            "annotations": pd.Series([None if one is None else tuple(one) for one in annotations], dtype=object),
            "unannotated": unannotated,
            "known_for": pd.Series([known_for] * len(annotations), dtype=object),
            "frames": round(seconds * RATE),
            "labels": [("a",)] * len(annotations),
        }
    )


def targets(annotations, start_s, end_s, min_overlap_s=0.25, **how):
    timed = TimedLabels(recordings(annotations, **how), CLASSES, min_overlap_s)
    return timed.targets(0, start_s, end_s).tolist()


milliseconds = st.integers(0, 12_000)
names = st.sampled_from([*CLASSES, "-a", "-b", "?", "nocall", "d"])
spans = st.tuples(milliseconds, st.integers(1, 6_000), names)


@settings(max_examples=60, deadline=None)
@given(
    found=st.lists(spans, max_size=6),
    start=milliseconds,
    length=st.integers(100, 5_000),
    least=st.integers(1, 2_000),
    unannotated=st.sampled_from(["absent", "unknown", "left_out"]),
    known_for=st.one_of(st.none(), st.sets(st.sampled_from(CLASSES)).map(tuple)),
)
def test_the_targets_of_a_window_equal_an_independent_computation(found, start, length, least, unannotated, known_for):
    """Counted in whole milliseconds, label by label, from the words of docs/data.md."""
    window = set(range(start, start + length))
    inside = set()
    for begin, duration, label in found:
        overlap = len(window & set(range(begin, begin + duration)))
        if overlap >= min(Fraction(least), Fraction(duration, 2), Fraction(length, 2)):
            inside.add(label)
    expected = []
    for name in CLASSES:
        if name in inside:
            expected.append(1.0)
        elif f"-{name}" in inside:
            expected.append(0.0)
        elif (known_for is not None and name not in known_for) or "?" in inside:
            expected.append(-1.0)
        elif unannotated == "absent":
            expected.append(0.0)
        elif unannotated == "unknown":
            expected.append(0.0 if "nocall" in inside else -1.0)
        else:
            expected.append(0.0 if inside else -1.0)
    annotations = [Annotation(begin / 1000, (begin + duration) / 1000, label) for begin, duration, label in found]
    how = {"unannotated": unannotated, "known_for": known_for}
    assert targets(annotations, start / 1000, (start + length) / 1000, least / 1000, **how) == expected


def test_every_annotation_is_in_one_of_two_windows_side_by_side():
    for begin in np.arange(0.0, 4.0, 0.05):
        call = [Annotation(begin, begin + 0.005, "a")]  # of a bat, 5 ms
        assert any(targets(call, start, start + 2.0)[0] == 1.0 for start in (0.0, 2.0, 4.0))


def windows(table, *, crop=False, **data):
    return training_windows(table, CLASSES, PROCESS, Data(**data), crop=crop)


NIGHT = [Annotation(1000.0 * number + 1.0, 1000.0 * number + 1.5, "a") for number in range(10)]


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize(("unannotated", "n_windows"), [("left_out", 10), ("unknown", 10), ("absent", 20)])
def test_three_hours_with_ten_annotations_cost_ten_windows_and_as_many_empty_ones(crop, unannotated, n_windows):
    table = recordings(NIGHT, seconds=3 * 3600, unannotated=unannotated)
    assert len(windows(table, crop=crop)) == n_windows
    if unannotated == "absent":
        assert len(windows(table, crop=crop, empty_windows=0.0)) == 10
        assert len(windows(table, crop=crop, empty_windows=3.0)) == 40


def test_whole_recordings_keep_all_their_windows_beside_annotated_ones():
    rows = windows(recordings(None, NIGHT[:1], seconds=20.0))
    assert rows["recording"].value_counts().to_dict() == {0: 10, 1: 2}


def test_an_annotation_in_a_tail_that_no_window_reaches_has_one():
    tail = [Annotation(20.2, 20.6, "a")]
    rows = windows(recordings(tail, seconds=20.7), empty_windows=0.0)
    (first,) = rows["first_frame"]
    assert first + LENGTH == round(20.7 * RATE)


@settings(max_examples=30, deadline=None)
@example(found=[(0, 1, "a"), (0, 1001, "a")], at=1.0, seconds=3)
@given(found=st.lists(spans, min_size=1, max_size=5), at=st.floats(0, 1), seconds=st.integers(3, 20))
def test_every_window_drawn_near_an_annotation_holds_one_and_every_other_holds_none(found, at, seconds):
    annotations = [Annotation(begin / 1000, (begin + duration) / 1000, label) for begin, duration, label in found]
    table = recordings(annotations, seconds=seconds)
    timed, frames = TimedLabels(table, CLASSES, 0.25), seconds * RATE
    said = [one for one in annotations if one.label != "?" and one.end_s <= seconds]
    rows = windows(table, crop=True, segment_max_s=10.0)
    labelled = 0
    for _, first, count in rows.itertuples(index=False, name=None):
        assert 0 <= first <= first + count <= frames
        start = (first + int(at * (count - LENGTH))) / RATE
        has_label = timed.is_labelled(0, start, start + LENGTH / RATE)
        labelled += has_label
        touched = any(one.start_s < start + LENGTH / RATE and one.end_s > start for one in said)
        assert has_label or not touched
    assert bool(labelled) or not said


def test_nothing_annotated_is_nothing_to_train_on():
    with pytest.raises(DataError, match="no training window has a label"):
        windows(recordings([], seconds=60.0, unannotated="left_out"))
