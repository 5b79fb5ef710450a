"""Do the settings of training change the training part, and no other?"""

from dataclasses import replace

import pytest
import torch

from factory import parts
from utils.config import Augmentation, Config, Data, DataProcess, Labels

PLAIN = Config(data_process=DataProcess(n_mels=8, max_length_s=1.0))
CPU = torch.device("cpu")


def part(config, metadata, side):
    return parts.build_parts(config, metadata, ["a", "b"], CPU)[side]


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
    for free, reader in ((2 * all_of_them, parts.DeviceBatches), (2 * all_of_them - 2, parts.Loader)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
        assert parts.reader_for(PLAIN, metadata, gpu).func is reader
