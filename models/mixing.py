"""How do two examples of a batch become one, and what is asked of them? Pure functions of what was drawn.

``partner`` ``(batch,)`` int64 names whom each example is mixed with. An example whose share (width,
weight) of the partner is 0 comes back as it was, to the bit. Nothing is changed in place.
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
    """Put the partner's stretch of time in place of the example's own (CutMix, Yun et al. 2019, along time only).

    Args:
        images: ``(batch, n_mels, frames)``.
        first, width: ``(batch,)`` int64, frames: the stretch, at the same place in both.
    """
    place = torch.arange(images.shape[-1], device=images.device)
    inside = (place >= first[:, None]) & (place < (first + width)[:, None])
    return torch.where(inside[:, None, :], images[partner], images)


def add_partner(power: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """``power + weight * partner``: two birds that sing at once, as sounds without a common phase add up.

    Args:
        power: ``(batch, n_mels, frames)``, at least 0.
        weight: ``(batch,)``, what the partner's power is multiplied by: ``10 ** (gain in dB / 10)``.
    """
    return power + weight[:, None, None] * power[partner]


def mix_targets(
    targets: Tensor, partner: Tensor, share: Tensor, labels: str, nocall_index: int | None = None
) -> Tensor:
    """The targets of mixed examples. No class gets a target that neither of the two had.

    A class that is known to be in one of them is in the mixture; else it is unknown if it is unknown in at
    least one of them. The class of recordings without a bird is in the mixture as far as it is in both.

    Args:
        targets: ``(batch, classes)``, from 0 to 1; below 0: not known.
        share: ``(batch,)``, of the partner: at 0 the targets stay, at 1 they are the partner's.
        labels: ``max`` (what sounds is there, however faint) or ``linear`` (weighted by share).
        nocall_index: the class that says that no bird calls; None: there is none.
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
    """Each example's targets divided by their sum, so that one of many labels weighs as much as one of few.

    Args:
        targets: ``(batch, classes)``, from 0 to 1; below 0: not known, and stays so.
    """
    total = targets.clamp(min=0).sum(dim=1, keepdim=True)
    return torch.where(targets > 0, targets / total, targets)


def smooth_targets(targets: Tensor, share: float) -> Tensor:
    """Take a share of each example's targets and spread as much over all classes (Szegedy et al. 2016).

    An example of nothing has none to spread. What is not known stays so.

    Args:
        targets: ``(batch, classes)``, from 0 to 1; below 0: not known.
    """
    spread = targets.clamp(min=0).mean(dim=1, keepdim=True)
    return torch.where(targets < 0, targets, (1 - share) * targets + share * spread)
