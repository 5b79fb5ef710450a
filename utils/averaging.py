"""Averages of a model's weights, which often score better than the last ones.

Two kinds, by torch's own ``AveragedModel``: an exponential moving average over steps, or the mean over
the last epochs. The running statistics of BatchNorm are averaged with the weights they belong to.
"""

from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Average:
    """The weights that are scored and predicted with: the model's own, or an average of them.

    Args:
        ema: decay a step; 0: none.
        last: mean over the last epochs, this many; 0: none.
    """

    def __init__(self, model: nn.Module, *, ema: float, last: int, n_epochs: int):
        self._model = model
        self._ema, self._first_epoch = bool(ema), n_epochs - last + 1 if last else None
        self._average = None
        if ema or last:
            way = {"multi_avg_fn": get_ema_multi_avg_fn(ema)} if ema else {"avg_fn": _mean}
            self._average = AveragedModel(model, **way, use_buffers=True)

    def after_step(self) -> None:
        """Take the model's weights into the moving average."""
        if self._ema:
            self._average.update_parameters(self._model)

    def after_epoch(self, epoch: int) -> None:
        """Take the model's weights into the mean of the last epochs."""
        if self._first_epoch is not None and epoch >= self._first_epoch:
            if self._average.n_averaged != epoch - self._first_epoch:  # begun for another end than the run has now
                self._average.n_averaged.zero_()
            self._average.update_parameters(self._model)

    def scored(self, epoch: int) -> nn.Module:
        """The model to score after ``epoch``."""
        return self._average.module if self._in_use(epoch) else self._model

    def _in_use(self, epoch: int) -> bool:
        if self._average is None or not self._average.n_averaged:  # nothing is in it yet
            return False
        return self._ema or epoch >= self._first_epoch

    def use(self, model: nn.Module) -> None:
        """From now on score ``model`` as it is."""
        self._model, self._average = model, None

    def state_dict(self, epoch: int) -> dict[str, Any]:
        """``model``: the weights to predict with after ``epoch``; with an average also those that are trained."""
        if self._average is None:
            return {"model": self._model.state_dict()}
        return {
            "model": self.scored(epoch).state_dict(),
            "training_model": self._model.state_dict(),
            "average": self._average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what ``state_dict`` gave."""
        self._model.load_state_dict(state.get("training_model", state["model"]))
        if self._average is not None:
            self._average.load_state_dict(state["average"])


def _mean(average: Tensor, weights: Tensor, n_before: Tensor) -> Tensor:
    """The mean of ``n_before`` tensors, moved on by one more; of whole numbers, such as a BatchNorm's count, the last.

    torch's own mean divides whole numbers, which is an error on a GPU.
    """
    return average.lerp(weights, 1 / (int(n_before) + 1)) if average.is_floating_point() else weights
