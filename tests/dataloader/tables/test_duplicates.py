"""Are recordings that are in a data set twice found by their content, and then kept together or left out?"""

import numpy as np
import pandas as pd
import pytest

from dataloader.cache.entries import Footer, write_entry
from dataloader.tables.duplicates import find_duplicates, merge_duplicates
from dataloader.tables.schema import Annotation

N_MELS, FRAMES = 16, 200
METADATA = pd.DataFrame(
    {
        "filename": ["a/1", "a/2", "a/3", "b/1", "b/9"],
        "labels": [("a",), ("a",), ("a",), ("b",), ("b",)],
        "secondary_labels": [("c",), ("d", "c"), (), ("e",), ()],
        "author": "Ann",
        "digest": ["x", "y", "z", "x", "w"],
        "group": ["g1", "g2", "g3", "g4", "g5"],
    }
)
FOUND = [("b/1", "a/1", "content")]


def entry(folder, name, image):
    path = folder / f"{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = len(image)
    zeros, ones = np.zeros(N_MELS, np.float32), np.ones(N_MELS, np.float32)
    footer = Footer(b"0" * 16, 1, frames * 500, 32_000, frames, 0)
    write_entry(path, [image.astype(np.float16)], (N_MELS, frames), zeros, ones, footer)
    return str(path)


def of_images(folder, images):
    names = [f"c/{number}" for number in range(len(images))]
    return pd.DataFrame(
        {
            "filename": names,
            "labels": [("c",)] * len(images),
            "secondary_labels": [()] * len(images),
            "author": "one recorder",
            "digest": names,
            "group": names,
            "entry": [entry(folder, name, image) for name, image in zip(names, images, strict=True)],
            "frames": [len(image) for image in images],
        }
    )


def test_equal_bytes_are_a_copy_and_equal_lengths_are_none():
    assert find_duplicates(METADATA.assign(samples=100)) == FOUND


def test_clips_of_one_recorder_with_one_length_are_not_copies(tmp_path):
    rng = np.random.default_rng(1)
    background = rng.normal(size=N_MELS) * 3  # the colour of the place, the same in all
    images = [background + rng.normal(size=(FRAMES, N_MELS)) for _ in range(24)]
    assert find_duplicates(of_images(tmp_path, images), N_MELS) == []


def test_what_sounds_alike_is_a_copy_at_another_level_and_in_another_format(tmp_path):
    rng = np.random.default_rng(2)
    one = rng.normal(size=(FRAMES, N_MELS))
    again = one + 5 + 0.2 * rng.normal(size=one.shape)  # louder, and with the noise of a codec
    images = [one, rng.normal(size=one.shape), again, one[:-1], again]
    assert find_duplicates(of_images(tmp_path, images), N_MELS) == [("c/2", "c/0", "sound"), ("c/4", "c/0", "sound")]


def test_a_number_of_an_archive_is_one_recording_in_two_sources_and_two_cuttings_in_one():
    names = ["x/XC12345.ogg", "y/b/XC12345_robin.mp3", "y/b/XC999_1.wav", "y/b/XC999_2.wav"]
    metadata = pd.DataFrame({"filename": names, "digest": list("abcd"), "source": ["x", "y", "y", "y"]})
    assert find_duplicates(metadata) == [("y/b/XC12345_robin.mp3", "x/XC12345.ogg", "identity")]


def test_dropped_one_recording_under_two_labels_becomes_one_with_two():
    left = merge_duplicates(METADATA, FOUND, drop=True)
    assert left["filename"].tolist() == ["a/1", "a/2", "a/3", "b/9"]
    assert left["labels"].tolist() == [("a", "b"), ("a",), ("a",), ("b",)]
    assert left["secondary_labels"].tolist() == [("c", "e"), ("d", "c"), (), ()]


def test_dropped_copies_leave_their_annotations():
    times = [(Annotation(0, 1, "a"),), None, None, (Annotation(2, 3, "b"),), None]
    left = merge_duplicates(METADATA.assign(annotations=times), FOUND, drop=True)
    assert [one.label for one in left["annotations"][0]] == ["a", "b"]


def test_kept_copies_keep_to_one_group():
    kept = merge_duplicates(METADATA, FOUND, drop=False)
    assert kept["filename"].tolist() == METADATA["filename"].tolist()
    assert kept["group"].tolist() == ["g1", "g2", "g3", "g1", "g5"]


@pytest.mark.parametrize("drop", [True, False])
def test_copies_of_copies_belong_to_the_first(drop):
    metadata = METADATA.assign(digest=["x", "x", "z", "x", "w"])
    found = find_duplicates(metadata)
    assert found == [("a/2", "a/1", "content"), ("b/1", "a/1", "content")]
    merged = merge_duplicates(metadata, found, drop=drop)
    assert merged["group"].tolist() == (["g1", "g3", "g5"] if drop else ["g1", "g1", "g3", "g1", "g5"])
