"""Does the second channel say how high each band is?"""

import torch
from torch import nn

from models.classifier import ImageClassifier, with_frequency


def test_the_second_channel_rises_from_the_lowest_band_to_the_highest():
    images = torch.randn(2, 1, 5, 7)
    both = with_frequency(images)
    assert torch.equal(both[:, :1], images)
    assert both[1, 1, :, 3].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert (both[:, 1] == both[:1, 1, :, :1]).all()


def test_a_network_with_it_distinguishes_high_from_low():
    torch.manual_seed(1)
    layers = [nn.Conv2d(channels, 4, 1) for channels in (1, 2)]
    low, high = torch.zeros(2, 1, 1, 8, 4)
    low[:, :, 1], high[:, :, 6] = 1, 1
    for layer, told_apart in zip(layers, (False, True), strict=True):
        pooled = nn.Sequential(layer, nn.ReLU(), nn.AdaptiveMaxPool2d(1))
        model = ImageClassifier(pooled, nn.Flatten(), frequency_channel=layer.in_channels == 2)
        assert torch.equal(model(low), model(high)) != told_apart
