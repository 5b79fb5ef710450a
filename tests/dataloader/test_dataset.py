"""Are batches the same whoever reads them, and wherever an epoch goes on?"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dataloader.cache import Footer, write_entry
from dataloader.data_preprocess import make_windows
from dataloader.dataset import EpochBatches, WindowDataset, make_loader, target_matrix, training_targets
from dataloader.device_cache import DeviceBatches, fits_on
from utils.config import DataProcess, Labels

PROCESS = DataProcess(n_mels=8, max_length_s=0.5)  # 32 frames
LABELS = ["a", "b", "c"]


@pytest.fixture
def metadata(tmp_path):
    rng = np.random.default_rng(1)
    rows = []
    for number, frames in enumerate([100, 20, 64, 33]):
        array = rng.normal(size=(frames, 8)).astype(np.float16)
        scale = rng.uniform(3, 9, 8).astype(np.float32)
        path = Path(tmp_path / f"{number}.npy")
        write_entry(path, [array], (8, frames), np.zeros(8, np.float32), scale, Footer(b"x" * 16, 1, 1, 1, frames, 0))
        labels = (LABELS[number % 3],) if number else ("a", "c")
        rows.append({"entry": str(path), "frames": frames, "filename": f"{number}.ogg", "labels": labels})
    return pd.DataFrame(rows).assign(secondary_labels=[(), ("a",), ("x",), ()])


@pytest.fixture
def dataset(metadata):
    return WindowDataset(metadata, make_windows(metadata, PROCESS), LABELS, PROCESS)


def order(dataset, **options):
    return EpochBatches(len(dataset), 2, seed=3, shuffle=True, **options)


def assert_same(ones, others):
    for one, other in zip(ones, others, strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a, b)


def test_a_batch_holds_the_slices_of_the_cache(dataset):
    batch = dataset[[0, 1, 3]]
    assert batch.windows.shape == (3, 32, 8)
    for place, row in enumerate([0, 1, 3]):
        array = np.load(dataset.entries[dataset.recording[row]])
        first = dataset.first[row]
        expected = (
            np.concatenate([array] * 2, axis=1)[:, first : first + 32]
            if array.shape[1] < 32
            else array[:, first : first + 32]
        )
        np.testing.assert_array_equal(batch.windows[place].numpy().T, expected)
    assert batch.targets.tolist()[0] == [1, 0, 1]


def test_no_workers_give_the_same_as_two(dataset):
    loaders = [make_loader(dataset, order(dataset), num_workers=n, pin_memory=False) for n in (0, 2)]
    assert_same(*map(list, loaders))


def test_batches_from_the_memory_of_the_device_are_the_same(dataset):
    loader = make_loader(dataset, order(dataset), num_workers=0, pin_memory=False)
    assert_same(list(loader), list(DeviceBatches(dataset, order(dataset), torch.device("cpu"))))


def test_auto_keeps_nothing_in_the_memory_of_a_cpu(dataset):
    cpu = torch.device("cpu")
    assert [fits_on(cpu, dataset, wanted) for wanted in ("auto", "yes", "no")] == [False, True, False]


def test_every_row_comes_once_an_epoch_in_another_order_each():
    batches = EpochBatches(50, 8, seed=1, shuffle=True)
    epochs = []
    for epoch in (1, 2):
        batches.go_to(epoch)
        epochs.append([row for rows in batches for row in rows])
        assert sorted(epochs[-1]) == list(range(50))
    assert epochs[0] != epochs[1]
    assert len(batches) == 7


def test_an_epoch_goes_on_in_the_middle():
    batches = EpochBatches(50, 8, seed=1, shuffle=True, training=True)
    batches.go_to(3)
    whole = list(batches)
    assert len(whole) == len(batches) == 6  # the smaller last batch is left out
    batches.go_to(3, 4)
    assert list(batches) == whole[4:]


def test_processes_share_every_batch_equally_without_overlap():
    for training in (True, False):
        one = list(EpochBatches(46, 8, seed=1, shuffle=True, training=training))
        shares = [list(EpochBatches(46, 8, seed=1, shuffle=True, training=training, rank=r, world=2)) for r in (0, 1)]
        assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(rows) for rows in one]
        if training:
            assert all(len(a) == len(b) for a, b in zip(*shares, strict=True))


def test_fewer_rows_than_a_batch_are_one_batch():
    assert len(list(EpochBatches(3, 8, training=True))) == 1


def test_targets_hold_every_label_of_a_row():
    np.testing.assert_array_equal(target_matrix([("b",), ("c", "a")], LABELS), [[0, 1, 0], [1, 0, 1]])


# One recording of a with b in the background, one of b and c with c behind, one of nothing with x, no class.
PRESENT = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]], np.float32)
BEHIND = [("b",), ("c",), ("x",)]


def asked(**rules):
    return training_targets(PRESENT, BEHIND, LABELS, Labels(**rules)).astype(float).round(5).tolist()


def test_secondary_labels_change_their_cell_and_nothing_else():
    assert asked() == PRESENT.tolist()
    for rules, cell in [
        ({"secondary": "mask"}, -1),
        ({"secondary": "soft", "secondary_weight": 0.25}, 0.25),
        ({"secondary": "hard"}, 1),
    ]:
        assert asked(**rules) == [[1, cell, 0], [0, 1, 1], [0, 0, 0]]


def test_the_primary_weight_is_the_target_of_the_foreground():
    assert asked(primary_weight=0.5) == [[0.5, 0, 0], [0, 0.5, 0.5], [0, 0, 0]]


def test_smoothing_keeps_the_sum_of_a_row_and_what_nobody_knows():
    assert asked(smoothing=0.3) == [[0.8, 0.1, 0.1], [0.2, 0.9, 0.9], [0, 0, 0]]
    assert asked(smoothing=0.3, secondary="mask")[0] == pytest.approx([0.8, -1, 0.1])


def test_scoring_asks_for_the_foreground_whatever_the_rules(dataset, metadata):
    soft = WindowDataset(metadata, make_windows(metadata, PROCESS), LABELS, PROCESS, Labels(secondary="mask"))
    assert soft.targets[1].tolist() == [-1, 1, 0]
    assert dataset.targets[1].tolist() == [0, 1, 0]
