"""Do the settings of training change the training subset, and no other?"""

from dataclasses import replace

import pytest
import torch

from dataloader.metadata import NOCALL
from dataloader.tables.schema import Annotation
from training import subsets
from utils.settings import Agent, Augmentation, Config, Data, DataProcess, Labels, Mixing, Model

PLAIN = Config(data_process=DataProcess(n_mels=8, max_length_s=1.0))
CPU = torch.device("cpu")


def subset(config, metadata, split):
    return subsets.build_subsets(config, metadata, ["a", "b"], CPU)[split]


def epoch(one):
    one.order.go_to(1)
    return [row for batch in one.batches for row in zip(*batch, strict=True)]


CROP = Augmentation(augment_random_crop=True)
SETTINGS = {
    "crop": (replace(PLAIN, augmentation=CROP), 10),
    "crops": (replace(PLAIN, augmentation=CROP, data=Data(crops_per_segment=3)), 30),
    "samples": (replace(PLAIN, augmentation=CROP, data=Data(segment_max_s=5.0)), 20),
    "no augmentation": (replace(PLAIN, augmentation=replace(CROP, data_augmentation=False)), 100),
    "power": (replace(PLAIN, data=Data(balance_power=1.0)), 100),
    "rare": (replace(PLAIN, data=Data(rare_to=5)), 130),
    "cap": (replace(PLAIN, data=Data(class_cap=4)), 60),
    "mask": (replace(PLAIN, labels=Labels(secondary="mask")), 100),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_of_training_changes_training_alone(metadata, name):
    config, n_rows = SETTINGS[name]
    train = subset(config, metadata, "train")
    assert len(epoch(train)) == (n_rows // 16 * 16 or n_rows)  # whole batches of 16, unless there is but one
    for split in ("val", "test"):
        changed, plain = epoch(subset(config, metadata, split)), epoch(subset(PLAIN, metadata, split))
        assert len(changed) == 100
        for one, other in zip(changed, plain, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert subset(config, metadata, "val").targets.tolist() == [[1, 0]] * 8 + [[0, 1]] * 2


def test_labels_change_the_targets_of_training(metadata):
    masked = subset(replace(PLAIN, labels=Labels(secondary="mask")), metadata, "train").targets
    assert masked.tolist() == [[1, -1]] * 8 + [[0, 1]] * 2


def test_small_classes_come_more_often_where_classes_are_balanced(metadata):
    for power, share in ((0.0, 0.2), (1.0, 0.5)):  # b has 2 of 10 recordings
        train = subset(replace(PLAIN, data=Data(balance_power=power)), metadata, "train")
        rows = []
        for number in range(1, 11):
            train.order.go_to(number)
            rows += [row for batch in train.batches for row in batch.targets[:, 1]]
        assert torch.stack(rows).mean() == pytest.approx(share, abs=0.06)


def made(config, metadata, labels=("a", "b"), step_key=(1, 0, 0)):
    """The first batch of training as ``config`` makes it."""
    train = subset(config, metadata, "train")
    train.order.go_to(1)
    return subsets.build_transform(config, metadata, list(labels))(next(iter(train.batches)), step_key)


def test_where_windows_are_pooled_those_of_annotated_test_recordings_are_there_one_by_one(metadata):
    """A head on an encoder, whose frames are windows."""
    first_test = metadata["filename"][metadata["split"] == "test"].iloc[0]
    found = [(Annotation(3.1, 3.9, "b"),) if name == first_test else None for name in metadata["filename"]]
    table = metadata.assign(annotations=found, unannotated="absent", seconds=640.0)
    process = DataProcess(n_mels=8, max_length_s=1.0)
    config = Config(data_process=process, model=Model(type="birdnet_v2.4", pool="mean"))
    test = subset(config, table, "test")
    assert len(epoch(test)) == 10
    batches = list(test.by_window.batches)
    targets = torch.cat([batch.targets for batch in batches])
    assert torch.cat([batch.recording for batch in batches]).tolist() == [0] * 640
    assert torch.nonzero(targets).tolist() == [[3, 1]]
    assert subset(config, table, "val").by_window is None  # epochs are compared by recordings
    each = replace(config, model=Model(type="birdnet_v2.4", pool="windows"))
    assert subset(each, table, "test").by_window is None  # its batches are windows already


MAKERS = {  # a setting, and whether it changes the images and the targets
    "mixup": (replace(PLAIN, mixing=Mixing(mixup_p=1.0)), True, True),
    "power mixing": (replace(PLAIN, mixing=Mixing(power_mix_p=1.0)), True, True),
    "masks": (replace(PLAIN, augmentation=Augmentation(xy_masks_p=1.0)), True, False),
    "no augmentation": (replace(PLAIN, augmentation=Augmentation(data_augmentation=False)), True, False),
    "smoothing": (replace(PLAIN, labels=Labels(smoothing=0.1)), False, True),
    "over": (replace(PLAIN, data=Data(standardize_over="recording")), True, False),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_setting_of_a_batch_reaches_it(metadata, name):
    config, images, targets = MAKERS[name]
    before, after = made(PLAIN, metadata), made(config, metadata)
    assert torch.equal(before[0], after[0]) is not images
    assert torch.equal(before[1], after[1]) is not targets
    if name != "over":  # the standardising is that of scoring too
        before, after = (made(one, metadata, step_key=None) for one in (PLAIN, config))
        assert torch.equal(before[0], after[0])
        assert torch.equal(before[1], after[1])


def test_recordings_of_several_species_weigh_no_more_in_the_mixtures_of_cross_entropy(metadata):
    for loss, sums in (("bce", {1.0, 1.5, 2.0}), ("cross_entropy", {1.0})):
        mixing = Mixing(mixup_p=1.0, mixup_alpha=1e6, mixup_labels="linear")
        config = replace(PLAIN, agent=Agent(loss=loss), labels=Labels(secondary="hard"), mixing=mixing)
        found = made(config, metadata)[1].sum(dim=1)
        assert all(min(abs(float(one) - other) for other in sums) < 0.01 for one in found)
        assert (found > 1.4).any() == (loss == "bce")


def test_a_class_of_no_bird_is_in_a_mixture_only_where_both_are_without(metadata):
    targets = made(replace(PLAIN, mixing=Mixing(mixup_p=1.0)), metadata, labels=("a", NOCALL))[1]
    assert (targets.sum(dim=1) == 1).all()  # no mixture is both


def test_the_background_is_of_no_recording_that_is_scored(metadata, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(subsets, "load_background", lambda *arguments: asked.append(arguments))
    augmentation = Augmentation(background_p=0.5, background_dir=tmp_path, background_minutes=7.0)
    table = metadata.assign(path=[f"{number}.ogg" for number in range(30)])
    subsets.build_transform(replace(PLAIN, augmentation=augmentation), table, ["a", "b"])
    ((folder, process, minutes, held_out),) = asked
    assert (folder, process, minutes) == (tmp_path, PLAIN.data_process, 7.0)
    assert held_out == [f"{number}.ogg" for number in range(10, 30)]


def test_without_augmentation_windows_are_those_of_the_grid(metadata):
    off = epoch(subset(SETTINGS["no augmentation"][0], metadata, "train"))
    assert all(
        torch.equal(one[0], two[0]) for one, two in zip(off, epoch(subset(PLAIN, metadata, "train")), strict=True)
    )


def test_a_gpu_keeps_all_recordings_or_none(metadata, monkeypatch):
    gpu, all_of_them = torch.device("cuda"), 2 * 8 * 640 * len(metadata)
    for free, reader in ((2 * all_of_them, subsets.DeviceBatches), (2 * all_of_them - 2, subsets.Loader)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
        assert subsets.reader_for(PLAIN, metadata, gpu).func is reader
