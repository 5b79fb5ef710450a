"""Which learning rate, when? [agent] lr_decay_type -> a schedule.

All but plateau are a law: a function of how many steps (or epochs) are done, counted from 0, which
torch's LambdaLR puts to work. A law does not remember anything, so it resumes exactly, and it may be
asked beyond its end.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from factory.lookup import lookup
from utils.config import Agent
from utils.errors import ConfigError, Problem

Law = Callable[[int], float]  # steps or epochs done -> rate
REMEMBERED = ("last_epoch", "best", "num_bad_epochs")  # what torch's schedulers know beside their settings


class Schedule:
    """The learning rate over a training; call it after each step and each epoch.

    Attributes:
        name: of the choice that built it.
        every: "step", "epoch" or "val_loss"; what moves it.
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
        """Call after each epoch; without a ``val_loss`` plateau leaves the rate as it is."""
        if self.every == "epoch":
            with warnings.catch_warnings():
                # torch warns if the optimizer has made no step before; resumed in a validation, the steps were made.
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
                self._scheduler.step()
        elif self.every == "val_loss" and val_loss is not None:
            self._scheduler.step(float(val_loss))

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands, in plain values, without a setting: a run made longer follows its new n_epochs."""
        known = self._scheduler.state_dict()
        return {
            "name": self.name,
            "rate": self.rate,
            "position": {key: known[key] for key in REMEMBERED if key in known},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from where ``state`` was taken; the optimizer gets its rate as well.

        Raises:
            ConfigError: the state is that of another kind of schedule.
        """
        if state["name"] != self.name:
            mend = f"this run began with {state['name']!r}; resume it with that, or start a new run"
            raise ConfigError(Problem(mend, "agent", "lr_decay_type", self.name))
        self._scheduler.load_state_dict(self._scheduler.state_dict() | state["position"])
        for group in self._optimizer.param_groups:
            group["lr"] = state["rate"] * _factor(group)


def _factor(group: dict[str, Any]) -> float:
    """What a group of parameters multiplies the rate with; see ``factory.optimizer.build_optimizer``."""
    return group.get("lr_factor", 1.0)


def warmup_cosine(agent: Agent, n_steps: int, steps_per_epoch: int) -> Law:
    """A line from lr_start to lr_warmup_end over lr_warmup_epochs, then a cosine to lr_end at the last step."""
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

    The rates of torch's OneCycleLR (Smith and Topin 2018), which itself raises when stepped beyond its
    end and cannot start at 0.
    """
    peak = 0.3 * n_steps - 1  # as torch counts it: a step, in parts

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
    """From ``first`` at 0 to ``last`` at ``length``, and ``last`` beyond; ``first`` alone if there is no length."""
    if length <= 0:
        return first
    share = min(done / length, 1.0)
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


def _plateau(optimizer: Optimizer, agent: Agent) -> LRScheduler:
    return ReduceLROnPlateau(optimizer, factor=agent.plateau_factor, patience=agent.plateau_patience)


# name -> (what moves it, its law); plateau follows the validation loss, and so has none
SCHEDULES: dict[str, tuple[str, Callable[[Agent, int, int], Law] | None]] = {
    "warmup_cosine": ("step", warmup_cosine),
    "cosine": ("step", cosine),
    "one_cycle": ("step", one_cycle),
    "exponential": ("epoch", exponential),
    "plateau": ("val_loss", None),
}


def build_schedule(optimizer: Optimizer, agent: Agent, *, n_epochs: int, steps_per_epoch: int) -> Schedule:
    """Build the schedule that ``agent.lr_decay_type`` names and set the optimizer's first rate.

    ``agent.lr_decay`` false: a constant rate.

    Args:
        optimizer: all its groups get one rate, those of a backbone times their ``lr_factor``.
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
        group["initial_lr"] = _factor(group)  # LambdaLR sets initial_lr times what the law says
    return Schedule(name, every, optimizer, LambdaLR(optimizer, law))
