"""An image network with what it may lack: an input channel for the frequency, and another head."""

import torch
from torch import Tensor, nn


class ImageClassifier(nn.Module):
    """Logits ``(batch, n_classes)`` of images ``(batch, 1, n_mels, frames)``.

    Args:
        backbone: images -> the input of ``head``, a map ``(batch, channels, bands, frames)``; without a head, logits.
        head: the map -> logits; None: the backbone has its own.
        frequency_channel: the backbone has a second input channel, see ``with_frequency``.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module | None = None, *, frequency_channel: bool = False):
        super().__init__()
        self.backbone, self.head, self.frequency_channel = backbone, head, frequency_channel

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        return features if self.head is None else self.head(features)

    def features(self, images: Tensor) -> Tensor:
        """The output of the backbone for ``images``."""
        return self.backbone(with_frequency(images) if self.frequency_channel else images)

    def frame_scores(self, images: Tensor) -> Tensor:
        """Probabilities ``(batch, n_classes, frames')``: one frame for each stride of the backbone, mostly 32 frames.

        Only for an ``AttentionHead``, because other heads do not score single frames.
        """
        return self.head.frame_scores(self.features(images))


def with_frequency(images: Tensor) -> Tensor:
    """``(batch, 1, n_mels, frames)`` -> ``(batch, 2, n_mels, frames)``: the second channel is the height, -1 to 1.

    A convolution treats a pattern alike at every height, but a bird does not sing an octave higher.
    """
    height = torch.linspace(-1, 1, images.shape[2], dtype=images.dtype, device=images.device)
    return torch.cat([images, height[:, None].expand_as(images)], dim=1)
