"""Are the losses what their papers say, and safe at the edges?"""

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from models.losses import BinaryCrossEntropy, Focal, SoftCrossEntropy

LOSSES = [SoftCrossEntropy(), BinaryCrossEntropy(), Focal(), Focal(alpha=-1.0, gamma=0.5)]
names = [f"{type(loss).__name__}{i}" for i, loss in enumerate(LOSSES)]


def batch(rows: int = 6, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that want a gradient, and multi-hot targets with a positive in each row."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(rows, classes, generator=generator)
    targets = (torch.rand(rows, classes, generator=generator) < 0.3).float()
    targets[:, 0] = 1
    return logits.requires_grad_(), targets


def value_and_slope(loss, logits, targets):
    value = loss(logits, targets)
    return value.detach(), torch.autograd.grad(value, logits)[0]


@pytest.mark.parametrize("alpha", [0.25, 0.9, 0.0, -1.0])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("soft", [False, True])
def test_focal_has_torchvisions_values_and_gradients(alpha, gamma, soft):
    logits, targets = batch()
    targets = targets * 0.7 + 0.1 if soft else targets
    expected = value_and_slope(lambda x, y: sigmoid_focal_loss(x, y, alpha, gamma, reduction="mean"), logits, targets)
    torch.testing.assert_close(value_and_slope(Focal(alpha, gamma), logits, targets), expected, rtol=1e-4, atol=1e-7)


def test_focal_without_gamma_and_alpha_is_binary_cross_entropy():
    torch.testing.assert_close(Focal(alpha=-1.0, gamma=0.0)(*batch()), BinaryCrossEntropy()(*batch()))


def test_cross_entropy_of_one_label_a_row_is_torchs():
    logits, _ = batch()
    labels = torch.tensor([0, 3, 1, 1, 4, 2])
    targets = F.one_hot(labels, 5).float()
    torch.testing.assert_close(SoftCrossEntropy()(logits, targets), F.cross_entropy(logits, labels))


def test_cross_entropy_divides_targets_by_their_sum():
    logits, targets = batch()
    shares = targets / targets.sum(1, keepdim=True)
    torch.testing.assert_close(SoftCrossEntropy()(logits, targets), F.cross_entropy(logits, shares))
    torch.testing.assert_close(SoftCrossEntropy()(logits, 0.3 * targets), F.cross_entropy(logits, shares))


def test_a_row_without_target_does_not_count_for_cross_entropy():
    logits, targets = batch()
    targets[2] = 0
    value, slope = value_and_slope(SoftCrossEntropy(), logits, targets)
    others = [0, 1, 3, 4, 5]
    torch.testing.assert_close(value, SoftCrossEntropy()(logits[others], targets[others]).detach())
    assert (slope[2] == 0).all()


def test_a_batch_without_any_target_has_cross_entropy_zero_and_no_gradient():
    logits, targets = batch()
    value, slope = value_and_slope(SoftCrossEntropy(), logits, 0 * targets)
    assert value == 0
    assert (slope == 0).all()


@pytest.mark.parametrize("loss", LOSSES, ids=names)
@pytest.mark.parametrize("logit", [-100.0, 100.0])
@pytest.mark.parametrize("target", [0.0, 0.4, 1.0, 1.0000001])
def test_extreme_logits_give_finite_values_and_gradients(loss, logit, target):
    logits = torch.full((2, 3), logit, requires_grad=True)
    value, slope = value_and_slope(loss, logits, torch.full((2, 3), target))
    assert value.isfinite()
    assert slope.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES, ids=names)
def test_under_bf16_autocast_the_loss_of_bf16_logits_is_calculated_in_float32(loss):
    logits, targets = batch()
    logits = logits.detach().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, targets.bfloat16())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(logits.float(), targets))


@pytest.mark.parametrize("loss", LOSSES, ids=names)
def test_unknown_targets_have_no_gradient_and_no_loss(loss):
    logits, targets = batch()
    targets[:, 4] = -1
    value, slope = value_and_slope(loss, logits, targets)
    assert (slope[:, 4] == 0).all()
    known = loss(logits[:, :4], targets[:, :4])
    torch.testing.assert_close(value, known.detach())
    torch.testing.assert_close(slope, torch.autograd.grad(known, logits)[0])
    with torch.no_grad():
        other = logits.clone()
        other[:, 4] += 7
        torch.testing.assert_close(loss(other, targets), value)


@pytest.mark.parametrize("loss", LOSSES, ids=names)
def test_a_batch_of_which_nothing_is_known_has_loss_zero_and_no_gradient(loss):
    logits, targets = batch()
    value, slope = value_and_slope(loss, logits, targets.fill_(-1))
    assert value == 0
    assert (slope == 0).all()
