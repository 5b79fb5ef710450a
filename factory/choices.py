"""Are all choices in the config known? Asked before anything else is done."""

from collections.abc import Callable

from factory.frontend import frontend_of
from factory.lookup import lookup
from factory.loss import LOSSES
from factory.metric import METRICS
from factory.model import check_model
from factory.optimizer import OPTIMIZERS
from factory.scheduler import SCHEDULES
from utils.config import Config
from utils.errors import ConfigError, Problem


def check_choices(config: Config) -> list[Problem]:
    """All choices that no factory knows, as ``utils.config.load_config`` wants to be told of them."""
    agent, callbacks, data = config.agent, config.callbacks, config.data
    checks: list[Callable[[], object]] = [
        lambda: lookup("callbacks", "model_checkpoint_type", callbacks.model_checkpoint_type, METRICS),
        lambda: lookup("agent", "loss", agent.loss, LOSSES),
        lambda: lookup("agent", "optimizer", agent.optimizer, OPTIMIZERS),
        lambda: lookup("agent", "lr_decay_type", agent.lr_decay_type, SCHEDULES),
        lambda: check_model(config.model),
    ]
    problems = []
    for check in checks:
        try:
            check()
        except ConfigError as error:
            problems += error.problems
    no_validation = data.train_ratio == 1.0 or data.test_val_ratio == 1.0
    if agent.lr_decay and agent.lr_decay_type == "plateau" and no_validation:
        text = "follows the validation loss, and train_ratio or test_val_ratio = 1.0 leaves no validation set"
        problems.append(Problem(text, "agent", "lr_decay_type", agent.lr_decay_type))
    if config.trainer.cache_on_device == "yes" and not frontend_of(config.model.type).from_cache:
        text = f"keeps spectrograms, and {config.model.type} reads recordings; set it to auto or no"
        problems.append(Problem(text, "trainer", "cache_on_device", "yes"))
    return problems
