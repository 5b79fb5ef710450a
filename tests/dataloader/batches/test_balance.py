"""Does each setting of balance change what it says, for training only?"""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dataloader.batches.balance import Balance, keep_quietest
from dataloader.cache.entries import Footer, loudness, write_entry

SIZES = {"common": 40, "middle": 10, "rare": 2}  # recordings, of 1 to 5 windows
LABELS = [(label,) for label, count in SIZES.items() for _ in range(count)]
RECORDING = np.repeat(np.arange(len(LABELS)), np.arange(len(LABELS)) % 5 + 1)
LABEL_OF_ROW = np.array([LABELS[recording][0] for recording in RECORDING])
ROWS = Counter(LABEL_OF_ROW.tolist())


def balance(power=0.0, rare_to=0, class_cap=0, seed=1):
    return Balance(RECORDING, LABELS, power=power, rare_to=rare_to, class_cap=class_cap, seed=seed)


def recordings_by_class(rows):
    pairs = {(LABEL_OF_ROW[row], RECORDING[row]) for row in rows}
    return Counter(label for label, _ in pairs)


def test_switched_off_every_row_comes_once():
    assert balance().rows(1).tolist() == list(range(len(RECORDING)))


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_classes_are_drawn_as_often_as_the_power_sets(power):
    one = balance(power=power)
    drawn = np.concatenate([one.rows(epoch) for epoch in range(200)])
    assert len(drawn) == 200 * len(RECORDING)
    weights = {label: count ** (1 - power) for label, count in ROWS.items()}
    for label, weight in weights.items():
        assert np.mean(LABEL_OF_ROW[drawn] == label) == pytest.approx(weight / sum(weights.values()), rel=0.05)
    times = Counter(drawn[LABEL_OF_ROW[drawn] == "rare"].tolist())  # and within a class every row alike
    assert max(times.values()) < 1.2 * min(times.values())


def test_a_capped_class_has_the_windows_of_that_many_recordings_others_each_epoch():
    one = balance(class_cap=10)
    epochs = [one.rows(epoch) for epoch in range(1, 40)]
    for rows in epochs:
        counts = recordings_by_class(rows)
        assert counts == {"common": counts["common"], "middle": 10, "rare": 2}
        assert 7 <= counts["common"] <= 15  # more where short ones were drawn
        assert Counter(LABEL_OF_ROW[rows].tolist()) == ROWS | {"common": ROWS["common"] // 4}
    seen = {RECORDING[row] for rows in epochs for row in rows}
    assert seen == set(range(len(LABELS)))


def test_of_recordings_of_one_length_a_capped_class_has_class_cap():
    recording = np.repeat(np.arange(12), 3)
    one = Balance(recording, [("a",)] * 12, power=0.0, rare_to=0, class_cap=5, seed=1)
    for epoch in range(1, 20):
        rows = one.rows(epoch)
        assert len(np.unique(rows)) == len(rows) == 15
        assert len(np.unique(recording[rows])) == 5


def test_a_rare_class_is_repeated_and_the_others_are_left_alone():
    rows = balance(rare_to=5).rows(1)
    counts = Counter(LABEL_OF_ROW[rows].tolist())
    assert counts == ROWS | {"rare": round(ROWS["rare"] * 5 / 2)}
    times = Counter(rows[LABEL_OF_ROW[rows] == "rare"].tolist())
    assert set(times) == set(np.flatnonzero(LABEL_OF_ROW == "rare"))
    assert set(times.values()) <= {2, 3, 4}


@pytest.mark.parametrize(
    ("windows", "rare_to", "class_cap", "often"),
    [
        ([1, 91], 3, 0, (1, 2)),
        ([1, 1, 20], 20, 0, (6, 7)),
        ([1] * 9 + [91], 0, 5, (0, 1)),
        ([3] * 4, 6, 0, (1, 2)),
    ],
)
def test_windows_of_a_short_recording_do_not_replace_those_of_a_long_one(windows, rare_to, class_cap, often):
    recording = np.repeat(np.arange(len(windows)), windows)
    one = Balance(recording, [("a",)] * len(windows), power=0.0, rare_to=rare_to, class_cap=class_cap, seed=1)
    for epoch in range(1, 30):
        rows = one.rows(epoch)
        times = np.bincount(rows, minlength=len(recording))
        assert len(rows) == one.n_rows == round(sum(windows) * (rare_to or class_cap) / len(windows))
        assert set(times.tolist()) <= set(often)


def test_an_epoch_follows_from_the_seed_and_its_number():
    one, same, other = balance(0.5, 5, 10), balance(0.5, 5, 10), balance(0.5, 5, 10, seed=2)
    assert len(one.rows(3)) == one.n_rows
    np.testing.assert_array_equal(one.rows(3), same.rows(3))  # whatever was asked before
    assert one.rows(3).tolist() != one.rows(4).tolist()
    assert one.rows(3).tolist() != other.rows(3).tolist()


def test_a_recording_of_two_species_counts_for_the_rarer_and_one_of_none_for_itself():
    labels = [("a",)] * 6 + [("a", "b"), ()]
    one = Balance(np.arange(8), labels, power=0.0, rare_to=4, class_cap=0, seed=1)
    assert Counter(one.rows(1).tolist()) == {**dict.fromkeys(range(6), 1), 6: 4, 7: 4}


def entry(path, db):
    array = np.zeros((50, 8), np.float16)
    array[::2], array[1::2] = 1.0, -1.0
    write_entry(path, [array], (8, 50), np.full(8, db), np.full(8, 10.0), Footer(b"x" * 16, 1, 1, 1, 50, 0))
    return str(path)


def test_loudness_is_the_mean_power_over_bands_and_time(tmp_path):
    power = (10**-3.0 + 10**-5.0) / 2  # half the frames at -30 dB, half at -50 dB
    assert loudness(entry(tmp_path / "a.npy", -40.0)) == pytest.approx(10 * np.log10(power), abs=1e-3)


@pytest.fixture
def table(tmp_path):
    rows = [
        (label, level) for label, levels in {"a": [-20, -60, -40, -30, -50], "b": [-10]}.items() for level in levels
    ]
    rows += [("a", 0)]
    return pd.DataFrame(
        {
            "labels": [(label,) for label, _ in rows],
            "level": [level for _, level in rows],
            "entry": [entry(tmp_path / f"{row}.npy", level) for row, (_, level) in enumerate(rows)],
            "split": ["train"] * 6 + ["val"],
        }
    )


@pytest.mark.parametrize(
    ("share", "levels"), [(1.0, [-20, -60, -40, -30, -50]), (0.8, [-60, -40, -30, -50]), (0.35, [-60, -50])]
)
def test_the_quietest_of_each_class_stay_in_training_and_all_elsewhere(table, share, levels):
    assert keep_quietest(table, share)["level"].tolist() == [*levels, -10, 0]


def test_one_of_each_class_stays(table):
    assert keep_quietest(table, 0.01)["level"].tolist() == [-60, -10, 0]


def test_a_recording_of_two_species_stays_if_either_keeps_it_and_those_of_none_are_a_class(table):
    labels = [("a",), ("a", "b"), ("b",), ("b",), (), (), ("a",)]
    levels = [-60, -20, -10, -5, -70, -1, 0]  # the second is the louder of a, the quietest of b
    rows = table.assign(labels=labels, level=levels)
    rows["entry"] = [
        entry(Path(path).with_name(f"{level}.npy"), level) for path, level in zip(rows["entry"], levels, strict=True)
    ]
    assert keep_quietest(rows, 0.34)["level"].tolist() == [-60, -20, -70, 0]


def test_windows_of_a_source_of_twice_the_weight_come_twice_as_often():
    recording, weights = np.repeat(np.arange(40), 10), np.where(np.arange(40) < 20, 2.0, 1.0)
    balance = Balance(recording, [("a",)] * 40, power=0.0, rare_to=0, class_cap=0, seed=1, weights=weights)
    drawn = np.concatenate([recording[balance.rows(epoch)] for epoch in range(20)])
    assert balance.n_rows == 400
    assert np.mean(drawn < 20) == pytest.approx(2 / 3, abs=0.02)
