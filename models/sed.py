"""When does a bird sing? A head that scores every frame and weights the frames by attention (sound event detection)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AttentionHead(nn.Module):
    """The probability of each class in a clip: a weighted mean of its probabilities in the frames.

    Kong et al. 2020, "PANNs", section III-C, and its ``AttBlock``: the features' mean over the bands gives each
    frame a logit ``c_t`` and a weight ``a_t`` of every class, the weights being a softmax over the frames; the clip's
    probability is the sum of ``a_t sigmoid(c_t)``, so it is between the smallest and the largest of the frames.
    The paper's additional layer and its smoothing over neighbouring frames are left out, because a short training
    cannot make use of them.

    Args:
        channels: of the features.
        drop_rate: share of the features dropped in training.
    """

    def __init__(self, channels: int, n_classes: int, drop_rate: float = 0.0):
        super().__init__()
        self.dropout = nn.Dropout(drop_rate)
        self.classify = nn.Linear(channels, n_classes)
        self.attend = nn.Linear(channels, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        """``(batch, channels, bands, frames)`` -> logits of the clip's probabilities ``(batch, n_classes)``.

        The logit is log p - log(1 - p), with both sums computed by logarithms. So it is finite in float32 if the logits
        of the frames are, even if p itself would be rounded to 0 or 1.
        """
        frames = self.dropout(features.mean(dim=2).transpose(1, 2))  # (batch, frames, channels)
        logits = self.classify(frames).float()
        log_weights = F.log_softmax(self.attend(frames).float(), dim=1)
        present = torch.logsumexp(log_weights + F.logsigmoid(logits), dim=1)
        absent = torch.logsumexp(log_weights + F.logsigmoid(-logits), dim=1)
        return present - absent

    def frame_scores(self, features: Tensor) -> Tensor:
        """``(batch, channels, bands, frames)`` -> probabilities ``(batch, n_classes, frames)``."""
        return self.classify(features.mean(dim=2).transpose(1, 2)).float().sigmoid().transpose(1, 2)
