"""Does the sheet show every change there is, and each of them on its own?"""

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest

from training.contact_sheet import changes_of, contact_sheet, in_force
from utils.errors import DataError
from utils.settings import Augmentation, Config, DataProcess, Mixing

CONFIG = Config(data_process=DataProcess(n_mels=32, max_length_s=1.0))


def recording(frames=150):
    return np.random.default_rng(1).normal(-50, 5, (32, frames)).astype(np.float32)


def test_every_change_of_the_settings_is_on_the_sheet():
    shown = {key for change in changes_of(Augmentation()) for key in (*change.augmentation, *change.mixing)}
    there = {field.name for section in (Augmentation, Mixing) for field in fields(section)}
    switches = {key for key in there if key.endswith("_p") or key.startswith("augment_")}
    assert switches - {"augment_random_crop"} <= shown  # which chooses the window, and does nothing to it


def test_the_sheet_states_which_changes_are_on_in_this_config():
    augmentation = Augmentation(augment_spec_augment=False, background_p=0.25)
    config = replace(CONFIG, augmentation=augmentation, mixing=Mixing(cutmix_p=0.5))
    states = dict(title.split("\n") for title, _ in contact_sheet(recording(), config) if "\n" in title)
    assert states["SpecAugment"] == "off: augment_spec_augment = false"
    assert states["noise on the image, up to 0.5 deviations"] == "on: augment_add_noise = true"
    assert states["background at 3 dB"] == "on: background_p = 0.25"
    assert states["CutMix, half and half"] == "on: cutmix_p = 0.5"
    assert states["mixup, half and half"] == "off: mixup_p = 0"
    none = replace(config, augmentation=replace(augmentation, data_augmentation=False))
    assert in_force(changes_of(augmentation)[0], none) == "off: data_augmentation = false"
    assert in_force(changes_of(augmentation)[-2], none) == "on: cutmix_p = 0.5"  # [mixing] has switches of its own


@pytest.mark.parametrize("frames", [150, 64, 20, 2])
def test_every_panel_has_the_size_of_a_window_whatever_the_recording(frames):
    panels = contact_sheet(recording(frames), CONFIG)
    assert len(panels) == len(changes_of(Augmentation())) + 2
    assert all(image.shape == (32, 64) and np.isfinite(image).all() for _, image in panels)


def test_every_panel_differs_from_every_other():
    panels = contact_sheet(recording(), CONFIG)
    for (one, image), (other, its) in itertools.combinations(panels, 2):
        assert not np.allclose(image, its, atol=0.02), (one, other)


@pytest.mark.parametrize(
    ("setting", "value", "title"),
    [
        ("background_min_snr_db", -20.0, "background"),
        ("noise_max_deviation", 3.0, "noise"),
        ("time_masks", 0, "SpecAugment"),
        ("xy_mask_max", 9, "XY masking"),
    ],
)
def test_a_setting_shows_in_its_own_panel_and_in_no_other(setting, value, title):
    before = contact_sheet(recording(), CONFIG)
    after = contact_sheet(recording(), replace(CONFIG, augmentation=replace(CONFIG.augmentation, **{setting: value})))
    changed = [name for (_, one), (name, other) in zip(before, after, strict=True) if not np.array_equal(one, other)]
    assert changed
    assert all(title in name for name in changed)


def test_a_background_folder_without_sounds_is_reported_and_not_made_up_for(tmp_path):
    settings = replace(CONFIG.augmentation, background_dir=tmp_path)
    with pytest.raises(DataError, match="no recording in it can be used"):
        contact_sheet(recording(), replace(CONFIG, augmentation=settings))
