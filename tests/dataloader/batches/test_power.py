"""Do changes of power do what they say, in dB of power, and is what they leave alone the same to the bit?"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dataloader.batches.augment import Augmenter
from dataloader.batches.dataset import Batch
from dataloader.batches.images import ImageTransform
from dataloader.batches.power import to_db, to_power
from dataloader.cache.spectrogram import MelSpectrogram, band_widths
from utils.settings import Augmentation, DataProcess

PROCESS = DataProcess()
FLOOR = PROCESS.floor_db
OFF = Augmentation(augment_add_noise=False, augment_spec_augment=False)
STEP_KEY = (1, 2, 0)


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def power(batch=20, frames=200):
    """Some dB between -80 and -30."""
    return to_power(-80 + 50 * torch.rand((batch, 128, frames), generator=generator()), FLOOR)


def background():
    return (-70 + 10 * torch.randn((900, 128), generator=generator(3))).half()


def augmenter(**changes):
    return Augmenter(replace(OFF, **changes), PROCESS, 1, background())


def change(its, before, step_key=STEP_KEY):
    return its.power(before, step_key)


def total(spectrogram):
    """Power of waveforms that have these spectrograms, but for a factor, ``(batch,)``."""
    widths = torch.from_numpy(band_widths(PROCESS)).float()
    return (spectrogram * widths[:, None]).sum(dim=(1, 2))


def test_there_and_back_is_the_same():
    db = torch.linspace(FLOOR, 20, 500)
    torch.testing.assert_close(to_db(to_power(db, FLOOR), FLOOR), db, atol=2e-3, rtol=0)


@pytest.mark.parametrize("snr", [-5.0, 0.0, 20.0])
def test_the_snr_asked_for_is_the_one_there_is(snr):
    before = power()
    settings = {"background_p": 1.0, "background_min_snr_db": snr, "background_max_snr_db": snr}
    after = change(augmenter(**settings), before)
    assert (after >= before).all()
    there = 10 * torch.log10(total(before) / total(after - before))
    torch.testing.assert_close(there, torch.full_like(there, snr), atol=0.2, rtol=0)


def test_snrs_fill_the_range_they_are_drawn_from():
    before = power(batch=200, frames=20)
    settings = {"background_p": 1.0, "background_min_snr_db": 3.0, "background_max_snr_db": 13.0}
    after = change(augmenter(**settings), before)
    there = 10 * torch.log10(total(before) / total(after - before))
    assert 2.5 < there.min() < 4
    assert 12 < there.max() < 13.5
    assert 7 < there.mean() < 9


def test_the_snr_is_that_of_the_waveforms():
    """A tone and white noise, with as much power each between f_min and f_max: 0 dB."""
    rng, seconds, rate = np.random.default_rng(1), 10, PROCESS.sample_rate
    noise = rng.normal(size=seconds * rate)
    noise *= np.sqrt(rate / 2 / (PROCESS.f_max - PROCESS.f_min))
    tone = np.sqrt(2) * np.sin(2 * np.pi * 3000 * np.arange(seconds * rate) / rate)
    mel = MelSpectrogram(PROCESS)
    both = [to_power(torch.from_numpy(mel.db(x.astype(np.float32) * 0.01))[None], FLOOR) for x in (tone, noise)]
    there = 10 * torch.log10(total(both[0]) / total(both[1]))
    assert abs(there.item()) < 0.5


def test_silence_stays_silence():
    assert (change(augmenter(background_p=1.0), torch.zeros(3, 128, 40)) == 0).all()


def test_a_silent_background_adds_nothing():
    quiet = Augmenter(replace(OFF, background_p=1.0), PROCESS, 1, torch.full((300, 128), FLOOR).half())
    assert torch.equal(change(quiet, power()), power())


def test_each_window_hears_another_piece_of_the_background():
    tones = torch.full((900, 128), FLOOR)
    tones[torch.arange(900), torch.arange(900) // 10] = -20.0  # which band sounds tells the position
    before = torch.full((300, 128, 1), 1e-9)
    added = change(Augmenter(replace(OFF, background_p=1.0), PROCESS, 1, tones.half()), before) - before
    assert len(added[:, :, 0].argmax(dim=1).unique()) > 75  # of 90


def test_a_background_shorter_than_the_window_is_repeated():
    short = Augmenter(replace(OFF, background_p=1.0), PROCESS, 1, background()[:70])
    added = change(short, power()) - power()
    torch.testing.assert_close(added[:, :, :70], added[:, :, 70:140], atol=1e-6, rtol=1e-2)


def test_the_share_asked_for_is_changed_and_the_rest_left_to_the_bit():
    before = power(400, 10)
    same = (change(augmenter(background_p=0.3), before) == before).flatten(1).all(dim=1)
    assert 0.62 < same.float().mean() < 0.78


def test_the_same_step_key_draws_the_same_background_and_another_one_another():
    settings = {"background_p": 0.5}
    changed = change(augmenter(**settings), power())
    assert torch.equal(change(augmenter(**settings), power()), changed)
    assert not torch.equal(change(augmenter(**settings), power(), (1, 3, 0)), changed)


@pytest.mark.parametrize("over", ["window", "recording"])
def test_images_of_windows_that_were_not_chosen_are_the_same_to_the_bit(over):
    size = 40
    windows, mean, scale = (
        torch.randn(size, 60, 128).half(),
        torch.full((size, 128), -60.0),
        torch.full((size, 128), 5.0),
    )
    batch = Batch(windows, mean, scale, torch.zeros(size, 1), torch.arange(size))
    plain, _ = ImageTransform(PROCESS, over)(batch)
    changed, targets = ImageTransform(PROCESS, over, augmenter(background_p=0.5))(batch, STEP_KEY)
    same = (changed == plain).flatten(1).all(dim=1)
    assert 5 < same.sum() < 35
    assert targets is batch.targets
    assert (changed - plain).abs().max() < 20


def test_switched_off_they_cost_nothing():
    assert not augmenter().on_power
    assert augmenter(background_p=0.1).on_power
    assert not augmenter(background_p=0.1, data_augmentation=False).on_power
