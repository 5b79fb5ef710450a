"""Which optimizer? [agent] optimizer -> one of torch's, with weight decay for weights only."""

from collections.abc import Iterable
from typing import Any

from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer, RAdam

from factory.lookup import lookup
from utils.settings import Agent

ParameterGroups = list[dict[str, Any]]


def adam(groups: ParameterGroups, rate: float) -> Optimizer:
    return Adam(groups, lr=rate, fused=True)


def adamw(groups: ParameterGroups, rate: float) -> Optimizer:
    return AdamW(groups, lr=rate, fused=True)


def sgd(groups: ParameterGroups, rate: float) -> Optimizer:
    return SGD(groups, lr=rate, momentum=0.9, nesterov=True, fused=True)


def radam(groups: ParameterGroups, rate: float) -> Optimizer:
    return RAdam(groups, lr=rate, decoupled_weight_decay=True)  # as AdamW; torch has no fused version


OPTIMIZERS = {"adam": adam, "adamw": adamw, "sgd": sgd, "radam": radam}


def build_optimizer(parameters: Iterable[Parameter], agent: Agent, head: Iterable[Parameter] = ()) -> Optimizer:
    """Build the optimizer that ``agent.optimizer`` names.

    Its rate is ``agent.lr_warmup_end`` until a schedule sets another. Where torch has one, a single kernel updates all
    tensors. On a CPU too this saves a twentieth of a step or more, because a network has many small tensors.

    Args:
        parameters: frozen ones are left out.
        agent: ``weight_decay`` is for tensors of more than one dimension, and not for biases and the scales of norms,
            which it would only shift and shrink.
        head: those of ``parameters`` with the full rate; all others have this rate times ``agent.backbone_lr_factor``,
            which their groups keep as ``lr_factor`` for the schedule. The first group has the full rate.

    Raises:
        ConfigError: no optimizer has that name; the message lists those that do.
    """
    build = lookup("agent", "optimizer", agent.optimizer, OPTIMIZERS)
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if agent.backbone_lr_factor == 1.0:
        return build(_groups(trained, agent), agent.lr_warmup_end)
    of_head = {id(parameter) for parameter in head}
    groups = _groups([weight for weight in trained if id(weight) in of_head], agent)
    for group in _groups([weight for weight in trained if id(weight) not in of_head], agent):
        factor = agent.backbone_lr_factor
        groups.append(group | {"lr": agent.lr_warmup_end * factor, "lr_factor": factor})
    return build(groups, agent.lr_warmup_end)


def _groups(parameters: list[Parameter], agent: Agent) -> ParameterGroups:
    """The weights with weight decay, and the biases and scales without."""
    weights = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    decays = ((weights, agent.weight_decay), (others, 0.0))
    return [{"params": params, "weight_decay": decay} for params, decay in decays if params]
