"""Is a clip's score a weighted mean of its frames' scores, and its logit finite?"""

import pytest
import torch

from models.sed import AttentionHead


def head(scale: float = 1.0) -> AttentionHead:
    torch.manual_seed(1)
    head = AttentionHead(8, 3).eval()
    for layer in (head.classify, head.attend):
        layer.weight.data *= scale
    return head


def features(batch: int = 4) -> torch.Tensor:
    return torch.randn(batch, 8, 2, 10, generator=torch.Generator().manual_seed(2))


def test_a_clips_probability_lies_between_those_of_its_frames():
    with torch.no_grad():
        clip, frames = head(5.0)(features(64)).sigmoid(), head(5.0).frame_scores(features(64))
    assert frames.shape == (64, 3, 10)
    assert (clip >= frames.amin(dim=2) - 1e-6).all()
    assert (clip <= frames.amax(dim=2) + 1e-6).all()
    assert (frames.amax(dim=2) - frames.amin(dim=2)).mean() > 0.5  # so there is something to lie between


def test_it_is_the_sum_of_weights_times_probabilities():
    one = head()
    frames = features().mean(dim=2).transpose(1, 2)
    expected = (one.attend(frames).softmax(dim=1) * one.classify(frames).sigmoid()).sum(dim=1)
    torch.testing.assert_close(one(features()).sigmoid(), expected)


def test_attention_decides_which_frame_counts():
    one = head()
    images = torch.zeros(1, 8, 1, 10)
    images[0, 0, 0, 3], images[0, 1, 0, 7] = 1.0, 1.0  # two frames of a mark each
    for layer in (one.classify, one.attend):
        layer.weight.data.zero_()
    one.classify.weight.data[:, 0], one.classify.weight.data[:, 1] = 4.0, -4.0
    for mark, sign in ((0, 1), (1, -1)):
        one.attend.weight.data.zero_()
        one.attend.weight.data[:, mark] = 50.0
        assert (sign * one(images) > 3).all()
    frames = one.frame_scores(images)[0]
    assert frames.argmax(dim=1).tolist() == [3, 3, 3]
    assert frames.argmin(dim=1).tolist() == [7, 7, 7]


@pytest.mark.parametrize("scale", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_logits_and_slopes_are_finite_where_probabilities_round_to_0_and_1(scale, kind):
    one = head(scale).to(kind)
    images = features().to(kind).requires_grad_()
    logits = one(images)
    logits.sum().backward()
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    assert images.grad.isfinite().all()
