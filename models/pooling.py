"""How does a map of features become one vector? By its generalised mean."""

import torch
from torch import Tensor, nn

_LEAST = 1e-6  # a power of 0 has no slope


class GeneralizedMean(nn.Module):
    """The generalised mean over bands and frames: ``(batch, channels, bands, frames)`` -> ``(batch, channels)``.

    Radenović et al. 2018, "Fine-tuning CNN image retrieval with no human annotation", eq. 3:
    ``(mean of x^p)^(1/p)``. A call fills little of a window. With p = 1 (the mean) it would vanish; with p towards
    infinity (the largest value) a single click would be enough. p is learned, one for all channels, and is at least 1.
    Features below 0 count as 0, because they mean that something is absent.
    """

    def __init__(self, p: float = 3.0):
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p]))

    def forward(self, features: Tensor) -> Tensor:
        # In float32 and relative to the maximum of each channel, because a power would exceed fp16 and be coarse in
        # bf16.
        with torch.autocast(features.device.type, enabled=False):
            positive = features.float().clamp(min=_LEAST)
            largest = positive.amax(dim=(2, 3), keepdim=True).detach()
            p = self.p.clamp(min=1.0)
            mean = (positive / largest).pow(p).mean(dim=(2, 3))
            return mean.pow(1 / p) * largest[:, :, 0, 0]
