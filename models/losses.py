"""What is minimised? Losses of (batch, n_classes) logits against multi-hot or soft targets.

All take ``logits`` of any float type and ``targets`` in [0, 1], both ``(batch, n_classes)``, and return a float32
scalar. They compute in float32, so that bf16 autocast costs no accuracy here. A target below 0 means unknown:
it is left out of the loss and has no gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BinaryCrossEntropy(nn.Module):
    """Each class is independent: present or absent. Mean over batch and classes."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        losses = F.binary_cross_entropy_with_logits(logits.float(), targets.float().clamp(min=0), reduction="none")
        return mean_of_known(losses, targets)


class SoftCrossEntropy(nn.Module):
    """Cross-entropy against each row's targets divided by their sum. Mean over rows.

    A row without any target does not show a class: it adds nothing and does not count. A batch with only such rows has
    loss 0 and gradient 0. The softmax is taken over the known classes.
    """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        known, targets = targets >= 0, targets.float().clamp(min=0)
        total = targets.sum(dim=1, keepdim=True)
        shares = targets / torch.where(total > 0, total, 1.0)
        logits = torch.where(known, logits.float(), torch.finfo(torch.float32).min)
        rows = -(shares * F.log_softmax(logits, dim=1)).sum(dim=1)
        return rows.sum() / (total > 0).sum().clamp(min=1)


class Focal(nn.Module):
    """Binary cross-entropy with less weight on what is classified well. Mean over batch and classes.

    Lin et al. 2017, "Focal loss for dense object detection", eq. 5: ``-alpha_t (1 - p_t)^gamma log p_t``
    where ``p_t`` is the probability of the true answer.

    Args:
        alpha: weight of the positives; the negatives have ``1 - alpha``; below 0: no weights.
        gamma: how strongly the weight falls; 0 is plain binary cross-entropy.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0):
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        original, targets = targets, targets.float().clamp(0, 1)  # mixing may round to above 1
        logits = logits.float()
        cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        # 1 - p_t = p (1 - t) + (1 - p) t, computed by its logarithm: for large logits the difference would be rounded
        # to 0, where a power below 1 has an infinite slope.
        log_miss = torch.logaddexp(
            F.logsigmoid(logits) + torch.log1p(-targets), F.logsigmoid(-logits) + torch.log(targets)
        )
        loss = torch.exp(self.gamma * log_miss) * cross_entropy
        if self.alpha >= 0:
            loss = loss * (self.alpha * targets + (1 - self.alpha) * (1 - targets))
        return mean_of_known(loss, original)


def mean_of_known(losses: Tensor, targets: Tensor) -> Tensor:
    """The mean of ``losses`` where ``targets`` are not below 0; 0 if they all are."""
    known = targets >= 0
    return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)
