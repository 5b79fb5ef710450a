"""Which epoch is the best? [callbacks] model_checkpoint_type -> a metric and how it is compared."""

import math
from dataclasses import dataclass

from factory.lookup import lookup
from utils.settings import Callbacks

METRICS = {"val_loss": "lower", "val_macro_auc": "higher", "val_top1": "higher", "val_cmap": "higher"}  # is better


@dataclass(frozen=True)
class Metric:
    """A column of metrics.csv by which epochs are compared."""

    name: str
    higher_is_better: bool

    def better(self, new: float | None, best: float | None) -> bool:
        """Whether ``new`` is better than ``best``. A missing or NaN score is worse than any number."""
        if new is None or math.isnan(new):
            return False
        if best is None or math.isnan(best):
            return True
        return new > best if self.higher_is_better else new < best


def build_metric(callbacks: Callbacks) -> Metric:
    """Build the metric that ``callbacks.model_checkpoint_type`` names.

    Raises:
        ConfigError: no metric has that name; the message lists those that do.
    """
    better = lookup("callbacks", "model_checkpoint_type", callbacks.model_checkpoint_type, METRICS)
    return Metric(callbacks.model_checkpoint_type, better == "higher")
