"""Averages of a model's weights, which often score better than the last ones.

Two kinds, by torch's own ``AveragedModel``: an exponential moving average over steps, or the mean over
the last epochs. The running statistics of BatchNorm are averaged together with the weights.
"""

from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Average:
    """The weights that are scored and predicted with: the model's own, or an average of them.

    Args:
        ema: the decay in each step; 0: no moving average.
        last: use the mean over this many last epochs; 0: no mean.
    """

    def __init__(self, model: nn.Module, *, ema: float, last: int, n_epochs: int):
        self._model = model
        self._ema, self._first_epoch = bool(ema), n_epochs - last + 1 if last else None
        self._average = None
        if ema or last:
            way = {"multi_avg_fn": get_ema_multi_avg_fn(ema)} if ema else {"avg_fn": _mean}
            self._average = AveragedModel(model, **way, use_buffers=True)

    def after_step(self) -> None:
        """Add the model's weights to the moving average."""
        if self._ema:
            self._average.update_parameters(self._model)

    def after_epoch(self, epoch: int) -> None:
        """Add the model's weights to the mean of the last epochs."""
        if self._first_epoch is not None and epoch >= self._first_epoch:
            # It was begun when the run had another number of epochs.
            if self._average.n_averaged != epoch - self._first_epoch:
                self._average.n_averaged.zero_()
            self._average.update_parameters(self._model)

    def scored(self, epoch: int) -> nn.Module:
        """The model to score after ``epoch``."""
        return self._average.module if self._in_use(epoch) else self._model

    def _in_use(self, epoch: int) -> bool:
        if self._average is None or not self._average.n_averaged:  # it is still empty
            return False
        return self._ema or epoch >= self._first_epoch

    def use(self, model: nn.Module) -> None:
        """Score ``model`` itself from now on, without an average."""
        self._model, self._average = model, None

    def state_dict(self, epoch: int) -> dict[str, Any]:
        """``model``: the weights to predict with after ``epoch``; with an average, also the weights in training."""
        if self._average is None:
            return {"model": self._model.state_dict()}
        return {
            "model": self.scored(epoch).state_dict(),
            "training_model": self._model.state_dict(),
            "average": self._average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._model.load_state_dict(state.get("training_model", state["model"]))
        if self._average is not None:
            self._average.load_state_dict(state["average"])


def _mean(average: Tensor, weights: Tensor, n_before: Tensor) -> Tensor:
    """The mean of ``n_before`` tensors and one more. For whole numbers, such as the count of a BatchNorm, the last one.

    torch's own mean divides whole numbers, which is an error on a GPU.
    """
    return average.lerp(weights, 1 / (int(n_before) + 1)) if average.is_floating_point() else weights
