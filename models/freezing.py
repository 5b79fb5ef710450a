"""Which weights of a pretrained network do not change in the first epochs? All but those of its head."""

from torch import nn


class Backbone:
    """All of a network but its head, which can be frozen: no gradient, and no new statistics of its BatchNorms.

    A head with random weights sends large, meaningless gradients through the pretrained layers. So the backbone is
    frozen until the head has learned something.

    Args:
        network: the complete network.
        head: the module of ``network`` that is always trained.
    """

    def __init__(self, network: nn.Module, head: nn.Module):
        of_head = {id(parameter) for parameter in head.parameters()}
        # Weights that are never trained, such as the convolutions of Wav2Vec2, are not among these and stay frozen.
        trained = (weight for weight in network.parameters() if weight.requires_grad)
        self._weights = [weight for weight in trained if id(weight) not in of_head]
        in_head = set(head.modules())
        self._norms = [
            module
            for module in network.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module not in in_head
        ]

    def freeze(self, frozen: bool) -> bool:
        """Freeze the backbone, or unfreeze it; call this after ``network.train()``. Return whether this is a change."""
        changed = bool(self._weights) and self._weights[0].requires_grad == frozen
        for weight in self._weights:
            weight.requires_grad_(not frozen)
            if frozen:
                weight.grad = None
        if frozen:
            for norm in self._norms:
                norm.eval()
        return changed
