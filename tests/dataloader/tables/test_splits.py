"""Does a split keep groups together and classes in every split?"""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dataloader.metadata import author_groups, read_metadata
from dataloader.tables.splits import deal_into_folds, known_split, split_by_group
from utils.errors import ConfigError

BIRDS = Path(os.environ.get("BIRDS_DIR") or Path(__file__).parents[4] / "shared" / "birds")


def table(n=300, classes=6, groups=80, seed=0):
    rng = np.random.default_rng(seed)
    labels = [(f"l{label}",) for label in rng.integers(0, classes, n)]
    return pd.DataFrame({"labels": labels, "group": [f"g{group}" for group in rng.integers(0, groups, n)]})


def split(rows, train_ratio=0.7, test_val_ratio=0.5, seed=1):
    return split_by_group(rows, train_ratio=train_ratio, test_val_ratio=test_val_ratio, seed=seed)


def test_no_group_is_in_two_subsets():
    rows = table()
    assert (rows.assign(split=split(rows)).groupby("group")["split"].nunique() == 1).all()


def test_the_shares_are_about_those_asked_for_in_every_class():
    rows = table(n=2000, groups=500)
    splits = rows.assign(split=split(rows), label=rows["labels"].str[0])
    shares = splits.groupby("label")["split"].value_counts(normalize=True).unstack()
    assert (abs(shares["train"] - 0.7) < 0.05).all()
    assert (abs(shares["val"] - 0.15) < 0.05).all()
    assert (abs(shares["test"] - 0.15) < 0.05).all()


def test_a_class_too_small_for_every_side_is_trained_on(caplog):
    rows = pd.DataFrame(
        {"labels": [("rare",)] * 3 + [("common",)] * 20, "group": ["one"] * 3 + [f"g{i}" for i in range(20)]}
    )
    assert split(rows)[:3] == ["train"] * 3
    assert "1 class has too few groups of recordings for val" in caplog.text
    assert "rare" in caplog.text


@pytest.mark.parametrize("train_ratio", [0.2, 0.5, 0.7])
def test_every_class_is_trained_on_before_it_is_scored_however_small_the_share(train_ratio):
    """By the shares alone, a class of one or two groups would often go to val or test and to no training."""
    groups = [(f"small{number}", f"g{number}-{group}") for number in range(30) for group in range(1 + number % 2)]
    groups += [("common", f"c{group}") for group in range(60)]
    rows = pd.DataFrame({"labels": [(label,) for label, _ in groups], "group": [group for _, group in groups]})
    for seed in range(3):
        splits = rows.assign(split=split(rows, train_ratio=train_ratio, seed=seed), label=rows["labels"].str[0])
        assert set(splits.loc[splits["split"] == "train", "label"]) == set(splits["label"])
        assert set(splits.loc[splits["label"] == "common", "split"]) == {"train", "val", "test"}


def test_the_seed_decides_and_the_order_of_rows_does_not():
    rows = table()
    assert split(rows) == split(rows)
    assert split(rows) != split(rows, seed=2)
    shuffled = rows.sample(frac=1, random_state=3)
    assert dict(zip(shuffled["group"], split(shuffled), strict=True)) == dict(
        zip(rows["group"], split(rows), strict=True)
    )


def test_all_for_training_leaves_nothing_to_score():
    assert set(split(table(), train_ratio=1.0)) == {"train"}
    assert set(split(table(), test_val_ratio=1.0)) == {"train", "test"}
    assert set(split(table(), test_val_ratio=0.0)) == {"train", "val"}


def test_every_recording_is_on_one_fold_and_no_group_on_two():
    rows = table()
    folds = rows.assign(fold=deal_into_folds(rows, 5))
    assert set(folds["fold"]) == {1, 2, 3, 4, 5}
    assert (folds.groupby("group")["fold"].nunique() == 1).all()


@pytest.mark.parametrize("n_folds", [2, 3, 5, 10])
def test_folds_are_of_one_size_and_hold_every_class_alike(n_folds):
    rows = table(n=2000, groups=500)
    folds = rows.assign(fold=deal_into_folds(rows, n_folds), label=rows["labels"].str[0])
    assert folds["fold"].value_counts(normalize=True).tolist() == pytest.approx([1 / n_folds] * n_folds, rel=0.03)
    of_class = folds.groupby("label")["fold"].value_counts(normalize=True)
    assert of_class.to_numpy() == pytest.approx(1 / n_folds, rel=0.15)


def test_folds_depend_on_the_recordings_alone_and_not_on_their_order():
    rows = table()
    shuffled = rows.sample(frac=1, random_state=3)
    np.random.seed(7)
    assert dict(zip(shuffled["group"], deal_into_folds(shuffled, 5), strict=True)) == dict(
        zip(rows["group"], deal_into_folds(rows, 5), strict=True)
    )


def test_a_class_is_in_as_many_folds_as_it_has_groups_and_one_that_cannot_be_learned_is_reported(caplog):
    rows = pd.DataFrame(
        {
            "labels": [("one",)] * 3 + [("three",)] * 6 + [("many",)] * 40 + [()] * 8,
            "group": ["a"] * 3 + ["b", "c", "d"] * 2 + [f"g{i}" for i in range(40)] + [f"n{i}" for i in range(8)],
        }
    )
    folds = rows.assign(fold=deal_into_folds(rows, 4)).groupby(rows["labels"].map(" ".join))["fold"].nunique()
    assert folds.to_dict() == {"one": 1, "three": 3, "many": 4, "": 4}
    assert caplog.messages == ["1 class is in one fold only, so that no model that tests them was trained on them: one"]


def test_a_fold_gets_its_only_chance_of_a_class_though_it_grows_larger_than_the_others():
    labels = [("a", "b", "c"), ("b",), ("d",), ("d",)]
    folds = deal_into_folds(pd.DataFrame({"labels": labels, "group": ["place", "place", "d1", "d2"]}), 2)
    assert sorted(folds[2:]) == [1, 2]  # by size alone both of d would be in the fold where the place is not


def test_more_folds_than_groups_are_refused():
    with pytest.raises(ConfigError, match=r"\[data\] folds = '4': the recordings have only 3 groups"):
        deal_into_folds(table(groups=3), 4)


def test_few_groups_of_many_classes_keep_training_its_share():
    """As the synthetic birds are: a split that were owed every class would cost training a tenth of its recordings."""
    rows = table(n=120, classes=12, groups=36, seed=3)
    assert split(rows).count("train") >= 0.65 * len(rows)


def test_recordings_without_a_species_are_on_every_side():
    labels = [("a",)] * 40 + [()] * 40
    splits = split(pd.DataFrame({"labels": labels, "group": [f"g{i}" for i in range(80)]}))
    assert Counter(splits[40:]) == {"train": 28, "val": 6, "test": 6}


@pytest.mark.skipif(not BIRDS.is_dir(), reason="no real recordings: set BIRDS_DIR")
def test_real_recordings_are_split_well():
    rows = read_metadata(BIRDS)
    splits = rows.assign(split=split(rows))
    assert (splits.groupby("group")["split"].nunique() == 1).all()
    assert set(splits[splits["split"] == "train"]["primary_label"]) == set(rows["primary_label"])
    counts = Counter(splits["split"])
    assert counts["train"] / len(rows) == pytest.approx(0.7, abs=0.05)
    # Places of many species are large, and one that several species need on a split goes there whole.
    assert counts["test"] / len(rows) == pytest.approx(0.15, abs=0.05)
    assert counts["val"] / len(rows) == pytest.approx(0.15, abs=0.05)


@pytest.mark.skipif(not BIRDS.is_dir(), reason="no real recordings: set BIRDS_DIR")
def test_real_recordings_by_author_share_no_author_and_no_group():
    rows = read_metadata(BIRDS)
    splits = rows.assign(split=split(rows.assign(group=author_groups(rows, BIRDS))))
    assert (splits.groupby("author")["split"].nunique() == 1).all()
    assert (splits.groupby("group")["split"].nunique() == 1).all()
    assert set(splits[splits["split"] == "train"]["primary_label"]) == set(rows["primary_label"])


@pytest.mark.skipif(not BIRDS.is_dir(), reason="no real recordings: set BIRDS_DIR")
def test_real_recordings_are_dealt_into_folds_well():
    rows = read_metadata(BIRDS)
    rows = rows.assign(fold=deal_into_folds(rows, 5), label=rows["primary_label"])
    assert rows["fold"].value_counts(normalize=True).tolist() == pytest.approx([0.2] * 5, abs=0.02)
    of_class = rows.groupby("label").agg(groups=("group", "nunique"), folds=("fold", "nunique"))
    # A place of many species goes to one fold whole, and may leave another without one of them.
    assert (of_class["folds"] < of_class["groups"].clip(upper=5)).sum() <= 3
    assert (of_class["folds"] >= 2).all()


def of_known_split(*splits, groups="abcdef"):
    rows = list(zip(splits, groups, strict=False))
    return pd.DataFrame(
        {
            "filename": [f"a/{number}" for number in range(len(rows))],
            "known_split": [split for split, _ in rows],
            "group": [group for _, group in rows],
        }
    )


def test_a_known_split_stays_and_what_has_none_trains(caplog):
    caplog.set_level("INFO")
    table = of_known_split("test", "val", "train", "")
    assert known_split(table, folds=0, fold=1) == ["test", "val", "train", "train"]
    assert "the split of the data is used: 2 for train, 1 for val, 1 for test; 1 without a split train" in caplog.text
    assert known_split(of_known_split("", ""), folds=0, fold=1) is None
    assert known_split(table.drop(columns="known_split"), folds=0, fold=1) is None


def test_a_fold_of_the_data_is_the_test_set():
    table = of_known_split("0", "1", "2", "1")
    assert known_split(table, folds=0, fold=1) == ["train", "test", "train", "test"]
    with pytest.raises(
        ConfigError, match=r"\[data\] fold = '3': the split of the data has the folds 0, 1, 2; name one"
    ):
        known_split(table, folds=3, fold=3)
    with pytest.raises(ConfigError, match=r"\[data\] folds = '5': the split of the data has train, val and test"):
        known_split(of_known_split("train", "test"), folds=5, fold=1)


def test_a_group_on_two_sides_of_a_known_split_is_warned_of(caplog):
    known_split(of_known_split("train", "test", "val", groups="aab"), folds=0, fold=1)
    assert "1 group is in more than one subset of the data's split" in caplog.text
