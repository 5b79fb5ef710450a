"""Do the settings of training change the training part, and no other?"""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from dataloader.cache import Footer, write_entry
from factory import run
from utils.config import Agent, Augmentation, Config, Data, DataProcess, Labels, Mixing, Trainer
from utils.distributed import Processes
from utils.errors import ConfigError

PLAIN = Config(data_process=DataProcess(n_mels=8, max_length_s=1.0))
CPU = torch.device("cpu")


@pytest.fixture
def metadata(tmp_path):
    """On each side recordings of 10 s: 8 of a, with b in the background, and 2 of b."""
    rows = []
    for number in range(30):
        path = tmp_path / f"{number}.npy"
        array = np.random.default_rng(number).normal(size=(640, 8)).astype(np.float16)
        footer = Footer(b"x" * 16, 1, 1, 1, 640, 0)
        write_entry(path, [array], (8, 640), np.full(8, -50.0 + number), np.full(8, 5.0), footer)
        label, side = "ab"[number % 10 > 7], ("train", "val", "test")[number // 10]
        rows.append((f"{label}/{number}.ogg", str(path), 640, (label,), ("b",) if label == "a" else (), side))
    columns = ["filename", "entry", "frames", "labels", "secondary_labels", "split"]
    return pd.DataFrame(rows, columns=columns).assign(group=[str(row) for row in range(30)], primary_label="a")


def part(config, metadata, side):
    return run._part(config, metadata, side, ["a", "b"], run._reader(config, metadata, CPU), Processes())


def epoch(one):
    one.order.go_to(1)
    return [row for batch in one.batches for row in zip(*batch, strict=True)]


CROP = Augmentation(augment_random_crop=True)
SETTINGS = {
    "crop": (replace(PLAIN, augmentation=CROP), 10),
    "crops": (replace(PLAIN, augmentation=CROP, data=Data(crops_per_sample=3)), 30),
    "samples": (replace(PLAIN, augmentation=CROP, data=Data(sample_max_s=5.0)), 20),
    "no augmentation": (replace(PLAIN, augmentation=replace(CROP, data_augmentation=False)), 100),
    "power": (replace(PLAIN, data=Data(balance_power=1.0)), 100),
    "rare": (replace(PLAIN, data=Data(rare_to=5)), 130),
    "cap": (replace(PLAIN, data=Data(class_cap=4)), 60),
    "mask": (replace(PLAIN, labels=Labels(secondary="mask")), 100),
    "smoothing": (replace(PLAIN, labels=Labels(smoothing=0.1)), 100),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_of_training_changes_training_alone(metadata, name):
    config, n_rows = SETTINGS[name]
    train = part(config, metadata, "train")
    assert len(epoch(train)) == (n_rows // 16 * 16 or n_rows)  # whole batches of 16, unless there is but one
    for side in ("val", "test"):
        changed, plain = epoch(part(config, metadata, side)), epoch(part(PLAIN, metadata, side))
        assert len(changed) == 100
        for one, other in zip(changed, plain, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert part(config, metadata, "val").targets.tolist() == [[1, 0]] * 8 + [[0, 1]] * 2


def test_labels_change_the_targets_of_training(metadata):
    masked = part(replace(PLAIN, labels=Labels(secondary="mask")), metadata, "train").targets
    assert masked.tolist() == [[1, -1]] * 8 + [[0, 1]] * 2


def test_without_augmentation_windows_are_those_of_the_grid(metadata):
    off = epoch(part(SETTINGS["no augmentation"][0], metadata, "train"))
    assert all(torch.equal(one[0], two[0]) for one, two in zip(off, epoch(part(PLAIN, metadata, "train")), strict=True))


def test_a_gpu_keeps_all_recordings_or_none(metadata, monkeypatch):
    gpu, all_of_them = torch.device("cuda"), 2 * 8 * 640 * len(metadata)
    for free, reader in ((2 * all_of_them, run.DeviceBatches), (2 * all_of_them - 2, run.Loader)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
        assert run._reader(PLAIN, metadata, gpu).func is reader


def test_the_loudest_leave_the_training_part_and_the_split_for_good(metadata, tmp_path):
    config = replace(PLAIN, data=Data(keep_quietest=0.5))
    folder = tmp_path / "run"
    folder.mkdir()
    first = run.split(config, metadata.drop(columns="split"), folder)
    whole = run.split(PLAIN, metadata.drop(columns="split"), tmp_path)
    for side in ("val", "test"):
        assert set(first[first["split"] == side]["filename"]) == set(whole[whole["split"] == side]["filename"])
    left = whole[whole["split"] == "train"].groupby("primary_label").size()
    assert len(first[first["split"] == "train"]) == pytest.approx(left.sum() / 2, abs=1)
    again = run.split(config, metadata.drop(columns="split"), folder)  # of a resumed run: the table decides
    assert again["filename"].tolist() == first["filename"].tolist()


@pytest.mark.parametrize(("loss", "told"), [("cross_entropy", True), ("bce", False)])
def test_recordings_without_a_bird_that_teach_nothing_are_told(metadata, tmp_path, caplog, loss, told):
    config = replace(PLAIN, agent=Agent(loss=loss), data=Data(train_ratio=1.0))
    table = metadata.drop(columns="split").assign(labels=[(), (), *metadata["labels"][2:]])
    run.split(config, table, tmp_path)
    assert ("learns nothing from 2 recordings without a bird" in caplog.text) == told


def test_a_fold_is_the_test_set_whatever_the_seed_and_the_others_train(metadata, tmp_path):
    def sides(fold, seed=1):
        folder = tmp_path / f"{fold}-{seed}"
        folder.mkdir()
        config = replace(PLAIN, data=Data(folds=3, fold=fold), trainer=Trainer(seed=seed))
        return run.split(config, metadata.drop(columns="split"), folder).set_index("filename")["split"]

    first, second, third = (sides(fold) for fold in (1, 2, 3))
    assert set(first) == {"train", "test"}
    assert ((first == "test").astype(int) + (second == "test") + (third == "test") == 1).all()
    assert sides(1, seed=2).equals(first)


@pytest.mark.parametrize(
    ("size", "mixing", "why"),
    [
        (3, Mixing(), "cannot be shared equally by 2 processes; make it a multiple of that"),
        (2, Mixing(mixup_p=0.5), r"leaves each of 2 processes one window a batch, and \[mixing\] needs a partner"),
    ],
)
def test_a_batch_that_the_processes_cannot_share_is_told_in_a_line(monkeypatch, size, mixing, why):
    monkeypatch.setattr(run, "join_processes", lambda device: (Processes(rank=0, world=2), device))
    config = Config(trainer=Trainer(device="cpu", batch_size_train=size), mixing=mixing)
    with pytest.raises(ConfigError, match=rf"\[trainer\] batch_size_train = '{size}': {why}"), run.processes_of(config):
        pass


def test_deterministic_is_handed_to_torch():
    try:
        with run.processes_of(Config(trainer=Trainer(device="cpu", deterministic=True))):
            assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_summary_pairs_the_test_with_the_validation_of_the_same_weights(metadata, tmp_path):
    rows = [{"epoch": 1, "val_macro_auc": 0.9}, {"epoch": 2, "val_macro_auc": 0.8}]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    told = []
    trainer = SimpleNamespace(
        test=lambda: ({"test_macro_auc": 0.7}, None),
        processes=Processes(),
        scored_epoch=2,  # the last, as where model_checkpoint = false
        facts={"labels": ["a"]},
        seconds=1.0,
        trackers=[SimpleNamespace(log_summary=told.append, close=lambda: None)],
    )
    run.summarise(trainer, metadata.assign(split="train", seconds=2.0), tmp_path)
    assert [told[0][name] for name in ("best_epoch", "val_macro_auc", "test_macro_auc")] == [2, 0.8, 0.7]
