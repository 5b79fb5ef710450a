"""Does a frozen backbone stay as it is, and learn afterwards?"""

import torch
from torch import nn

from models.freezing import Backbone


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)).train()


def step(model, optimizer):
    model(torch.randn(16, 4)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_a_frozen_backbone_keeps_its_weights_and_statistics_while_the_head_learns():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    assert Backbone(model, model[3]).freeze(True)
    step(model, optimizer)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"3.weight", "3.bias"}


def test_a_backbone_that_is_no_longer_frozen_learns_with_its_statistics():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    backbone = Backbone(model, model[3])
    backbone.freeze(True)
    model.train()
    assert backbone.freeze(False)
    step(model, optimizer)
    assert all(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_that_never_learn_stay_frozen():
    model = network()
    model[0].requires_grad_(False)
    backbone = Backbone(model, model[3])
    backbone.freeze(True)
    backbone.freeze(False)
    assert not model[0].weight.requires_grad
    assert model[1].weight.requires_grad
