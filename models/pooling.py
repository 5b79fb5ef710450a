"""How does a map of features become one vector? By its generalised mean."""

import torch
from torch import Tensor, nn

_LEAST = 1e-6  # a power of 0 has no slope


class GeneralizedMean(nn.Module):
    """The generalised mean over bands and frames: ``(batch, channels, bands, frames)`` -> ``(batch, channels)``.

    Radenović et al. 2018, "Fine-tuning CNN image retrieval with no human annotation", eq. 3:
    ``(mean of x^p)^(1/p)``. A call fills little of a window; with p = 1 (the mean) it drowns, with p
    towards infinity (the largest value) one click is enough. p is learned, one for all channels, and
    never taken below 1. Features below 0 count as 0: they say that something is not there.
    """

    def __init__(self, p: float = 3.0):
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p]))

    def forward(self, features: Tensor) -> Tensor:
        # In float32 and relative to the largest of each channel: a power would leave the range of fp16, and blunt bf16.
        with torch.autocast(features.device.type, enabled=False):
            positive = features.float().clamp(min=_LEAST)
            largest = positive.amax(dim=(2, 3), keepdim=True).detach()
            p = self.p.clamp(min=1.0)
            mean = (positive / largest).pow(p).mean(dim=(2, 3))
            return mean.pow(1 / p) * largest[:, :, 0, 0]
