"""Does the loop train, score and save what it promises?"""

import itertools
import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tests.utils.small_trainer import (
    BANDS,
    CLASSES,
    FRAMES,
    Batch,
    assert_same,
    give_scores,
    make,
    network,
    subset,
    weights,
)
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.metrics import macro_auc
from utils.settings import Agent, Callbacks
from utils.utils import seed_for


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch):
    """The subsets below are small."""
    monkeypatch.setattr("utils.trainer.ENOUGH_TO_CHOOSE", 1)


def test_only_the_head_learns_while_the_backbone_is_frozen(tmp_path):
    before = make(tmp_path / "frozen", freeze_epochs=3)
    start = {name: value.clone() for name, value in before.model.state_dict().items()}
    before.fit()
    end = before.model.state_dict()
    assert {name for name in start if not torch.equal(start[name], end[name])} == {"5.weight", "5.bias"}
    later = make(tmp_path / "later", freeze_epochs=2)
    later.fit()
    assert all(not torch.equal(start[name], value) for name, value in later.model.state_dict().items())


def test_the_speed_counts_the_windows_that_there_were(tmp_path, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr("utils.trainer.time.monotonic", lambda: float(next(clock)))
    make(tmp_path, batch_size_train=100).fit()  # the 6 batches that it has are of 4
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["seconds"] * row["windows_per_second"] for row in rows] == pytest.approx([24, 24, 24])


def test_the_same_seed_gives_the_same_metrics(tmp_path):
    for name in ("one", "two"):
        make(tmp_path / name).fit()
    assert (tmp_path / "one/metrics.csv").read_bytes() == (tmp_path / "two/metrics.csv").read_bytes()
    make(tmp_path / "other", seed=6).fit()
    assert (tmp_path / "one/metrics.csv").read_bytes() != (tmp_path / "other/metrics.csv").read_bytes()


def test_best_holds_the_best_epoch_whatever_else_is_saved(tmp_path):
    trainer = make(tmp_path, n_epochs=5)
    give_scores(trainer, [0.6, 0.9, 0.7, 0.8, 0.5])
    trainer.fit()
    assert load_checkpoint(tmp_path / "best.pt")["epoch"] == trainer.scored_epoch == 2
    assert load_checkpoint(tmp_path / "last.pt")["epoch"] == 5
    assert load_checkpoint(tmp_path / "prev.pt")["epoch"] == 4


def test_early_stop_ends_after_that_many_epochs_without_a_better_one(tmp_path):
    trainer = make(tmp_path, n_epochs=9, early_stop=2)
    give_scores(trainer, [0.6, 0.5, 0.9, 0.7, 0.8, 0.95])
    trainer.fit()
    assert load_checkpoint(tmp_path / "last.pt")["epoch"] == 5  # a better one makes the count begin anew
    # Killed before its summary was written it has nothing left to train; with more patience, or more epochs, it has.
    assert make(tmp_path, n_epochs=9, early_stop=2).progress.finished
    assert make(tmp_path, n_epochs=3).progress.finished
    assert not make(tmp_path, n_epochs=9, early_stop=3).progress.finished


def test_without_validation_the_last_epoch_is_the_best(tmp_path):
    trainer = make(tmp_path, val=False)
    trainer.fit()
    assert load_checkpoint(tmp_path / "best.pt")["epoch"] == 3
    assert trainer.progress.best is None


def test_with_few_validation_recordings_the_last_epoch_is_the_best(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("utils.trainer.ENOUGH_TO_CHOOSE", 20)
    trainer = make(tmp_path, n_epochs=3)
    trainer.metric = SimpleNamespace(name="val_loss", better=lambda new, best: best is None)  # the first is the best
    with caplog.at_level("INFO"):
        trainer.fit()
    assert trainer.scored_epoch == 3
    assert torch.load(tmp_path / "best.pt", weights_only=True)["epoch"] == 3
    assert "validation recordings are too few to choose an epoch (20 are enough)" in caplog.text


def test_as_long_as_no_epoch_has_a_score_the_last_one_is_the_best_and_none_is_stale(tmp_path, caplog):
    trainer = make(tmp_path, n_epochs=5, early_stop=2)
    give_scores(trainer, [None, None, None, 0.6, 0.5])
    best = []
    save = trainer.save
    trainer.save = lambda best_=best, **how: (best_.append(how["best"]), save(**how))
    trainer.fit()
    assert best == [True, True, True, True, False]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("the validation recordings give no val_macro_auc: no class is in some of them and not in")


def test_without_model_checkpoint_only_last_is_kept_and_scored(tmp_path):
    trainer = make(tmp_path, callbacks=Callbacks(model_checkpoint=False))
    trainer.fit()
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["last.pt"]
    trainer.progress.best_epoch = 1  # whichever was
    assert load_checkpoint(tmp_path / "last.pt")["epoch"] == trainer.scored_epoch > 1
    scores, of_recordings = trainer.test()
    assert scores["test_macro_auc"] == macro_auc(trainer.test_subset.targets, of_recordings)


@pytest.mark.parametrize("accumulate", [1, 6])
def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path, accumulate):
    trainer = make(tmp_path, accumulate=accumulate)
    trainer.train_subset.batches.windows[7] = np.nan
    with pytest.raises(UserError, match=r"the loss is not finite; .*bird/XC7\.ogg"):
        trainer.fit()
    assert all(torch.isfinite(tensor).all() for tensor in trainer.model.parameters())


def test_a_gradient_that_is_not_finite_stops_before_the_update(tmp_path):
    trainer = make(tmp_path)
    trainer.model[1].weight.register_hook(lambda gradient: gradient * float("inf"))
    before = [tensor.clone() for tensor in trainer.model.parameters()]
    with pytest.raises(UserError, match="the gradient is not finite"):
        trainer.fit()
    assert all(torch.equal(*pair) for pair in zip(before, trainer.model.parameters(), strict=True))


def test_out_of_memory_names_the_batch_size_the_shape_and_the_remedy(tmp_path):
    trainer = make(tmp_path)

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.transform = fail
    with pytest.raises(UserError, match=r"batch of 4 windows of 10 x 8 values; lower \[trainer\] batch_size_train"):
        trainer.fit()


def test_a_batch_of_one_that_the_norms_of_the_network_cannot_use_is_reported_in_a_line(tmp_path):
    trainer = make(tmp_path)
    trainer.train_subset = subset(3, 1, seed=1)
    with pytest.raises(UserError, match=r"cannot learn from a batch of 1: .*; raise \[trainer\] batch_size_train"):
        trainer.fit()


def test_a_compiled_model_learns_the_same_and_is_saved_as_any(tmp_path, monkeypatch):
    make(tmp_path / "plain").fit()
    compiled, real = [], torch.compile

    def eager(model):  # needs no C++ compiler
        compiled.append(model)
        return real(model, backend="eager")

    monkeypatch.setattr(torch, "compile", eager)
    make(tmp_path / "compiled", compile=True).fit()
    assert len(compiled) == 1
    assert_same(weights(tmp_path / "compiled"), weights(tmp_path / "plain"))


def test_scores_are_computed_in_float32_whatever_training_computes_in(tmp_path):
    trainer = make(tmp_path)
    trainer._amp_type = torch.bfloat16
    with trainer._autocast():
        assert torch.is_autocast_enabled("cpu")
    with trainer._autocast(scoring=True):
        assert not torch.is_autocast_enabled("cpu")


def test_a_network_that_cannot_be_compiled_is_reported_in_a_line(tmp_path, monkeypatch):
    class InductorError(RuntimeError):
        __module__ = "torch._inductor.exc"

    def fail(*_):
        raise InductorError("InvalidCxxCompiler: No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", lambda model: fail)
    trainer = make(tmp_path, compile=True)
    with pytest.raises(UserError, match=r"compile = true: .*cannot be compiled here \(InvalidCxx.*; set it to false"):
        trainer.fit()


def test_two_accumulated_batches_make_the_step_of_one_twice_as_large(tmp_path):
    torch.manual_seed(0)
    inputs, targets = torch.randn(8, FRAMES, BANDS), torch.eye(CLASSES)[torch.arange(8) % CLASSES]
    gradients = []
    for n in (1, 2):
        trainer = make(tmp_path / str(n), accumulate=n, grad_clip=0.0)
        trainer.model[2] = nn.Identity()  # BatchNorm looks at each batch alone
        trainer.model.eval()
        trainer.optimizer.step = lambda *_: None
        trainer.optimizer.zero_grad = lambda *_, **__: None
        for i in range(n):
            rows = slice(i * 8 // n, (i + 1) * 8 // n)
            trainer._step(Batch(inputs[rows], targets[rows], torch.arange(8)[rows]), n, updates=i == n - 1)
        gradients.append(trainer.model[1].weight.grad.clone())
    torch.testing.assert_close(*gradients)


def test_the_last_step_of_an_epoch_has_the_mean_of_the_batches_that_are_left(tmp_path):
    trainer, groups = make(tmp_path, accumulate=4, n_epochs=1), []  # of 6 batches

    def note(batch, n_together, updates):
        groups.append((n_together, updates))
        return 0.0

    trainer._step = note
    trainer.fit()
    assert groups == [(4, False)] * 3 + [(4, True), (2, False), (2, True)]


def test_the_mean_of_the_last_epochs_is_what_is_kept(tmp_path):
    trainer = make(tmp_path, average_last=2, val=False)
    seen = []
    original = trainer.average.after_epoch

    def note(epoch):
        seen.append(trainer.model[1].weight.detach().clone())
        original(epoch)

    trainer.average.after_epoch = note
    trainer.fit()
    kept = load_checkpoint(tmp_path / "best.pt")["model"]["1.weight"]
    torch.testing.assert_close(kept, (seen[1] + seen[2]) / 2)


def test_each_epoch_has_a_line_and_each_new_best_another(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        make(tmp_path, n_epochs=2).fit()
    lines = [record.getMessage() for record in caplog.records]
    assert sum(line.startswith(("epoch 1/2: train_loss", "epoch 2/2: train_loss")) for line in lines) == 2
    assert any("is the best so far: val_macro_auc" in line for line in lines)


@pytest.mark.parametrize("loss", ["bce", "cross_entropy", "focal"])
def test_the_score_of_a_recording_is_the_mean_of_the_sigmoids_of_its_windows(tmp_path, loss):
    trainer = make(tmp_path, agent=Agent(loss=loss))
    trainer.val_subset = subset(90, 5, seed=2, windows=3)
    for parameter in trainer.model.parameters():
        parameter.data *= 3  # scores far from a half, where the mean of sigmoids is not the sigmoid of a mean
    scored = trainer.evaluate(trainer.val_subset, "val_")
    trainer.model.eval()
    with torch.no_grad():
        logits = trainer.model(torch.from_numpy(trainer.val_subset.batches.windows))
    of_recordings = logits.sigmoid().view(30, 3, CLASSES).mean(dim=1).numpy()
    assert scored["val_top1"] == pytest.approx((of_recordings.argmax(1) == np.arange(30) % CLASSES).mean())
    area = macro_auc(trainer.val_subset.targets, of_recordings)  # that of the softmax is another
    assert scored["val_macro_auc"] == pytest.approx(area)
    assert area != macro_auc(trainer.val_subset.targets, logits.view(30, 3, CLASSES).mean(dim=1).sigmoid().numpy())
    loss = trainer.loss(logits, torch.from_numpy(trainer.val_subset.batches.targets)).item()
    assert scored["val_loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("loss", ["bce", "cross_entropy", "focal"])
def test_the_loss_of_a_subset_does_not_depend_on_the_size_of_its_batches(tmp_path, loss):
    trainer = make(tmp_path, agent=Agent(loss=loss))
    losses = []
    for size in (1, 3, 9):
        trainer.val_subset = subset(9, size, seed=2)
        trainer.val_subset.targets[:4] = 0.0  # recordings in which no bird calls: cross-entropy does not count them
        losses.append(trainer.evaluate(trainer.val_subset, "val_")["val_loss"])
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def has_units(monkeypatch, yes):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": yes, "avx2": True})


def test_a_cpu_trains_in_bf16_only_when_asked_and_scores_in_float32(tmp_path, monkeypatch):
    has_units(monkeypatch, True)
    types = {}
    for name, asked in (("asked", True), ("not", False)):
        trainer = make(tmp_path / name, n_epochs=1, amp_on_cpu=asked)
        types[name] = {True: set(), False: set()}
        trainer.model[-1].register_forward_hook(
            lambda layer, _, out, seen=types[name]: seen[layer.training].add(out.dtype)
        )
        trainer.fit()
    assert types["asked"] == {True: {torch.bfloat16}, False: {torch.float32}}
    assert types["not"] == {True: {torch.float32}, False: {torch.float32}}


def test_a_cpu_without_units_for_bf16_warns_and_computes_in_float32(tmp_path, monkeypatch, caplog):
    has_units(monkeypatch, False)
    make(tmp_path / "with", amp_on_cpu=True).fit()
    assert "amp_on_cpu: this CPU cannot compute bf16 in hardware" in caplog.text
    make(tmp_path / "without").fit()
    assert_same(weights(tmp_path / "with"), weights(tmp_path / "without"))


def remembering(trainer):
    """What the transform was called with: (step_key, torch's seed) of each batch. Training targets are zeros then."""
    asked = []

    def images(batch, step_key=None):
        asked.append((step_key, torch.initial_seed()))
        return batch.windows, batch.targets if step_key is None else torch.zeros_like(batch.targets)

    trainer.transform = images
    return asked


def test_the_transform_gets_the_step_key_of_a_training_batch_and_none_in_scoring(tmp_path):
    trainer = make(tmp_path, n_epochs=2)
    asked = remembering(trainer)
    losses, loss = [], trainer.loss
    trainer.loss = lambda logits, targets: losses.append(targets.sum().item()) or loss(logits, targets)
    trainer.fit()
    one_epoch = [*range(6), None, None, None]  # 24 windows to train on by 4, 9 to score by 3
    assert [step_key for step_key, _ in asked] == [
        None if step is None else (epoch, step, 0) for epoch in (1, 2) for step in one_epoch
    ]
    assert all(seed == seed_for(5, "step", *step_key) for step_key, seed in asked if step_key)
    assert losses == 2 * [0, 0, 0, 0, 0, 0, 9]  # the transform's targets, then those of validation


@pytest.mark.parametrize(("accumulate", "updates"), [(1, 6), (2, 3), (4, 2), (9, 1)])
def test_every_batch_is_part_of_an_update_and_the_rate_moves_with_each(tmp_path, accumulate, updates):
    trainer = make(tmp_path, accumulate=accumulate, n_epochs=2, agent=Agent(lr_decay_type="cosine"))
    rates = []
    trainer.optimizer.register_step_pre_hook(lambda *_: rates.append(trainer.optimizer.param_groups[0]["lr"]))
    trainer.fit()
    assert len(rates) == 2 * updates
    assert rates == sorted(set(rates), reverse=True)  # each lower than the one before


@pytest.mark.parametrize("limit", [0.0, 1e-3])
def test_a_gradient_is_cut_to_its_limit_and_left_alone_without(tmp_path, limit):
    trainer = make(tmp_path, n_epochs=1, grad_clip=limit)
    norms = []

    def note(optimizer, *_):
        gradients = [one.grad.norm() for group in optimizer.param_groups for one in group["params"]]
        norms.append(torch.stack(gradients).norm().item())

    trainer.optimizer.register_step_pre_hook(note)
    trainer.fit()
    assert max(norms) == pytest.approx(1e-3, rel=0.01) if limit else max(norms) > 0.1


def test_a_moving_average_has_the_decay_that_is_set_and_is_scored(tmp_path):
    trainer = make(tmp_path, ema=0.7)
    average = []

    def note(*_):
        now = {key: value.double().clone() for key, value in trainer.model.state_dict().items()}
        average[:] = [{key: 0.7 * average[0][key] + 0.3 * now[key] for key in now} if average else now]

    trainer.optimizer.register_step_post_hook(note)
    trainer.fit()
    kept, trained = (load_checkpoint(tmp_path / "last.pt")[name] for name in ("model", "training_model"))
    for key in ("1.weight", "2.running_mean"):
        torch.testing.assert_close(kept[key].double(), average[0][key], rtol=1e-4, atol=1e-6)
        assert not torch.equal(kept[key], trained[key])


@pytest.mark.parametrize("settings", [{}, {"ema": 0.7}], ids=["plain", "ema"])
def test_the_test_subset_is_scored_with_the_best_weights_not_the_last(tmp_path, settings):
    trainer = make(tmp_path, n_epochs=4, **settings)
    give_scores(trainer, [0.6, 0.9, 0.7, 0.8])
    trainer.fit()
    scored, of_recordings = trainer.test()
    subset, by_file = trainer.test_subset, {}
    for name in ("best", "last"):
        model = network()
        model.load_state_dict(load_checkpoint(tmp_path / f"{name}.pt")["model"])
        by_file[name] = model.eval()(torch.from_numpy(subset.batches.windows)).sigmoid().detach().numpy()
    np.testing.assert_allclose(of_recordings, by_file["best"], atol=1e-6)
    assert np.abs(by_file["best"] - by_file["last"]).max() > 1e-3
    assert scored["test_macro_auc"] == macro_auc(subset.targets, of_recordings)


def test_the_schedule_follows_the_loss_of_validation_and_that_of_training_is_the_epochs_mean(tmp_path):
    trainer = make(tmp_path)
    followed, losses, step = [], [], trainer._step
    trainer.schedule.after_epoch = followed.append
    trainer._step = lambda *batch: losses.append(step(*batch)) or losses[-1]
    trainer.fit()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert followed == [row["val_loss"] for row in rows]
    means = np.reshape(losses, (3, 6)).mean(axis=1)
    assert [row["train_loss"] for row in rows] == pytest.approx(means.tolist())


def test_a_score_that_is_not_finite_names_its_recording(tmp_path):
    trainer = make(tmp_path)
    trainer.val_subset.batches.windows[7] = np.nan  # not the first that is scored
    with pytest.raises(UserError, match=r"a score of bird/XC7\.ogg is not finite"):
        trainer.fit()
