"""Does a head pool the windows that there are, and those alone?"""

import pytest
import torch

from models.embedding import EmbeddingClassifier


def head(**options):
    torch.manual_seed(0)
    model = EmbeddingClassifier(5, 3, **options).eval()
    torch.nn.init.normal_(model.head.weight)
    if model.attention is not None:
        torch.nn.init.normal_(model.attention.score.weight)
    return model


def example(embeddings, weights=None):
    weights = torch.ones(len(embeddings)) if weights is None else torch.tensor(weights)
    return torch.cat([weights[:, None], embeddings], dim=1)[None]


KINDS = [{}, {"hidden": 7}, {"attention": True}, {"hidden": 7, "attention": True}]


@pytest.mark.parametrize("options", KINDS)
@torch.no_grad()
def test_padding_changes_nothing(options):
    model, windows = head(**options), torch.randn(4, 5)
    padded = example(torch.cat([windows, 100 * torch.ones(2, 5)]), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    torch.testing.assert_close(model(padded), model(example(windows)))


@pytest.mark.parametrize("options", KINDS)
@torch.no_grad()
def test_a_weight_of_two_is_the_window_twice_and_only_shares_count(options):
    model, windows = head(**options), torch.randn(2, 5)
    twice = example(windows[[0, 0, 1]])
    torch.testing.assert_close(model(example(windows, [2.0, 1.0])), model(twice))
    torch.testing.assert_close(model(example(windows, [0.2, 0.1])), model(twice))


@torch.no_grad()
def test_the_mean_is_judged_and_attention_begins_as_the_mean():
    model, windows = head(), torch.randn(4, 5)
    torch.testing.assert_close(model(example(windows)), model(example(windows.mean(0, keepdim=True))))
    torch.manual_seed(0)
    fresh = EmbeddingClassifier(5, 3, attention=True).eval()
    torch.nn.init.normal_(fresh.head.weight)
    torch.testing.assert_close(fresh(example(windows)), fresh(example(windows.mean(0, keepdim=True))))
    assert not torch.allclose(head(attention=True)(example(windows)), fresh(example(windows)))


@torch.no_grad()
def test_a_new_head_gives_every_class_the_same_probability():
    probability = EmbeddingClassifier(5, 4).eval()(example(torch.randn(2, 5))).sigmoid()
    torch.testing.assert_close(probability, torch.full((1, 4), 0.25))
