"""Does the generalised mean lie where its p says?"""

import pytest
import torch

from models.pooling import GeneralizedMean


def features():
    return torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(1)) + 0.1


def test_a_power_of_1_is_the_mean_and_a_large_one_nearly_the_largest():
    torch.testing.assert_close(GeneralizedMean(1.0)(features()), features().mean(dim=(2, 3)))
    torch.testing.assert_close(GeneralizedMean(500.0)(features()), features().amax(dim=(2, 3)), rtol=0.01, atol=0)


def test_it_is_the_papers_formula():
    expected = features().pow(3).mean(dim=(2, 3)).pow(1 / 3)
    torch.testing.assert_close(GeneralizedMean(3.0)(features()), expected)


def test_p_is_learned_and_never_below_1():
    pool = GeneralizedMean(2.0)
    pool(features()).sum().backward()
    assert pool.p.grad.item() > 0  # a larger p gives larger values
    torch.testing.assert_close(GeneralizedMean(-4.0)(features()), features().mean(dim=(2, 3)))


@pytest.mark.parametrize("scale", [0.0, -1.0, 1e-4, 1e4])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
def test_values_and_slopes_are_finite_whatever_comes(scale, kind):
    images = (features() * scale).to(kind).requires_grad_()
    pool = GeneralizedMean(3.0)
    pooled = pool(images)
    pooled.sum().backward()
    assert all(values.isfinite().all() for values in (pooled, images.grad, pool.p.grad))


def test_what_is_below_0_counts_as_0():
    signed = features() - 0.6
    assert (signed < 0).any()
    torch.testing.assert_close(GeneralizedMean(3.0)(signed), GeneralizedMean(3.0)(signed.clamp(min=0)))


def test_it_begins_between_the_mean_and_the_largest():
    assert GeneralizedMean().p.tolist() == [3.0]  # of the paper


def test_a_quiet_channel_beside_a_loud_one_keeps_its_value():
    images = torch.cat([features() * 1e5, features() * 1e-5], dim=1)
    pooled = GeneralizedMean(10.0)(images)
    torch.testing.assert_close(pooled[:, 3:] * 1e10, pooled[:, :3], rtol=1e-3, atol=0)
