"""Does every optimizer in the table build, step, and decay the right tensors?"""

import pytest
import torch
from torch import nn

from factory.optimizer import OPTIMIZERS, build_optimizer
from utils.errors import ConfigError
from utils.settings import Agent


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_moves_every_tensor_in_one_step(name):
    net = network()
    before = [parameter.clone() for parameter in net.parameters()]
    optimizer = build_optimizer(net.parameters(), Agent(optimizer=name))
    net(torch.randn(8, 1, 4, 4)).square().sum().backward()
    optimizer.step()
    for (label, parameter), old in zip(net.named_parameters(), before, strict=True):
        if label != "0.bias":  # a norm follows: its gradient is rounding
            assert not torch.equal(parameter, old), label


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_decay_and_biases_and_norms_do_not(name):
    net = network()
    before = {label: parameter.detach().clone() for label, parameter in net.named_parameters()}
    optimizer = build_optimizer(net.parameters(), Agent(optimizer=name, weight_decay=0.1))
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    changed = {label for label, parameter in net.named_parameters() if not torch.equal(parameter, before[label])}
    assert changed == {"0.weight", "3.weight"}


def test_the_rate_is_the_peak_and_frozen_tensors_are_left_out():
    net = network()
    net[0].requires_grad_(False)
    optimizer = build_optimizer(net.parameters(), Agent(lr_warmup_end=0.02))
    assert {group["lr"] for group in optimizer.param_groups} == {0.02}
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in net[1:].parameters()}


def test_the_backbone_has_its_share_of_the_rate_and_the_first_group_has_all_of_it():
    net = network()
    agent = Agent(lr_warmup_end=0.02, backbone_lr_factor=0.1)
    optimizer = build_optimizer(net.parameters(), agent, net[3].parameters())
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert [rate_of[id(p)] for p in net[3].parameters()] == [0.02, 0.02]
    assert [rate_of[id(p)] for p in net[:3].parameters()] == pytest.approx([0.002] * 4)
    assert optimizer.param_groups[0]["lr"] == 0.02


def test_an_unknown_optimizer_names_the_nearest():
    with pytest.raises(ConfigError, match=r"\[agent\] optimizer = 'adamv': unknown; did you mean 'adam'\? Known: adam"):
        build_optimizer(network().parameters(), Agent(optimizer="adamv"))


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_one_kernel_for_all_tensors_makes_the_step_of_one_after_another(name):
    networks = [network().to(memory_format=torch.channels_last) for _ in range(2)]
    optimizers = [build_optimizer(net.parameters(), Agent(optimizer=name)) for net in networks]
    for group in optimizers[1].param_groups:
        group["fused"] = False
    images = torch.randn(8, 1, 4, 4)
    for net, optimizer in zip(networks, optimizers, strict=True):
        for _ in range(3):
            net(images).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    for (label, one), other in zip(networks[0].named_parameters(), networks[1].parameters(), strict=True):
        if label != "0.bias":  # a norm follows: its gradient is rounding
            torch.testing.assert_close(one, other)
