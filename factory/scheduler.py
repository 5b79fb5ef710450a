"""Which learning rate, when? [agent] lr_decay_type -> a schedule.

All but plateau are a law: a function of the number of finished steps (or epochs), which torch's LambdaLR applies.
A law has no state, so it resumes exactly, and it can be evaluated beyond its end.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from factory.lookup import lookup
from utils.errors import ConfigError, Problem
from utils.settings import Agent

Law = Callable[[int], float]  # steps or epochs done -> rate
REMEMBERED = ("last_epoch", "best", "num_bad_epochs")  # the state of torch's schedulers, beside their settings


class Schedule:
    """The learning rate during training; it is called after each step and each epoch.

    Attributes:
        name: the value of lr_decay_type.
        every: "step", "epoch" or "val_loss": what changes the rate.
    """

    def __init__(self, name: str, every: str, optimizer: Optimizer, scheduler: LRScheduler):
        self.name = name
        self.every = every
        self._optimizer = optimizer
        self._scheduler = scheduler

    @property
    def rate(self) -> float:
        """The rate of the next step."""
        return self._optimizer.param_groups[0]["lr"]

    def after_step(self) -> None:
        """Call after each step of the optimizer."""
        if self.every == "step":
            self._scheduler.step()

    def after_epoch(self, val_loss: float | None) -> None:
        """Call after each epoch; without a ``val_loss`` plateau does not change the rate."""
        if self.every == "epoch":
            with warnings.catch_warnings():
                # torch warns if the optimizer has made no step before; resumed in a validation, the steps were made.
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
                self._scheduler.step()
        elif self.every == "val_loss" and val_loss is not None:
            self._scheduler.step(float(val_loss))

    def state_dict(self) -> dict[str, Any]:
        """The state as plain values, without settings, so that a run that is made longer follows its new n_epochs."""
        known = self._scheduler.state_dict()
        return {
            "name": self.name,
            "rate": self.rate,
            "position": {key: known[key] for key in REMEMBERED if key in known},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``; the optimizer's rate is set too.

        Raises:
            ConfigError: the state is that of another kind of schedule.
        """
        if state["name"] != self.name:
            remedy = f"this run began with {state['name']!r}; resume it with that, or start a new run"
            raise ConfigError(Problem(remedy, "agent", "lr_decay_type", self.name))
        self._scheduler.load_state_dict(self._scheduler.state_dict() | state["position"])
        for group in self._optimizer.param_groups:
            group["lr"] = state["rate"] * _factor(group)


def _factor(group: dict[str, Any]) -> float:
    """The factor of the rate for a group of parameters; see ``factory.optimizer.build_optimizer``."""
    return group.get("lr_factor", 1.0)


def warmup_cosine(agent: Agent, n_steps: int, steps_per_epoch: int) -> Law:
    """Linear from lr_start to lr_warmup_end over lr_warmup_epochs, then a cosine to lr_end at the last step."""
    steps = max(1, round(agent.lr_warmup_epochs * steps_per_epoch)) if agent.lr_warmup_epochs else 0
    peak = min(steps, n_steps - 1)  # the step that has the highest rate

    def law(step: int) -> float:
        if step < peak:
            return agent.lr_start + (agent.lr_warmup_end - agent.lr_start) * step / peak
        return _half_cosine(agent.lr_warmup_end, agent.lr_end, step - peak, n_steps - 1 - peak)

    return law


def cosine(agent: Agent, n_steps: int, steps_per_epoch: int) -> Law:
    """A cosine from lr_warmup_end at the first step to lr_end at the last."""
    return lambda step: _half_cosine(agent.lr_warmup_end, agent.lr_end, step, n_steps - 1)


def one_cycle(agent: Agent, n_steps: int, steps_per_epoch: int) -> Law:
    """Half a cosine from lr_start up to lr_warmup_end in the first 30 %, and one down to lr_end at the last step.

    The rates are those of torch's OneCycleLR (Smith and Topin 2018), which cannot be stepped beyond its end and cannot
    start at 0.
    """
    peak = 0.3 * n_steps - 1  # as in torch: a step, which may be fractional

    def law(step: int) -> float:
        if step <= peak:
            return _half_cosine(agent.lr_start, agent.lr_warmup_end, step, peak)
        return _half_cosine(agent.lr_warmup_end, agent.lr_end, step - peak, n_steps - 1 - peak)

    return law


def exponential(agent: Agent, n_steps: int, steps_per_epoch: int) -> Law:
    """lr_warmup_end, times exp_gamma after each epoch."""
    return lambda epoch: agent.lr_warmup_end * agent.exp_gamma**epoch


def constant(agent: Agent, n_steps: int, steps_per_epoch: int) -> Law:
    """lr_warmup_end throughout."""
    return lambda epoch: agent.lr_warmup_end


def _half_cosine(first: float, last: float, done: float, length: float) -> float:
    """From ``first`` at 0 to ``last`` at ``length``, and ``last`` beyond; only ``first`` if the length is 0."""
    if length <= 0:
        return first
    share = min(done / length, 1.0)
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


def _plateau(optimizer: Optimizer, agent: Agent) -> LRScheduler:
    return ReduceLROnPlateau(optimizer, factor=agent.plateau_factor, patience=agent.plateau_patience)


# name -> (what changes the rate, its law); plateau follows the validation loss and has no law
SCHEDULES: dict[str, tuple[str, Callable[[Agent, int, int], Law] | None]] = {
    "warmup_cosine": ("step", warmup_cosine),
    "cosine": ("step", cosine),
    "one_cycle": ("step", one_cycle),
    "exponential": ("epoch", exponential),
    "plateau": ("val_loss", None),
}


def build_schedule(optimizer: Optimizer, agent: Agent, *, n_epochs: int, steps_per_epoch: int) -> Schedule:
    """Build the schedule that ``agent.lr_decay_type`` names and set the optimizer's first rate.

    If ``agent.lr_decay`` is false, the rate is constant.

    Args:
        optimizer: all its groups get the same rate, those of a backbone times their ``lr_factor``.
        n_epochs, steps_per_epoch: at least 1 each; steps are those of the optimizer.

    Raises:
        ConfigError: no schedule has that name; the message lists those that do.
    """
    name = agent.lr_decay_type
    every, build_law = lookup("agent", "lr_decay_type", name, SCHEDULES)
    if not agent.lr_decay:
        name, every, build_law = "constant", "epoch", constant
    for group in optimizer.param_groups:
        group["lr"] = agent.lr_warmup_end * _factor(group)
    if build_law is None:
        return Schedule(name, every, optimizer, _plateau(optimizer, agent))
    law = build_law(agent, n_epochs * steps_per_epoch, steps_per_epoch)
    for group in optimizer.param_groups:
        group["initial_lr"] = _factor(group)  # LambdaLR sets initial_lr times the value of the law
    return Schedule(name, every, optimizer, LambdaLR(optimizer, law))
