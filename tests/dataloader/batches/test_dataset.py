"""Are batches the same whichever process reads them, and wherever an epoch is resumed?"""

import errno
import multiprocessing
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dataloader.batches.balance import Balance
from dataloader.batches.dataset import EpochBatches, Loader, WindowDataset, target_matrix, training_targets
from dataloader.batches.device_cache import DeviceBatches, fits_on
from dataloader.batches.windows import make_segments, make_windows
from dataloader.cache.entries import DamagedEntry, Footer, write_entry
from dataloader.tables.schema import Annotation
from utils.errors import DataError, UserError
from utils.settings import DataProcess, Labels
from utils.utils import seed_for

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


@pytest.fixture
def samples(metadata):
    """Each recording once, of 100, 20, 64 and 33 frames, for windows of 32."""
    return WindowDataset(metadata, make_segments(metadata, PROCESS, 60.0, 1), LABELS, PROCESS)


def order(dataset, **options):
    return EpochBatches(len(dataset), 2, seed=3, shuffle=True, **options)


def assert_same(ones, others):
    for one, other in zip(ones, others, strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a, b)


def test_a_batch_holds_the_slices_of_the_cache(dataset):
    drawn = [(0, 0.0), (1, 0.0), (3, 0.0)]
    batch = dataset[drawn]
    assert batch.windows.shape == (3, 32, 8)
    for place, (recording, first) in enumerate(zip(*dataset.where(drawn), strict=True)):
        array = np.load(dataset.entries[recording])
        expected = (
            np.concatenate([array] * 2, axis=1)[:, first : first + 32]
            if array.shape[1] < 32
            else array[:, first : first + 32]
        )
        np.testing.assert_array_equal(batch.windows[place].numpy().T, expected)
    assert batch.targets.tolist()[0] == [1, 0, 1]


@pytest.mark.parametrize("crop", [False, True])
def test_no_workers_two_workers_and_the_memory_of_the_device_give_the_same(dataset, samples, crop):
    rows, orders = samples if crop else dataset, []
    sources = []
    for workers in (0, 2, None):
        orders.append(order(rows, crop=crop))
        if workers is None:
            sources.append(DeviceBatches(rows, orders[-1], torch.device("cpu")))
        else:
            sources.append(Loader(rows, orders[-1], num_workers=workers, pin_memory=False))
    for place in [(1, 0), (2, 0), (2, 1)]:  # workers live on from epoch to epoch
        for one in orders:
            one.go_to(*place)
        none, two, device = map(list, sources)
        assert len(none) == len(orders[0]) - place[1]
        assert_same(none, two)
        assert_same(none, device)


def test_a_device_with_too_little_memory_is_an_error(dataset, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(UserError, match=r"cpu has too little memory .* set \[trainer\] cache_on_device to auto or no"):
        DeviceBatches(dataset, order(dataset), torch.device("cpu"))


def test_crops_stay_inside_their_recording_and_reach_both_ends(samples):
    batches, seen = EpochBatches(4, 4, seed=1, crop=True), {}
    for epoch in range(1, 400):
        batches.go_to(epoch)
        for drawn in batches:
            for recording, first in zip(*samples.where(drawn), strict=True):
                seen.setdefault(int(recording), set()).add(int(first))
    assert seen == {0: set(range(69)), 1: set(range(20)), 2: set(range(33)), 3: {0, 1}}


def test_a_short_recording_is_repeated_from_any_of_its_frames(samples):
    array = np.load(samples.entries[1])  # 20 frames
    windows = samples[[(1, 0.0), (1, 0.5), (1, 0.999)]].windows.numpy()
    for window, first in zip(windows, (0, 10, 19), strict=True):
        np.testing.assert_array_equal(window.T, array[:, (first + np.arange(32)) % 20])


def test_a_long_recording_has_as_many_segments_as_are_set(metadata):
    # A second is 64 frames and a window 32; the recordings have 100, 20, 64 and 33. The parts meet where windows begin.
    rows = make_segments(metadata, PROCESS, 1.0, 2)
    assert rows.to_numpy().tolist() == [
        row for row in ([0, 0, 66], [0, 34, 66], [1, 0, 20], [2, 0, 64], [3, 0, 33]) for _ in range(2)
    ]
    dataset = WindowDataset(metadata, rows, LABELS, PROCESS)
    recording, first = dataset.where([(2, 0.9999), (2, 0.0), (0, 0.9999)])
    assert recording.tolist() == [0, 0, 0]
    assert first.tolist() == [100 - 32, 34, 34]


@pytest.mark.parametrize("seconds", [61, 75, 89, 90, 91, 120, 149, 151])
def test_every_window_of_a_long_recording_lies_in_one_of_its_samples(seconds):
    frames = seconds * 64
    rows = make_segments(pd.DataFrame({"frames": [frames]}), PROCESS, 60.0, 1)
    begun = Counter(
        first for start, length in zip(rows["first_frame"], rows["n_frames"], strict=True)
        for first in range(start, start + length - 32 + 1)
    )  # fmt: skip
    assert set(begun) == set(range(frames - 32 + 1))
    assert sum(begun.values()) == len(begun) + len(rows) - 1  # none twice but where two samples meet
    assert rows["n_frames"].max() <= 60 * 64 + 32


def test_a_crop_is_another_in_each_epoch_and_for_each_row():
    batches = EpochBatches(50, 50, seed=1, crop=True)
    drawn = []
    for epoch in (1, 2):
        batches.go_to(epoch)
        drawn.append([place for _, place in next(iter(batches))])
    assert len(set(drawn[0] + drawn[1])) == 100


def test_without_crop_and_balance_the_order_is_what_it_was():
    ours = [row for drawn in EpochBatches(50, 8, seed=1, shuffle=True) for row, _ in drawn]
    generator = torch.Generator().manual_seed(seed_for(1, "order", 1))
    assert ours == torch.randperm(50, generator=generator).tolist()


def test_balanced_rows_are_shared_and_gone_on_with_like_others():
    labels = [("a",)] * 40 + [("b",)] * 6
    balance = Balance(np.arange(46), labels, power=0.5, rare_to=10, class_cap=20, seed=1)
    options = {"seed": 1, "shuffle": True, "training": True, "crop": True, "rows_of": balance.rows}
    one, *shares = [EpochBatches(balance.n_rows, 8, **options, rank=r, world=w) for r, w in ((0, 1), (0, 2), (1, 2))]
    for batches in (one, *shares):
        batches.go_to(3)
    assert Counter(row for drawn in one for row, _ in drawn) <= Counter(balance.rows(3).tolist())
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(drawn) for drawn in one]
    assert all(len(a) == len(b) for a, b in zip(*shares, strict=True))
    whole = list(one)
    one.go_to(3, 2)
    assert list(one) == whole[2:]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_entry_that_is_gone_or_cut_off_is_one_line_with_workers_too(dataset, num_workers):
    loader = Loader(dataset, order(dataset), num_workers=num_workers, pin_memory=False)
    for entry in dataset.entries:
        os.truncate(entry, os.path.getsize(entry) + 64)  # as of another recording of that name
    with pytest.raises(DamagedEntry, match=r"its size differs from the index; .* its own \[data\] output_dir"):
        list(loader)
    for entry in dataset.entries:
        os.truncate(entry, 200)
    with pytest.raises(DamagedEntry) as cut_off:
        list(loader)
    assert len(str(cut_off.value).splitlines()) == 1
    for entry in dataset.entries:
        os.remove(entry)
    with pytest.raises(FileNotFoundError) as gone:
        list(loader)
    assert gone.value.filename in dataset.entries


def test_auto_keeps_nothing_in_the_memory_of_a_cpu():
    cpu = torch.device("cpu")
    assert [fits_on(cpu, 1, wanted) for wanted in ("auto", "yes", "no")] == [False, True, False]


def test_every_row_comes_once_an_epoch_in_another_order_each():
    batches = EpochBatches(50, 8, seed=1, shuffle=True)
    epochs = []
    for epoch in (1, 2):
        batches.go_to(epoch)
        epochs.append([row for drawn in batches for row, _ in drawn])
        assert sorted(epochs[-1]) == list(range(50))
    assert epochs[0] != epochs[1]
    assert len(batches) == 7


@pytest.mark.parametrize(("n_rows", "world", "used"), [(50, 1, 48), (50, 2, 48), (7, 2, 6), (8, 1, 8)])
def test_without_shuffling_an_epoch_begins_with_the_rows_that_the_last_one_left_out(n_rows, world, used):
    seen = []
    for epoch in (1, 2, 3):
        for rank in range(world):
            batches = EpochBatches(n_rows, 8, training=True, rank=rank, world=world)
            batches.go_to(epoch)
            seen += [(epoch, row) for drawn in batches for row, _ in drawn]
    expected = [(1 + place // used, place % n_rows) for place in range(3 * used)]
    assert sorted(seen) == sorted(expected)


def test_an_epoch_goes_on_in_the_middle():
    batches = EpochBatches(50, 8, seed=1, shuffle=True, training=True)
    batches.go_to(3)
    whole = list(batches)
    assert len(whole) == len(batches) == 6  # the smaller last batch is left out
    batches.go_to(3, 4)
    assert list(batches) == whole[4:]


def test_processes_share_every_batch_equally_without_overlap():
    for training, n_rows in ((True, 47), (False, 47), (False, 46)):
        one = list(EpochBatches(n_rows, 8, seed=1, shuffle=True, training=training))
        shares = [
            list(EpochBatches(n_rows, 8, seed=1, shuffle=True, training=training, rank=r, world=2)) for r in (0, 1)
        ]
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


def test_secondary_labels_change_their_target_and_nothing_else():
    assert asked() == PRESENT.tolist()
    for rules, cell in [
        ({"secondary": "mask"}, -1),
        ({"secondary": "soft", "secondary_weight": 0.25}, 0.25),
        ({"secondary": "hard"}, 1),
    ]:
        assert asked(**rules) == [[1, cell, 0], [0, 1, 1], [0, 0, 0]]


def test_the_primary_weight_is_the_target_of_the_foreground():
    assert asked(primary_weight=0.5) == [[0.5, 0, 0], [0, 0.5, 0.5], [0, 0, 0]]
    soft = {"secondary": "soft", "secondary_weight": 0.25}  # a target of its own
    for rules, cell in (({"secondary": "hard"}, 0.5), (soft, 0.25)):
        assert asked(primary_weight=0.5, **rules)[0] == [0.5, cell, 0]


def test_scoring_asks_for_the_foreground_whatever_the_rules(dataset, metadata):
    soft = WindowDataset(metadata, make_windows(metadata, PROCESS), LABELS, PROCESS, Labels(secondary="mask"))
    assert soft.targets[1].tolist() == [-1, 1, 0]
    assert dataset.targets[1].tolist() == [0, 1, 0]


def test_more_processes_than_windows_are_an_error():
    with pytest.raises(DataError, match="1 window to train on, and 2 processes; start fewer"):
        EpochBatches(1, 16, training=True, world=2)


def test_a_batch_that_does_not_fit_in_shared_memory_is_an_error_and_not_a_hang(dataset, monkeypatch):
    def refuse(tensor):
        raise RuntimeError("unable to write to file </torch_1_2>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)  # the worker is a fork
    loader = Loader(dataset, order(dataset), num_workers=1, pin_memory=False)
    with pytest.raises(
        UserError,
        match=r"/dev/shm has no space for a batch of 0\.\d MB .* cannot be written; lower \[trainer\] num_workers",
    ):
        list(loader)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EROFS, r"/dev/shm: Read-only file system; make it writable, or set \[trainer\] num_workers = 0"),
        (errno.EMFILE, r"too many open files; raise the limit .*; or set \[trainer\] num_workers = 0"),
    ],
)
def test_reader_processes_that_cannot_start_are_a_line_without_a_traceback(dataset, monkeypatch, number, text):
    class HalfMade:
        def __init__(self, *_):
            raise OSError(number, os.strerror(number))

        def __del__(self):  # as torch's
            raise AttributeError("_shutdown")

    reported = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    monkeypatch.setattr("torch.utils.data.dataloader._MultiProcessingDataLoaderIter", HalfMade)
    with pytest.raises(UserError, match=f"no process that reads batches can be started: {text}"):
        list(Loader(dataset, order(dataset), num_workers=1, pin_memory=False))
    assert not reported


def test_workers_that_are_spawned_and_not_forked_read_the_same(dataset):
    """As on Windows and macOS."""
    here = list(Loader(dataset, order(dataset), num_workers=0, pin_memory=False))
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    try:
        there = list(Loader(dataset, order(dataset), num_workers=1, pin_memory=False))
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert len(here) == len(there) > 0
    for one, other in zip(here, there, strict=True):
        assert all(map(torch.equal, one, other))


def test_windows_of_an_annotated_recording_have_targets_of_their_own_whoever_reads_them(metadata):
    calls = (Annotation(0.0, 0.4, "b"), Annotation(1.1, 1.4, "c"))  # seconds; a window is half a second
    known = [("b",), None, None, None]  # in the first recording only b was annotated
    timed = metadata.assign(
        annotations=pd.Series([calls, None, None, None], dtype=object), unannotated="absent", known_for=known
    )
    rows = WindowDataset(timed, make_windows(timed, PROCESS), LABELS, PROCESS, Labels(primary_weight=0.9))
    expected = {0: [-1, 0.9, -1], 1: [-1, 0, -1], 2: [-1, 0, 0.9]}
    batch = rows[[(row, 0.0) for row in range(4)]]
    for row, targets in expected.items():
        assert batch.targets[row].tolist() == pytest.approx(targets)
    assert batch.targets[3].tolist() == pytest.approx([0, 0.9, 0])  # a whole recording, as before
    assert_same(
        DeviceBatches(rows, EpochBatches(len(rows), 2), torch.device("cpu")),
        Loader(rows, EpochBatches(len(rows), 2), num_workers=0, pin_memory=False),
    )
