"""Does the mixer mix the share of examples it is asked to, in the same way for the same step key?"""

from dataclasses import replace

import pytest
import torch

from dataloader.batches.augment import Augmenter
from dataloader.batches.dataset import Batch
from dataloader.batches.images import ImageTransform
from dataloader.batches.power import to_db, to_power
from training.mixer import Mixer
from utils.settings import Augmentation, DataProcess, Mixing

PROCESS = DataProcess(n_mels=8)
STEP_KEY = (1, 2, 0)
ALL = Mixing(power_mix_p=0.5, mixup_p=0.5, cutmix_p=0.5)
KINDS = ("power_mix_p", "mixup_p", "cutmix_p")


def batch(size=64, level=-60.0):
    rng = torch.Generator().manual_seed(1)
    windows = torch.randn((size, 30, 8), generator=rng).half()
    mean, scale = torch.full((size, 8), level), torch.full((size, 8), 5.0)
    return Batch(windows, mean, scale, torch.eye(size), torch.arange(size))


def make(mixing, b, *, seed=1, step_key=STEP_KEY, over="window", process=PROCESS):
    return ImageTransform(process, over, mixer=Mixer(mixing, seed))(b, step_key)


def plain(b, over="window", process=PROCESS):
    return ImageTransform(process, over)(b)


@pytest.mark.parametrize("over", ["window", "recording"])
def test_without_a_chance_nothing_changes_to_the_bit(over):
    b = batch()
    images, targets = make(Mixing(), b, over=over)
    assert torch.equal(images, plain(b, over)[0])
    assert targets is b.targets


def test_only_training_batches_are_mixed():
    b = batch()
    images, targets = make(replace(ALL, mixup_p=1.0), b, step_key=None)
    assert torch.equal(images, plain(b)[0])
    assert targets is b.targets


@pytest.mark.parametrize("over", ["window", "recording"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_share_asked_for_is_mixed_and_the_rest_is_the_same_to_the_bit(kind, over):
    b = batch(400)
    images, targets = make(Mixing(**{kind: 0.3}), b, over=over)
    same = (images == plain(b, over)[0]).flatten(1).all(dim=1)
    assert 0.62 < same.float().mean() < 0.78
    assert torch.equal(targets[same], b.targets[same])
    assert ((targets[~same] > 0).sum(dim=1) == 2).float().mean() > 0.95  # the own label and the partner's
    assert (targets.diagonal() > 0).float().mean() > 0.99  # a stretch of CutMix may be all of a window


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_alone_has_nobody_to_mix_with(kind):
    b = batch(1)
    images, targets = make(Mixing(**{kind: 1.0}), b)
    assert torch.equal(images, plain(b)[0])
    assert torch.equal(targets, b.targets)


def test_the_same_step_key_gives_the_same_mixture_and_another_key_another():
    b = batch()
    images, targets = make(ALL, b)
    for again in make(ALL, b), make(ALL, b):
        assert torch.equal(again[0], images)
        assert torch.equal(again[1], targets)
    for changed in ({"seed": 2}, {"step_key": (2, 2, 0)}, {"step_key": (1, 3, 0)}, {"step_key": (1, 2, 1)}):
        assert not torch.equal(make(ALL, b, **changed)[0], images)


def test_one_kind_leaves_what_another_draws_as_it_was():
    b = batch()
    images, _ = plain(b)
    images = images[:, 0]
    both = Mixer(Mixing(mixup_p=0.5, cutmix_p=0.5, power_mix_p=0.7), 1).images(images, b.targets, STEP_KEY)
    one = Mixer(Mixing(mixup_p=0.5), 1).images(images, b.targets, STEP_KEY)
    other = Mixer(Mixing(cutmix_p=0.5), 1).images(*one, STEP_KEY)
    assert torch.equal(both[0], other[0])
    assert torch.equal(both[1], other[1])


def test_nobody_is_its_own_partner():
    for step_key in range(50):
        _, partner, mixed = Mixer(ALL, 1)._draw("mixup", 1.0, 5, (step_key,))
        assert sorted(partner) == list(range(5))
        assert (partner != range(5)).all()
        assert mixed.all()


def test_targets_of_mixup_and_cutmix_are_as_the_settings_say():
    b = batch()
    for kind in ("mixup", "cutmix"):
        _, most = make(Mixing(**{f"{kind}_p": 1.0, f"{kind}_labels": "max"}), b)
        assert set(most.unique().tolist()) == {0.0, 1.0}
        _, linear = make(Mixing(**{f"{kind}_p": 1.0, f"{kind}_labels": "linear"}), b)
        torch.testing.assert_close(linear.sum(dim=1), torch.ones(len(linear)))


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_linear_labels_have_the_shares_that_the_images_have(kind):
    """Each image is all of its own number: so its values show how much of it is the partner's."""
    numbers = torch.arange(64.0)
    images = numbers[:, None, None].expand(-1, 8, 100)
    mixing = Mixing(**{f"{kind}_p": 1.0, f"{kind}_alpha": 1.0, f"{kind}_labels": "linear"})
    mixed, targets = Mixer(mixing, 1).images(images, torch.eye(64), STEP_KEY)
    mean = mixed.mean(dim=(1, 2))
    torch.testing.assert_close(targets @ numbers, mean, atol=1e-3, rtol=0)
    shares = targets.diagonal()
    assert (shares < 0.4).any()
    assert (shares > 0.6).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixture_of_a_bird_and_a_recording_of_none_is_labelled_by_the_bird(kind):
    b = batch()
    b = b._replace(targets=torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]).repeat(32, 1))  # a bird, and none
    _, targets = ImageTransform(PROCESS, "window", mixer=Mixer(Mixing(**{kind: 1.0}), 1, nocall_index=2))(b, STEP_KEY)
    assert ((targets > 0).sum(dim=1) == 1).all()
    assert (targets[:, 0] > 0).float().mean() > 0.6  # three of four pairs hold a bird


@pytest.mark.parametrize("mixing", [{"cutmix_p": 1.0, "cutmix_alpha": 1e6}, {"power_mix_p": 1.0}])
def test_cross_entropy_is_asked_for_both_recordings_of_a_mixture_alike_however_many_species_they_have(mixing):
    b = batch(2)
    b = b._replace(targets=torch.tensor([[1.0, 0, 0, 0, -1], [0, 1, 1, 1, 0]]))
    _, targets = ImageTransform(PROCESS, "window", mixer=Mixer(Mixing(**mixing), 1, shares=True))(b, STEP_KEY)
    shares = targets.clamp(min=0) / targets.clamp(min=0).sum(dim=1, keepdim=True)
    torch.testing.assert_close(shares, torch.tensor([[1 / 2, 1 / 6, 1 / 6, 1 / 6, 0]]).expand(2, 5))
    assert (targets[:, 4] < 0).all()


def test_a_large_alpha_means_half_and_half():
    b = batch()
    _, targets = make(Mixing(mixup_p=1.0, mixup_alpha=1e6, mixup_labels="linear"), b)
    torch.testing.assert_close(targets.diagonal(), torch.full((64,), 0.5), atol=0.01, rtol=0)


def test_mixing_with_silence_on_power_gives_the_recording():
    b = batch(2, level=-50.0)
    silence = torch.zeros_like(b.windows[1])
    b = b._replace(windows=torch.stack([b.windows[0], silence]), mean=torch.tensor([[-50.0] * 8, [-100.0] * 8]))
    mixing = Mixing(power_mix_p=1.0)
    images, targets = make(mixing, b, over="recording")
    torch.testing.assert_close(images[0], plain(b, "recording")[0][0], atol=1e-3, rtol=0)
    assert targets[0].tolist() == [1, 1]


def louder(mixing, b):
    """By how many dB the mixtures of a batch are louder than its windows, ``(batch, 1, n_mels, frames)``."""
    in_db = replace(PROCESS, standardize="none")
    return b.scale[0, 0] * (make(mixing, b, process=in_db)[0] - plain(b, process=in_db)[0])


def test_two_equal_sounds_on_power_are_three_decibels_louder():
    b = batch(2, level=-40.0)
    b = b._replace(windows=b.windows[:1].expand(2, -1, -1))
    db = louder(Mixing(power_mix_p=1.0, power_mix_alpha=1e6), b)
    torch.testing.assert_close(db, torch.full_like(db, 3.0103), atol=0.01, rtol=0)


@pytest.mark.parametrize("over", ["window", "recording"])
def test_of_two_equal_sounds_nothing_is_left_when_they_are_standardised(over):
    b = batch(2, level=-40.0)
    b = b._replace(windows=b.windows[:1].expand(2, -1, -1))
    images, _ = make(Mixing(power_mix_p=1.0), b, over=over)
    torch.testing.assert_close(images, plain(b, over)[0], atol=1e-3, rtol=0)


def test_a_share_of_all_the_power_leaves_the_example_in_the_mixture():
    b = batch(64, level=-60.0)
    b = b._replace(windows=b.windows[:1].expand(64, -1, -1))
    louder_by = louder(Mixing(power_mix_p=1.0, power_mix_alpha=0.01), b).amax(dim=(1, 2, 3))
    assert louder_by.max() == pytest.approx(30, abs=0.1)
    assert (louder_by < 0.1).any()


def test_a_mixture_on_power_is_standardised_over_its_window():
    images, _ = make(Mixing(power_mix_p=1.0), batch())
    torch.testing.assert_close(images.mean(dim=3), torch.zeros(64, 1, 8), atol=1e-4, rtol=0)
    torch.testing.assert_close(images.std(dim=3, correction=0), torch.ones(64, 1, 8), atol=0.3, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_smoothing_comes_last_so_that_what_nobody_knows_stays_so_in_a_mixture(kind):
    b = batch()
    b = b._replace(targets=b.targets.roll(1, 0) - torch.eye(len(b.targets)))  # each has one label, and one not known
    mixing = Mixing(**{kind: 1.0})
    _, targets = make(mixing, b)
    _, smoothed = ImageTransform(PROCESS, "window", mixer=Mixer(mixing, 1, smoothing=0.2))(b, STEP_KEY)
    assert (targets < 0).any()
    assert torch.equal(smoothed < 0, targets < 0)
    assert (smoothed[targets >= 0] > 0).all()


def the_partners_stretch(**mixing):
    """Where the partner is, ``(batch, frames)``, of 600 images that are all of their own number."""
    images = torch.arange(600.0)[:, None, None].expand(-1, 8, 100)
    mixed, _ = Mixer(Mixing(**mixing), 1).images(images, torch.eye(600), STEP_KEY)
    return (mixed != images)[:, 0]


def test_cutmix_is_one_stretch_anywhere_and_as_long_as_its_own_alpha_says():
    inside = the_partners_stretch(cutmix_p=1.0, cutmix_alpha=200.0, mixup_alpha=0.1)
    assert (inside.sum(dim=1) - 50).abs().max() < 15  # a large alpha: about half
    assert ((inside[:, 1:] & ~inside[:, :-1]).sum(dim=1) + inside[:, 0] == 1).all()
    firsts = inside.int().argmax(dim=1)
    assert firsts.min() < 3
    assert firsts.max() > 45
    assert the_partners_stretch(cutmix_p=1.0).sum(dim=1).float().std() > 25  # 1: any length alike


def test_each_kind_chooses_for_itself_whom_it_mixes():
    """With one draw for all, those who are mixed on power would be those of mixup and of CutMix."""
    b = batch(400)
    changed = [(make(Mixing(**{kind: 0.5}), b)[0] != plain(b)[0]).flatten(1).any(dim=1) for kind in KINDS]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert 120 < (changed[one] != changed[other]).sum() < 280  # half, if they know nothing of each other


def test_images_are_changed_before_they_are_mixed_and_a_background_is_added_after():
    """The masks of one example are in its share of a mixture; the wind is at the microphone that records both."""
    b, off = batch(16), Augmentation(augment_add_noise=False, augment_spec_augment=False)
    masks, mixup = (
        Augmenter(replace(off, xy_masks_p=1.0, xy_mask_min=2, xy_mask_max=3), PROCESS, 1),
        Mixer(Mixing(mixup_p=1.0), 1),
    )
    expected, _ = mixup.images(masks(plain(b)[0][:, 0], STEP_KEY), b.targets, STEP_KEY)
    assert torch.equal(ImageTransform(PROCESS, "window", masks, mixup)(b, STEP_KEY)[0][:, 0], expected)
    background = torch.randn((900, PROCESS.n_mels), generator=torch.Generator().manual_seed(1)) - 60
    augmenter = Augmenter(replace(off, background_p=1.0), PROCESS, 1, background.half())
    power_mix = Mixer(Mixing(power_mix_p=1.0), 1)
    process, floor = replace(PROCESS, standardize="none"), PROCESS.floor_db
    db = b.windows.transpose(1, 2).float() * b.scale[:, :, None] + b.mean[:, :, None]
    mixed, _ = power_mix.power(to_power(db, floor), b.targets, STEP_KEY)
    expected = (to_db(augmenter.power(mixed, STEP_KEY), floor) - b.mean[:, :, None]) / b.scale[:, :, None]
    seen = ImageTransform(process, "recording", augmenter, power_mix)(b, STEP_KEY)[0][:, 0]
    torch.testing.assert_close(seen, expected, atol=0.05, rtol=0)
