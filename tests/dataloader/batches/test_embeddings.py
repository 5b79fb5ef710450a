"""Are the examples of a head the windows of its recordings, padded, pooled and drawn as said?"""

import numpy as np
import pandas as pd
import pytest
import torch

from dataloader.batches.embeddings import EmbeddingDataset, EmbeddingTransform, embedding_process, pool_windows, pooled
from dataloader.batches.windows import make_windows
from dataloader.cache.entries import Footer, write_entry
from dataloader.tables.schema import Annotation
from utils.settings import DataProcess, Labels

PROCESS = embedding_process(DataProcess(sample_rate=8_000, max_length_s=0.5))


@pytest.fixture
def metadata(tmp_path):
    rows = []
    for number, frames in enumerate((3, 1, 5)):
        values = np.full((frames, 4), number + 1) + np.arange(frames)[:, None]
        path = tmp_path / f"{number}.npy"
        footer = Footer(b"x" * 16, 1, 1, 1, frames, 0)
        write_entry(path, [values.astype(np.float16)], (4, frames), np.zeros(4), np.full(4, 0.5), footer)
        rows.append((f"a/{number}.ogg", str(path), frames, ("ab"[number % 2],), ()))
    return pd.DataFrame(rows, columns=["filename", "entry", "frames", "labels", "secondary_labels"])


def dataset(metadata, pool, *, training=False):
    windows = pool_windows(make_windows(metadata, PROCESS), metadata, pool, training=training)
    return EmbeddingDataset(metadata, windows, ["a", "b"], PROCESS, Labels() if training else None)


def test_a_window_is_an_example_or_all_of_a_recording_are(metadata):
    assert len(dataset(metadata, "windows")) == 9
    assert len(dataset(metadata, "mean")) == len(dataset(metadata, "attention")) == 3


def test_an_example_is_padded_to_the_longest_of_its_batch_with_windows_of_no_weight(metadata):
    batch = dataset(metadata, "mean")[[(0, 0.0), (2, 0.0), (1, 0.0)]]
    assert batch.windows.shape == (3, 5, 5)
    assert batch.windows[:, :, 0].tolist() == [[1, 1, 1, 0, 0], [1] * 5, [1, 0, 0, 0, 0]]
    assert batch.windows[0, :, 1].tolist() == [0.5, 1.0, 1.5, 0.0, 0.0]  # value times scale
    assert batch.recording.tolist() == [0, 2, 1]
    assert batch.targets.tolist() == [[1, 0], [1, 0], [0, 1]]


def test_a_window_of_a_recording_is_its_own_embedding(metadata):
    batch = dataset(metadata, "windows")[[(1, 0.0), (8, 0.0)]]
    assert batch.windows[:, 0, 1].tolist() == [1.0, 3.5]


def test_labels_with_times_hold_for_their_windows_in_training(metadata):
    found = (Annotation(0.5, 0.9, "a"),)
    table = metadata.assign(annotations=[found, None, None], unannotated=["absent", "", ""])
    examples = dataset(table, "mean", training=True)
    assert len(examples) == 2 + 3  # the three windows of the annotated recording are examples of their own
    rows = [row for row in range(len(examples)) if examples.recording[row] == 0]
    assert examples[[(row, 0.0) for row in rows]].targets[:, 0].tolist() == [0, 1, 0]


def test_the_last_window_of_a_recording_ends_with_it_and_has_the_labels_of_what_it_holds(metadata):
    """Of 1.3 s: windows of 0.5 s from 0.0, 0.5 and, for the tail, 0.8 s."""
    found = (Annotation(0.82, 0.95, "a"),)
    table = metadata.assign(annotations=[found, None, None], unannotated=["absent", "", ""], seconds=[1.3, 0.5, 2.5])
    examples = dataset(table, "windows")
    assert examples[[(row, 0.0) for row in range(3)]].targets[:, 0].tolist() == [0, 1, 1]


def test_the_mean_is_taken_before_training_and_scoring(metadata):
    batch = dataset(metadata, "mean")[[(0, 0.0), (2, 0.0)]]
    examples, _ = EmbeddingTransform("mean")(batch)
    torch.testing.assert_close(examples, torch.tensor([[[1.0] + [1.0] * 4], [[1.0] + [2.5] * 4]]))
    torch.testing.assert_close(pooled(examples), examples)


@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_training_gets_other_windows_each_step_and_the_same_when_it_is_resumed(metadata, pool):
    batch = dataset(metadata, pool)[[(0, 0.0), (2, 0.0)]]
    transform = EmbeddingTransform(pool, seed=1)
    first, again, later = (transform(batch, key)[0] for key in ((1, 0, 0), (1, 0, 0), (1, 1, 0)))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.allclose(first, later)
    torch.testing.assert_close(EmbeddingTransform("windows", seed=1)(batch, (1, 0, 0))[0], batch.windows)
    if pool == "attention":
        assert ((first[..., 0] > 0) == (batch.windows[..., 0] > 0)).all()
