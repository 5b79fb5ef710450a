"""Is the learning rate what its law says, also after a resume and at the ends?"""

import io
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import Parameter
from torch.optim.lr_scheduler import OneCycleLR

from factory.optimizer import build_optimizer
from factory.scheduler import SCHEDULES, Schedule, build_schedule
from utils.errors import ConfigError
from utils.settings import Agent

AGENT = Agent(lr_start=1e-4, lr_warmup_end=3e-3, lr_end=1e-5, lr_warmup_epochs=2.0, exp_gamma=0.9, plateau_patience=1)
EPOCHS, STEPS = 6, 5
NAMES = [*SCHEDULES, "constant"]


def agent(name: str) -> Agent:
    return replace(AGENT, lr_decay=False) if name == "constant" else replace(AGENT, lr_decay_type=name)


def start(name: str, n_epochs: int = EPOCHS, steps_per_epoch: int = STEPS, settings: Agent | None = None):
    settings = settings or agent(name)
    optimizer = build_optimizer([Parameter(torch.zeros(2, 2)), Parameter(torch.zeros(2))], settings)
    return optimizer, build_schedule(optimizer, settings, n_epochs=n_epochs, steps_per_epoch=steps_per_epoch)


def train(optimizer, schedule: Schedule, epochs, steps_per_epoch: int = STEPS, val_loss=lambda epoch: 1.0) -> list:
    """The rate of every step; all groups have it."""
    rates = []
    for epoch in epochs:
        for _ in range(steps_per_epoch):
            assert {group["lr"] for group in optimizer.param_groups} == {schedule.rate}
            rates.append(schedule.rate)
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(val_loss(epoch))
    return rates


def rates(name: str, **options) -> list[float]:
    return train(*start(name, **options), range(options.get("n_epochs", EPOCHS)), options.get("steps_per_epoch", STEPS))


def test_warmup_cosine_is_a_line_and_then_half_a_cosine():
    got = rates("warmup_cosine")
    line = [1e-4 + (3e-3 - 1e-4) * step / 10 for step in range(10)]
    curve = [1e-5 + (3e-3 - 1e-5) * (1 + math.cos(math.pi * step / 19)) / 2 for step in range(20)]
    assert got == pytest.approx(line + curve, rel=1e-12)
    assert (got[0], got[10], got[-1]) == pytest.approx((1e-4, 3e-3, 1e-5), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_rate_of_a_backbone_follows_at_its_share_also_after_a_resume(name):
    settings = replace(agent(name), backbone_lr_factor=0.1)

    def begin():
        head = Parameter(torch.zeros(2, 2))
        optimizer = build_optimizer([Parameter(torch.zeros(2, 2)), head], settings, [head])
        return optimizer, build_schedule(optimizer, settings, n_epochs=EPOCHS, steps_per_epoch=STEPS)

    def rates_of(optimizer):
        return [group["lr"] for group in optimizer.param_groups]

    optimizer, schedule = begin()
    for step in range(12):
        assert rates_of(optimizer) == pytest.approx([schedule.rate, 0.1 * schedule.rate])
        optimizer.step()
        schedule.after_step()
        if step % STEPS == 4:
            schedule.after_epoch(1.0)
    later, resumed = begin()
    later.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    assert rates_of(later) == pytest.approx(rates_of(optimizer))


def test_cosine_goes_from_the_peak_to_the_end():
    got = rates("cosine")
    assert (got[0], got[-1]) == (3e-3, pytest.approx(1e-5))
    assert got == sorted(got, reverse=True)


def test_exponential_is_multiplied_each_epoch():
    assert rates("exponential") == [3e-3 * 0.9 ** (step // STEPS) for step in range(EPOCHS * STEPS)]


@pytest.mark.parametrize("n_steps", [2, 3, 10, 30, 101])
def test_one_cycle_has_the_rates_of_torchs(n_steps):
    optimizer = torch.optim.SGD([Parameter(torch.zeros(1))], lr=1.0)
    torchs = OneCycleLR(
        optimizer, 3e-3, n_steps, div_factor=3e-3 / 1e-4, final_div_factor=1e-4 / 1e-5, cycle_momentum=False
    )
    expected = []
    for step in range(n_steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < n_steps - 1:
            torchs.step()
    assert rates("one_cycle", n_epochs=1, steps_per_epoch=n_steps) == pytest.approx(expected, rel=1e-9)


def test_plateau_drops_when_the_validation_loss_stays():
    got = rates("plateau")  # the first epoch sets the best, patience is 1: a drop each second epoch after
    assert got[::STEPS] == pytest.approx([3e-3, 3e-3, 3e-3, 1.5e-3, 1.5e-3, 7.5e-4])


def test_plateau_stays_while_the_validation_loss_falls_or_there_is_none():
    falling = train(*start("plateau"), range(EPOCHS), val_loss=lambda epoch: 1.0 / (1 + epoch))
    missing = train(*start("plateau"), range(EPOCHS), val_loss=lambda epoch: None)
    assert set(falling) == set(missing) == {3e-3}


def test_without_lr_decay_the_rate_is_the_peak():
    assert set(rates("constant")) == {3e-3}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stop", [1, 3, EPOCHS - 1])
def test_resuming_equals_not_stopping_to_the_bit(name, stop):
    whole = rates(name)
    optimizer, schedule = start(name)
    first = train(optimizer, schedule, range(stop))
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": schedule.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    optimizer, schedule = start(name)
    schedule.load_state_dict(saved["scheduler"])
    assert schedule.rate == (whole + whole[-1:])[stop * STEPS]
    optimizer.load_state_dict(saved["optimizer"])
    assert first + train(optimizer, schedule, range(stop, EPOCHS)) == whole


@pytest.mark.parametrize("name", NAMES)
def test_stopping_amid_an_epoch_is_resumed_as_well(name):
    optimizer, schedule = start(name)
    for _ in range(3):
        optimizer.step()
        schedule.after_step()
    resumed_optimizer, resumed = start(name)
    resumed.load_state_dict(schedule.state_dict())
    for _ in range(3):
        optimizer.step(), resumed_optimizer.step()
        schedule.after_step(), resumed.after_step()
        assert resumed.rate == schedule.rate


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("n_epochs", "steps_per_epoch"), [(1, 1), (1, 2), (2, 1), (1, 3)])
def test_the_smallest_trainings_and_steps_beyond_the_end_are_no_error(name, n_epochs, steps_per_epoch):
    optimizer, schedule = start(name, n_epochs=n_epochs, steps_per_epoch=steps_per_epoch)
    got = train(optimizer, schedule, range(n_epochs + 2), steps_per_epoch)
    assert all(0 < rate <= 3e-3 * (1 + 1e-12) for rate in got)
    if schedule.every == "step":
        assert len(set(got[n_epochs * steps_per_epoch - 1 :])) == 1  # the last rate stays


@pytest.mark.parametrize("name", ["warmup_cosine", "one_cycle"])
def test_the_first_and_the_last_rate_may_be_zero(name):
    got = train(*start(name, settings=replace(agent(name), lr_start=0.0, lr_end=0.0)), range(EPOCHS))
    assert (got[0], got[-1]) == (0.0, 0.0)
    assert max(got) > 2.9e-3


def test_a_run_made_longer_goes_on_by_the_longer_law():
    optimizer, schedule = start("cosine", n_epochs=2)
    train(optimizer, schedule, range(2))
    longer_optimizer, longer = start("cosine", n_epochs=4)
    longer.load_state_dict(schedule.state_dict())
    got = train(longer_optimizer, longer, range(2, 4))
    assert got[1:] == rates("cosine", n_epochs=4)[2 * STEPS + 1 :]


def test_the_state_of_another_schedule_is_refused():
    _, schedule = start("cosine")
    with pytest.raises(ConfigError, match=r"lr_decay_type = 'cosine': this run began with 'plateau'; resume it with"):
        schedule.load_state_dict(start("plateau")[1].state_dict())


def test_an_unknown_schedule_names_the_nearest():
    with pytest.raises(ConfigError, match=r"\[agent\] lr_decay_type = 'cosin': unknown; did you mean 'cosine'"):
        start("cosine", settings=replace(AGENT, lr_decay_type="cosin"))
