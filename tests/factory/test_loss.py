"""Does every loss in the table build and make one step?"""

import pytest
import torch

from factory.loss import LOSSES, build_loss
from models.losses import Focal
from utils.errors import ConfigError
from utils.settings import Agent


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_goes_down_in_one_step(name):
    loss = build_loss(Agent(loss=name))
    logits, targets = torch.zeros(4, 3, requires_grad=True), torch.eye(4, 3)
    before = loss(logits, targets)
    before.backward()
    assert loss(logits - logits.grad, targets) < before


def test_focal_takes_its_settings_from_the_agent():
    loss = build_loss(Agent(loss="focal", focal_alpha=0.7, focal_gamma=1.5))
    assert isinstance(loss, Focal)
    assert (loss.alpha, loss.gamma) == (0.7, 1.5)


def test_an_unknown_loss_names_the_nearest():
    with pytest.raises(ConfigError, match=r"\[agent\] loss = 'focall': unknown; did you mean 'focal'"):
        build_loss(Agent(loss="focall"))
