"""Which weights of a pretrained network stay as they are in the first epochs? All but its head's."""

from torch import nn


class Backbone:
    """All of a network but its head, which can be frozen: no gradient, and no new statistics of its BatchNorms.

    A head that begins at random sends large, meaningless gradients through what is pretrained; frozen, the backbone
    waits until the head has found its way.

    Args:
        network: whose backbone it is.
        head: the module of ``network`` that always learns.
    """

    def __init__(self, network: nn.Module, head: nn.Module):
        of_head = {id(parameter) for parameter in head.parameters()}
        # Weights that never learn, such as the convolutions of Wav2Vec2, are not among them: they stay frozen.
        self._weights = [one for one in network.parameters() if one.requires_grad and id(one) not in of_head]
        in_head = set(head.modules())
        self._norms = [
            module
            for module in network.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module not in in_head
        ]

    def freeze(self, frozen: bool) -> bool:
        """Freeze the backbone, or let it learn; call it after ``network.train()``. Return whether that is new."""
        changed = bool(self._weights) and self._weights[0].requires_grad == frozen
        for weight in self._weights:
            weight.requires_grad_(not frozen)
            if frozen:
                weight.grad = None
        if frozen:
            for norm in self._norms:
                norm.eval()
        return changed
