"""Are recordings that stand twice in a data set found, and what becomes of them?"""

import pandas as pd

from dataloader.tables.duplicates import find_duplicates, merge_duplicates

METADATA = pd.DataFrame(
    {
        "filename": ["a/1", "a/2", "a/3", "b/1", "b/9"],
        "labels": [("a",), ("a",), ("a",), ("b",), ("b",)],
        "secondary_labels": [("c",), ("d", "c"), (), ("e",), ()],
        "author": ["Ann", "Ann", "Bob", "Ann", "Ann"],
        "samples": [100, 100, 100, 100, 70],
        "digest": ["x", "y", "z", "x", "w"],
        "group": ["g1", "g2", "g3", "g4", "g5"],
    }
)
FOUND = [("a/2", "a/1", "label_author_length"), ("b/1", "a/1", "content")]


def test_both_rules_find_what_they_say_and_nothing_else():
    assert find_duplicates(METADATA) == FOUND


def test_what_repeats_a_copy_repeats_its_original():
    metadata = METADATA.assign(samples=[100, 70, 60, 100, 100], author="Ann")  # b/9 is as long as b/1, a copy of a/1
    assert find_duplicates(metadata) == [("b/1", "a/1", "content"), ("b/9", "a/1", "label_author_length")]


def test_dropped_one_recording_under_two_labels_becomes_one_with_two():
    left = merge_duplicates(METADATA, FOUND, drop=True)
    assert left["filename"].tolist() == ["a/1", "a/3", "b/9"]
    assert left["labels"].tolist() == [("a", "b"), ("a",), ("b",)]
    assert left["secondary_labels"].tolist() == [("c", "d", "e"), (), ()]


def test_kept_exact_copies_keep_to_one_group():
    kept = merge_duplicates(METADATA, FOUND, drop=False)
    assert kept["filename"].tolist() == METADATA["filename"].tolist()
    assert kept["group"].tolist() == ["g1", "g2", "g3", "g1", "g5"]


def test_a_copy_of_what_repeats_another_by_its_length_keeps_to_the_group_of_what_it_is_a_copy_of():
    metadata = METADATA.assign(digest=["x", "y", "z", "y", "w"])  # b/1 is a copy of a/2, which is as long as a/1
    found = find_duplicates(metadata)
    assert found == [("a/2", "a/1", "label_author_length"), ("b/1", "a/1", "label_author_length")]
    assert merge_duplicates(metadata, found, drop=False)["group"].tolist() == ["g1", "g2", "g3", "g2", "g5"]
    assert merge_duplicates(metadata, found, drop=True)["filename"].tolist() == ["a/1", "a/3", "b/9"]


def test_without_an_author_only_content_tells():
    assert find_duplicates(METADATA.drop(columns="author")) == FOUND[1:]
    assert find_duplicates(METADATA.assign(author=" ")) == FOUND[1:]
