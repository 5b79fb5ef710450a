"""Does a change do what it says, within its limits, and the same for the same step key?"""

from dataclasses import replace

import pytest
import torch

from dataloader.batches.augment import (
    Augmenter,
    _image_changes,
    add_noise,
    spec_augment,
    xy_masks,
)
from dataloader.batches.dataset import Batch
from dataloader.batches.images import ImageTransform
from utils.settings import Augmentation, DataProcess

PROCESS = DataProcess()
SETTINGS = Augmentation()


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def small_batch():
    windows, mean, scale = torch.randn(2, 30, 8).half(), torch.full((2, 8), -60.0), torch.full((2, 8), 5.0)
    return Batch(windows, mean, scale, torch.zeros(2, 1), torch.arange(2))


def test_masks_stay_inside_their_count_and_width():
    images = torch.ones(200, 40, 100)
    masked = spec_augment(
        images, generator(), time_masks=2, time_width=7, frequency_masks=1, frequency_width=5
    )  # fmt: skip
    hidden = masked == 0
    columns, rows = hidden.all(dim=1), hidden.all(dim=2)
    assert (hidden == (columns[:, None] | rows[:, :, None])).all()
    starts = (columns[:, 1:] & ~columns[:, :-1]).sum(1) + columns[:, 0]
    assert starts.max() <= 2
    assert columns.sum(1).max() <= 14
    assert rows.sum(1).max() <= 5
    assert columns.any(dim=0).all()  # every position is hidden at times
    assert ((rows[:, 1:] & ~rows[:, :-1]).sum(1) + rows[:, 0]).max() <= 1


@pytest.mark.parametrize("key", ["augment_spec_augment", "xy_masks_p"])
def test_masks_are_silence_where_images_are_in_db(key):
    settings = Augmentation(augment_add_noise=False, augment_spec_augment=False)
    augmenter = Augmenter(replace(settings, **{key: 1}), replace(PROCESS, standardize="none"), 1)
    changed = augmenter(torch.full((20, 128, 320), -40.0), (1, 0, 0))
    assert set(changed.unique().tolist()) == {-40.0, PROCESS.floor_db}


def test_a_mask_wider_than_the_image_does_no_harm():
    masked = spec_augment(
        torch.ones(5, 4, 6), generator(), time_masks=1, time_width=99, frequency_masks=0, frequency_width=1
    )
    assert masked.shape == (5, 4, 6)


def test_xy_masks_stay_inside_their_count_and_width():
    images = torch.ones(1500, 60, 200)
    masked = xy_masks(images, generator(), p=0.5, time_masks=3, frequency_masks=2, widths=(4, 6), fill=-7.0)
    hidden = masked == -7
    assert ((masked == 1) | hidden).all()
    columns, rows = hidden.all(dim=1), hidden.all(dim=2)
    assert (hidden == (columns[:, None] | rows[:, :, None])).all()
    for lines, most in ((columns, 3), (rows, 2)):
        starts = (lines[:, 1:] & ~lines[:, :-1]).sum(1) + lines[:, 0]
        masked_ones = lines.any(dim=1)
        assert 0.4 < masked_ones.float().mean() < 0.6
        assert torch.equal(masked_ones, columns.any(dim=1))  # at least one of each, in those chosen
        assert set(starts[masked_ones].tolist()) == set(range(1, most + 1))  # some of every count
        assert lines.sum(1)[masked_ones].min() >= 4
        assert lines.sum(1).max() <= 6 * most
        alone = lines.sum(1)[starts == 1]
        assert alone.min() == 4
        assert lines.any(dim=0).all()  # every position is hidden at times


def test_no_masks_of_a_kind_are_none():
    masked = xy_masks(torch.ones(50, 30, 40), generator(), p=1.0, time_masks=0, frequency_masks=1, widths=(2, 3))
    assert not (masked == 0).all(dim=1).any()
    assert (masked == 0).all(dim=2).any(dim=1).all()


def test_each_change_draws_what_it_draws_alone():
    images = torch.randn(8, 16, 60)
    off = replace(SETTINGS, augment_add_noise=False, augment_spec_augment=False)
    changes = {  # in the order in which they are made
        "augment_add_noise": True, "augment_spec_augment": True, "xy_masks_p": 0.5,
    }  # fmt: skip
    one_by_one = images
    for name, value in changes.items():
        one_by_one = Augmenter(replace(off, **{name: value}), PROCESS, 1)(one_by_one, (1, 2, 0))
        assert not torch.equal(one_by_one, images)
    assert torch.equal(Augmenter(replace(off, **changes), PROCESS, 1)(images, (1, 2, 0)), one_by_one)


def test_each_setting_reaches_the_change_it_is_named_after():
    a = Augmentation(
        noise_max_deviation=0.4, time_masks=5, time_mask_max_s=0.75, frequency_masks=2, frequency_mask_max_bands=7,
        xy_masks_p=0.13, xy_time_masks=9, xy_frequency_masks=4, xy_mask_min=6, xy_mask_max=11,
    )  # fmt: skip
    changes = {name: change.keywords for name, change in _image_changes(a, PROCESS).items()}
    assert changes == {
        "noise": {"max_deviation": 0.4},
        "spec_augment": {
            "time_masks": 5, "time_width": 48, "frequency_masks": 2, "frequency_width": 7, "fill": 0.0
        },
        "xy_masks": {"p": 0.13, "time_masks": 9, "frequency_masks": 4, "widths": (6, 11), "fill": 0.0},
    }  # fmt: skip


def test_noise_has_a_deviation_up_to_the_one_given():
    noise = add_noise(torch.zeros(300, 20, 50), generator(), 0.5)
    deviations = noise.std(dim=(1, 2))
    assert deviations.max() < 0.55
    assert 0.2 < deviations.mean() < 0.3
    assert abs(noise.mean()) < 0.01


def test_the_same_place_gives_the_same_change_and_another_place_another():
    augmenter = Augmenter(SETTINGS, PROCESS, seed=1)
    images = torch.randn(4, 16, 60)
    first = augmenter(images, (1, 2, 0))
    augmenter(images, (9, 9, 0))
    assert torch.equal(augmenter(images, (1, 2, 0)), first)
    for step_key in ((1, 3, 0), (2, 2, 0), (1, 2, 1)):
        assert not torch.equal(augmenter(images, step_key), first)
    assert not torch.equal(Augmenter(SETTINGS, PROCESS, seed=2)(images, (1, 2, 0)), first)


def test_off_is_off():
    images = torch.randn(4, 16, 60)
    off = replace(SETTINGS, data_augmentation=False)
    assert torch.equal(Augmenter(off, PROCESS, 1)(images, (1, 1, 0)), images)
    none = replace(SETTINGS, augment_add_noise=False, augment_spec_augment=False)
    assert torch.equal(Augmenter(none, PROCESS, 1)(images, (1, 1, 0)), images)


def test_only_training_images_are_changed():
    batch = small_batch()
    transform, plain = (
        ImageTransform(PROCESS, "window", Augmenter(SETTINGS, PROCESS, 1)),
        ImageTransform(PROCESS, "window"),
    )
    images, targets = transform(batch)
    assert torch.equal(images, plain(batch)[0])
    assert not torch.equal(transform(batch, (1, 1, 0))[0], images)
    assert images.shape == (2, 1, 8, 30)
    assert targets is batch.targets


def test_over_the_recording_the_cached_values_are_seen_as_they_are():
    batch = small_batch()
    seen, _ = ImageTransform(PROCESS, "recording")(batch)
    assert torch.equal(seen[:, 0], batch.windows.transpose(1, 2).float())


@pytest.mark.parametrize("change", [spec_augment, xy_masks])
def test_masks_of_time_leave_those_of_frequency_as_they_were(change):
    more = {"time_width": 9, "frequency_width": 9} if change is spec_augment else {"p": 0.5, "widths": (2, 9)}
    images = torch.ones(100, 60, 200)
    bands = [
        change(images, generator(), time_masks=masks, frequency_masks=2, **more).eq(0).all(dim=2) for masks in (0, 3, 4)
    ]
    assert bands[0].any()
    assert torch.equal(bands[0], bands[1])
    assert torch.equal(bands[1], bands[2])
