"""Does the sheet show every change there is, and each of them on its own?"""

from dataclasses import fields

import numpy as np
import pytest

from factory.contact_sheet import CHANGES, contact_sheet
from utils.config import Augmentation, Config, DataProcess, Mixing

CONFIG = Config(data_process=DataProcess(n_mels=32, max_length_s=1.0))


def recording(frames=150):
    return np.random.default_rng(1).normal(-50, 5, (32, frames)).astype(np.float32)


def test_every_change_of_the_settings_is_on_the_sheet():
    shown = {key for change in CHANGES for key in (*change.augmentation, *change.mixing)}
    there = {field.name for section in (Augmentation, Mixing) for field in fields(section)}
    switches = {key for key in there if key.endswith("_p") or key.startswith("augment_")}
    assert switches - {"augment_random_crop"} <= shown  # which chooses the window, and does nothing to it


@pytest.mark.parametrize("frames", [150, 64, 20, 2])
def test_every_panel_has_the_size_of_a_window_whatever_the_recording(frames):
    panels = contact_sheet(recording(frames), CONFIG)
    assert len(panels) == len(CHANGES) + 2
    assert all(image.shape == (32, 64) and np.isfinite(image).all() for _, image in panels)


def test_every_panel_differs_from_the_window_as_it_is():
    (_, plain), *others = contact_sheet(recording(), CONFIG)
    for title, image in others:
        same = np.allclose(image, plain, atol=0.02)
        assert same == title.startswith(("equaliser", "gain")), title  # these standardising takes away
