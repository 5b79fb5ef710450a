"""Is an average of weights what it is called?"""

import pytest
import torch
from torch import nn

from utils.averaging import Average


@pytest.mark.parametrize(("ema", "last"), [(0.9, 0), (0.0, 3)])
def test_weights_and_running_statistics_are_averaged(ema, last):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average, seen = Average(model, ema=ema, last=last, n_epochs=3), []
    for epoch in (1, 2, 3):
        with torch.no_grad():
            model(torch.randn(8, 3) * epoch)  # BatchNorm looks at it, and counts
            for weight in model.parameters():
                weight.normal_()
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        average.after_step()
        average.after_epoch(epoch)
    weights = (0.81, 0.09, 0.1) if ema else (1 / 3,) * 3
    for name, value in average.scored(3).state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, sum(w * one[name] for w, one in zip(weights, seen, strict=True)))
        elif last:
            assert value == 3  # of batches: a mean of counts means nothing
