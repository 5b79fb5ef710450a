"""Which loss? [agent] loss -> a module of (logits, targets)."""

from torch import nn

from factory.lookup import lookup
from models.losses import BinaryCrossEntropy, Focal, SoftCrossEntropy
from utils.settings import Agent


def cross_entropy(agent: Agent) -> nn.Module:
    return SoftCrossEntropy()


def bce(agent: Agent) -> nn.Module:
    return BinaryCrossEntropy()


def focal(agent: Agent) -> nn.Module:
    return Focal(agent.focal_alpha, agent.focal_gamma)


LOSSES = {"cross_entropy": cross_entropy, "bce": bce, "focal": focal}


def build_loss(agent: Agent) -> nn.Module:
    """Build the loss that ``agent.loss`` names: ``(logits, targets)``, both (batch, n_classes) -> scalar.

    Raises:
        ConfigError: no loss has that name; the message lists those that do.
    """
    return lookup("agent", "loss", agent.loss, LOSSES)(agent)
