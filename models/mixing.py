"""How are two examples of a batch mixed, and what are the targets? Pure functions of random numbers drawn elsewhere.

``partner`` ``(batch,)`` int64 is the index of the example that each one is mixed with. If the partner's share (width,
weight) is 0, the example does not change, not even its last bit. Nothing is changed in place.
"""

import torch
from torch import Tensor


def mixup(images: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """``(1 - share) * image + share * partner`` (mixup, Zhang et al. 2018; ``share`` is its 1 - lambda).

    Args:
        images: ``(batch, n_mels, frames)``.
        share: ``(batch,)``, of the partner, from 0 to 1.
    """
    share = share[:, None, None]
    return (1 - share) * images + share * images[partner]


def cutmix(images: Tensor, partner: Tensor, first: Tensor, width: Tensor) -> Tensor:
    """Replace a stretch of time by that of the partner (CutMix, Yun et al. 2019, along time only).

    Args:
        images: ``(batch, n_mels, frames)``.
        first, width: ``(batch,)`` int64, frames: the stretch, at the same time in both.
    """
    frame = torch.arange(images.shape[-1], device=images.device)
    inside = (frame >= first[:, None]) & (frame < (first + width)[:, None])
    return torch.where(inside[:, None, :], images[partner], images)


def add_partner(power: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """``power + weight * partner``: two birds at once, because the powers of independent sounds add up.

    Args:
        power: ``(batch, n_mels, frames)``, at least 0.
        weight: ``(batch,)``, the factor of the partner's power: ``10 ** (gain in dB / 10)``.
    """
    return power + weight[:, None, None] * power[partner]


def mix_targets(
    targets: Tensor, partner: Tensor, share: Tensor, labels: str, nocall_index: int | None = None
) -> Tensor:
    """The targets of mixed examples. No class gets a target that neither of the two had.

    A class that is present in one of them is present in the mixture; else it is unknown if it is unknown in at least
    one. The class of recordings without a bird has the lower target of both.

    Args:
        targets: ``(batch, classes)``, from 0 to 1; below 0: unknown.
        share: ``(batch,)``, of the partner: with 0 the targets do not change, with 1 they are the partner's.
        labels: ``max`` (both count in full, however faint) or ``linear`` (weighted by share).
        nocall_index: the class of recordings in which no bird calls; None: there is none.
    """
    share = share[:, None]
    first = torch.where(share < 1, targets, targets[partner])
    second = torch.where(share > 0, targets[partner], targets)
    if labels == "max":
        mixed = torch.maximum(first, second).clamp(min=0)
    else:
        mixed = (1 - share) * first.clamp(min=0) + share * second.clamp(min=0)
    if nocall_index is not None:
        mixed[:, nocall_index] = torch.minimum(first, second)[:, nocall_index].clamp(min=0)
    unknown = (first < 0) | (second < 0)
    return mixed.masked_fill(unknown & (mixed <= 0), -1.0)


def as_shares(targets: Tensor) -> Tensor:
    """Each example's targets divided by their sum, so that all examples have the same weight.

    Args:
        targets: ``(batch, classes)``, from 0 to 1; below 0: unknown, which does not change.
    """
    total = targets.clamp(min=0).sum(dim=1, keepdim=True)
    return torch.where(targets > 0, targets / total, targets)


def smooth_targets(targets: Tensor, share: float) -> Tensor:
    """Spread a share of each example's targets evenly over all classes (label smoothing, Szegedy et al. 2016).

    An example without any species has nothing to spread. Unknown targets do not change.

    Args:
        targets: ``(batch, classes)``, from 0 to 1; below 0: unknown.
    """
    spread = targets.clamp(min=0).mean(dim=1, keepdim=True)
    return torch.where(targets < 0, targets, (1 - share) * targets + share * spread)
