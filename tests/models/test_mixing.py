"""Is a mixture made of its two recordings, and of nothing else?"""

import pytest
import torch

from models.mixing import add_partner, as_shares, cutmix, mix_targets, mixup, smooth_targets

PARTNER = torch.tensor([1, 2, 0])


def images():
    return torch.randn((3, 6, 20), generator=torch.Generator().manual_seed(1))


def test_mixing_of_standardised_images_is_linear():
    share = torch.tensor([0.25, 0.5, 1.0])
    mixed, a = mixup(images(), PARTNER, share), images()
    torch.testing.assert_close(mixed[0], 0.75 * a[0] + 0.25 * a[1])
    torch.testing.assert_close(mixup(3 * a, PARTNER, share), 3 * mixed)
    torch.testing.assert_close(mixed[2], a[0])


def test_cutmix_takes_the_same_stretch_of_the_partner():
    mixed, a = cutmix(images(), PARTNER, torch.tensor([4, 0, 7]), torch.tensor([5, 20, 0])), images()
    assert torch.equal(mixed[0, :, 4:9], a[1, :, 4:9])
    assert torch.equal(mixed[0, :, :4], a[0, :, :4])
    assert torch.equal(mixed[0, :, 9:], a[0, :, 9:])
    assert torch.equal(mixed[1], a[2])
    assert torch.equal(mixed[2], a[2])


def test_powers_add_up():
    power = torch.tensor([1.0, 4.0, 0.0]).view(3, 1, 1)
    assert add_partner(power, PARTNER, torch.tensor([0.5, 1.0, 0.0])).flatten().tolist() == [3.0, 4.0, 0.0]


@pytest.mark.parametrize("labels", ["max", "linear"])
def test_a_mixture_has_no_label_that_neither_had(labels):
    rng = torch.Generator().manual_seed(2)
    targets = torch.randint(-1, 2, (200, 12), generator=rng).float() * torch.rand((200, 1), generator=rng).round(
        decimals=1
    )
    targets = torch.where(targets < 0, -1.0, targets)
    partner, share = torch.randperm(200, generator=rng), torch.rand(200, generator=rng).round(decimals=1)
    mixed = mix_targets(targets, partner, share, labels)
    assert not ((mixed > 0) & (targets <= 0) & (targets[partner] <= 0)).any()
    assert (mixed <= torch.maximum(targets, targets[partner]) + 1e-6).all()
    assert ((mixed >= 0) | (mixed == -1)).all()
    assert torch.equal(mixed[share == 0], targets[share == 0])
    assert torch.equal(mixed[share == 1], targets[partner][share == 1])  # nothing is left of the first


@pytest.mark.parametrize(
    ("first", "second", "most", "linear"),
    [
        (1, 0, 1, 0.75),
        (0, 1, 1, 0.25),
        (1, 1, 1, 1),
        (0, 0, 0, 0),
        (0.4, 0.8, 0.8, 0.5),
        (-1, 0, -1, -1),
        (0, -1, -1, -1),
        (-1, -1, -1, -1),
        (1, -1, 1, 0.75),  # it is present, whatever the other recording contains
        (-1, 1, 1, 0.25),
    ],
)
def test_labels_of_a_mixture_with_a_quarter_of_the_second(first, second, most, linear):
    targets, share = torch.tensor([[first], [second]], dtype=torch.float32), torch.tensor([0.25, 0.0])
    partner = torch.tensor([1, 0])
    assert mix_targets(targets, partner, share, "max")[0, 0].item() == pytest.approx(most)
    assert mix_targets(targets, partner, share, "linear")[0, 0].item() == pytest.approx(linear)


@pytest.mark.parametrize(("labels", "bird"), [("max", 1.0), ("linear", 0.75)])
def test_a_bird_in_a_mixture_with_a_recording_of_none_is_no_longer_none(labels, bird):
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])  # a bird; the class of no bird, twice
    partner, share = torch.tensor([1, 2, 0]), torch.tensor([0.25, 0.25, 0.0])
    mixed = mix_targets(targets, partner, share, labels, nocall_index=1)
    assert mixed.tolist() == [[bird, 0.0], [0.0, 1.0], [0.0, 1.0]]


def test_shares_are_of_the_known_labels_and_of_nothing_there_are_none():
    targets = torch.tensor([[1.0, 1.0, -1.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0], [-1.0, -1.0, -1.0]])
    assert as_shares(targets).tolist() == [[0.5, 0.5, -1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [-1.0, -1.0, -1.0]]


def test_smoothing_keeps_the_sum_of_a_row_and_what_nobody_knows():
    targets = torch.tensor([[1.0, 0, 0], [0, 1, 1], [0, 0, 0], [1, -1, 0]])
    expected = [[0.8, 0.1, 0.1], [0.2, 0.9, 0.9], [0, 0, 0], [0.8, -1, 0.1]]
    torch.testing.assert_close(smooth_targets(targets, 0.3), torch.tensor(expected))
