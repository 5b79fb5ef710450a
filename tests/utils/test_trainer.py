"""Does the loop lose nothing: is a run that was stopped the same as one that was not?"""

import itertools
import json
import logging
import os
import signal
import threading
import time
import traceback
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from tqdm import tqdm

from factory.loss import build_loss
from factory.metric import build_metric
from factory.optimizer import build_optimizer
from factory.scheduler import SCHEDULES, build_schedule
from models.freezing import Backbone
from utils.checkpoint import Checkpoints, load_checkpoint
from utils.distributed import Processes
from utils.errors import CheckpointError, UserError
from utils.interrupt import Stopped
from utils.metrics import macro_auc
from utils.settings import Agent, Callbacks, TrainerSettings
from utils.tracking import LocalFiles
from utils.trainer import Subset, Trainer
from utils.utils import seed_everything, seed_for

CLASSES, BANDS, FRAMES = 3, 8, 10


@dataclass
class Batch:
    windows: torch.Tensor
    targets: torch.Tensor
    recording: torch.Tensor

    def to(self, device):
        return self


class Order:
    """Batches of rows by epoch and step_key, as dataloader.batches.dataset has them."""

    def __init__(self, n_rows, size):
        self.n_rows, self.size, self.epoch, self.first = n_rows, size, 1, 0

    def __len__(self):
        return self.n_rows // self.size

    def go_to(self, epoch, first_batch=0):
        self.epoch, self.first = epoch, first_batch

    def __iter__(self):
        rows = np.random.default_rng(self.epoch).permutation(self.n_rows)
        return iter([rows[i * self.size : (i + 1) * self.size] for i in range(self.first, len(self))])


class Batches:
    def __init__(self, order, seed, windows):
        rng = np.random.default_rng(seed)
        self.order = order
        self.recording = np.arange(order.n_rows) // windows
        self.labels = self.recording % CLASSES
        self.windows = rng.normal(size=(order.n_rows, FRAMES, BANDS)).astype(np.float32)
        self.windows[np.arange(order.n_rows), :, self.labels] += 2.0
        self.targets = np.eye(CLASSES, dtype=np.float32)[self.labels]
        self.before_batch = lambda epoch, step_key: None

    def __iter__(self):
        for step_key, rows in enumerate(self.order, start=self.order.first):
            self.before_batch(self.order.epoch, step_key)
            yield Batch(
                torch.from_numpy(self.windows[rows]),
                torch.from_numpy(self.targets[rows]),
                torch.from_numpy(self.recording[rows]),
            )


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch):
    """The subsets below are small."""
    monkeypatch.setattr("utils.trainer.ENOUGH_TO_CHOOSE", 1)


def subset(n_rows, size, seed, windows=1):
    """``n_rows`` windows, so many of each recording."""
    batches = Batches(Order(n_rows, size), seed, windows)
    names = [f"bird/XC{row}.ogg" for row in range(n_rows // windows)]
    return Subset(batches=batches, order=batches.order, filenames=names, targets=batches.targets[::windows])


def network():
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(FRAMES * BANDS, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(16, CLASSES),
    )


def make(folder, *, agent=None, val=True, callbacks=None, freeze_epochs=0, processes=Processes(), **settings):  # noqa: B008 - frozen
    settings = TrainerSettings(**{"n_epochs": 3, "seed": 5, "save_every_minutes": 0.0} | settings)
    agent, callbacks = agent or Agent(lr_warmup_epochs=1.0), callbacks or Callbacks()
    folder.mkdir(exist_ok=True)
    seed_everything(seed_for(settings.seed, "model"))
    model = network()
    optimizer = build_optimizer(model.parameters(), agent, model[5].parameters())
    train = subset(24, 4, seed=1 + 10 * processes.rank)
    steps = -(-len(train.order) // settings.accumulate)
    trainer = Trainer(
        settings,
        model=model,
        loss=build_loss(agent),
        optimizer=optimizer,
        schedule=build_schedule(optimizer, agent, n_epochs=settings.n_epochs, steps_per_epoch=steps),
        transform=lambda batch, step_key=None: (batch.windows, batch.targets),
        train=train,
        val=subset(9, 3, seed=2) if val else None,
        test=subset(9, 3, seed=3),
        metric=build_metric(callbacks),
        checkpoints=Checkpoints(folder, keep_best=callbacks.model_checkpoint),
        card={
            "model_type": "x",
            "labels": ["a", "b", "c"],
            "data_process": {},
            "standardize_over": "window",
        },
        device=torch.device("cpu"),
        processes=processes,
        callbacks=callbacks,
        backbone=Backbone(model, model[5]),
        freeze_epochs=freeze_epochs,
        resume_command="python train_classifier.py --resume RUN",
    )
    if (folder / "last.pt").exists():
        trainer.resume()
    trainer.trackers = [LocalFiles(folder, keep_epochs=trainer.progress.epoch - 1)]
    return trainer


def weights(folder):
    state = load_checkpoint(folder / "last.pt")
    kept = {"progress": {**state["progress"], "seconds": 0.0}}
    return {**{key: state[key] for key in ("model", "optimizer", "scheduler", "epoch")}, **kept}


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def stop_at(trainer, epoch, step, number=signal.SIGTERM, subset="train"):
    """Send this process a signal while it waits for the batch (epoch, step) of a subset, which does not come."""

    def send(_, at_step):
        if (trainer.progress.epoch, at_step) == (epoch, step):
            threading.Timer(0.02, os.kill, (os.getpid(), number)).start()
            time.sleep(30)

    getattr(trainer, f"{subset}_subset").batches.before_batch = send


VARIANTS = {
    **{name: {"agent": Agent(lr_decay_type=name, lr_warmup_epochs=1.0, plateau_patience=0)} for name in SCHEDULES},
    "constant": {"agent": Agent(lr_decay=False)},
    "accumulate": {"accumulate": 2},
    "ema": {"ema": 0.9},
    "average_last": {"average_last": 2},
    "radam": {"agent": Agent(optimizer="radam")},
    "bf16": {"amp_on_cpu": True},
    "no validation": {"val": False},
    "frozen when it stops": {"freeze_epochs": 2},
    "no longer frozen": {"freeze_epochs": 1, "agent": Agent(backbone_lr_factor=0.1, lr_warmup_epochs=1.0)},
}


@pytest.mark.filterwarnings("error:Detected call of")  # of torch, on resuming
@pytest.mark.parametrize("where", ["train", "val"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_stopped_in_the_middle_of_an_epoch_ends_equal_to_the_bit(tmp_path, name, where):
    if (name, where) == ("no validation", "val"):
        pytest.skip("there is none")
    make(tmp_path / "whole", **VARIANTS[name]).fit()
    stopped = make(tmp_path / "stopped", **VARIANTS[name])
    stop_at(stopped, 2, {"train": 3, "val": 1}[where], subset=where)
    text = {"train": "stopped at epoch 2, step [23] and", "val": "stopped in the validation of epoch 2 and"}[where]
    with pytest.raises(Stopped, match=f"{text} saved; .*--resume RUN") as caught:
        stopped.fit()
    assert caught.value.exit_code == 143
    assert load_checkpoint(tmp_path / "stopped/last.pt")["progress"]["epoch"] == 2
    make(tmp_path / "stopped", **VARIANTS[name]).fit()
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
    assert (tmp_path / "whole/metrics.csv").read_bytes() == (tmp_path / "stopped/metrics.csv").read_bytes()
    assert_same(
        load_checkpoint(tmp_path / "whole/best.pt")["model"], load_checkpoint(tmp_path / "stopped/best.pt")["model"]
    )


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


@pytest.mark.parametrize("step", [1, 2])
def test_a_run_stopped_between_two_batches_of_one_update_ends_equal_to_the_bit(tmp_path, step):
    make(tmp_path / "whole", accumulate=3).fit()
    stopped = make(tmp_path / "stopped", accumulate=3)
    stop_at(stopped, epoch=2, step=step)
    with pytest.raises(Stopped):
        stopped.fit()
    make(tmp_path / "stopped", accumulate=3).fit()
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))


def test_a_run_killed_at_random_moments_ends_equal_to_the_bit(tmp_path):
    make(tmp_path / "whole").fit()
    rng = np.random.default_rng(7)
    for _ in range(40):
        child = os.fork()
        if child == 0:
            try:
                tqdm.set_lock(threading.RLock())  # its own is shared with us, who would wait for the dead
                trainer = make(tmp_path / "killed", save_every_minutes=1e-9)  # saved after every step
                moment = rng.uniform(0.0, 0.06)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends it at once, also within a C library
                signal.setitimer(signal.ITIMER_REAL, max(moment, 1e-3))
                trainer.fit()
            except BaseException:  # the child must not go on with the tests of its parent
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        rng.uniform()  # another moment next time
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            assert status == 0
            break
    make(tmp_path / "killed").fit()
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    assert (tmp_path / "whole/metrics.csv").read_bytes() == (tmp_path / "killed/metrics.csv").read_bytes()


def test_a_run_stopped_between_two_epochs_goes_on_as_well(tmp_path):
    make(tmp_path / "whole").fit()
    stopped = make(tmp_path / "stopped")
    save = stopped.save
    stopped.save = lambda best: os.kill(os.getpid(), signal.SIGINT) or save(best=best)
    with pytest.raises(Stopped, match="stopped at epoch 2, step 0 and saved") as caught:
        stopped.fit()
    assert caught.value.exit_code == 130
    make(tmp_path / "stopped").fit()
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))


def test_the_time_limit_saves_and_ends_with_exit_code_0(tmp_path):
    trainer = make(tmp_path, max_minutes=1e-6)
    with pytest.raises(Stopped, match=r"stopped at epoch 1, step 1 and saved; resume with: python") as caught:
        trainer.fit()
    assert caught.value.exit_code == 0
    assert load_checkpoint(tmp_path / "last.pt")["progress"]["step"] == 1


def test_the_same_seed_gives_the_same_metrics(tmp_path):
    for name in ("one", "two"):
        make(tmp_path / name).fit()
    assert (tmp_path / "one/metrics.csv").read_bytes() == (tmp_path / "two/metrics.csv").read_bytes()
    make(tmp_path / "other", seed=6).fit()
    assert (tmp_path / "one/metrics.csv").read_bytes() != (tmp_path / "other/metrics.csv").read_bytes()


def test_best_holds_the_best_epoch_whatever_else_is_saved(tmp_path):
    trainer = make(tmp_path, n_epochs=5)
    aucs = iter([0.6, 0.9, 0.7, 0.8, 0.5])
    trainer.evaluate = lambda subset, prefix: {
        "val_loss": 1.0,
        "val_macro_auc": next(aucs),
        "val_top1": 0.0,
        "val_cmap": 0.0,
    }
    trainer.fit()
    assert load_checkpoint(tmp_path / "best.pt")["epoch"] == trainer.scored_epoch == 2
    assert load_checkpoint(tmp_path / "last.pt")["epoch"] == 5
    assert load_checkpoint(tmp_path / "prev.pt")["epoch"] == 4


def test_early_stop_ends_after_that_many_epochs_without_a_better_one(tmp_path):
    trainer = make(tmp_path, n_epochs=9, early_stop=2)
    aucs = iter([0.6, 0.5, 0.9, 0.7, 0.8, 0.95])
    trainer.evaluate = lambda subset, prefix: {
        "val_loss": 1.0,
        "val_macro_auc": next(aucs),
        "val_top1": 0.0,
        "val_cmap": 0.0,
    }
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


@pytest.mark.parametrize(
    ("where", "step", "accumulate", "text"),
    [
        ("train", 1, 1, "at epoch 1, step 1"),
        ("train", 5, 3, "at epoch 1, step 3"),  # two batches of an update are done; they are as if they were not
        ("val", 1, 1, "in the validation of epoch 1"),
    ],
)
def test_a_signal_does_not_wait_for_a_batch_that_never_comes(tmp_path, where, step, accumulate, text):
    make(tmp_path / "whole", accumulate=accumulate).fit()
    stopped = make(tmp_path / "stopped", accumulate=accumulate)
    stop_at(stopped, 1, step, subset=where)
    started = time.monotonic()
    with pytest.raises(Stopped, match=f"stopped {text} and saved") as caught:
        stopped.fit()
    assert caught.value.exit_code == 143
    assert time.monotonic() - started < 15
    make(tmp_path / "stopped", accumulate=accumulate).fit()
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
    assert (tmp_path / "whole/metrics.csv").read_bytes() == (tmp_path / "stopped/metrics.csv").read_bytes()


def test_a_signal_while_the_test_recordings_are_scored_leaves_the_trained_run_as_it_is(tmp_path):
    trainer = make(tmp_path)
    trainer.fit()
    saved = (tmp_path / "last.pt").read_bytes()
    stop_at(trainer, 4, 1, signal.SIGINT, subset="test")
    with pytest.raises(Stopped, match=r"while the test recordings were scored; the trained .* resume") as caught:
        trainer.test()
    assert caught.value.exit_code == 130
    assert (tmp_path / "last.pt").read_bytes() == saved
    again = make(tmp_path)
    assert again.progress.finished
    assert again.test()[0]["test_loss"] > 0


def two_processes(folder, prepare, *, signal_when=None, **settings):
    """Train in two processes; return their exit codes. ``prepare(trainer, rank)`` may change the trainer."""
    folder.mkdir(exist_ok=True)
    store = f"file://{folder}/store-{time.monotonic_ns()}"
    children = [os.fork() or os._exit(_train(folder, store, rank, prepare, settings)) for rank in range(2)]
    if signal_when is not None:
        while not signal_when.exists():
            time.sleep(0.02)
        time.sleep(0.3)  # the other process waits for the one that has no batch
        for child in children:
            os.kill(child, signal.SIGTERM)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _train(folder, store, rank, prepare, settings):
    try:
        tqdm.set_lock(threading.RLock())
        torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
        trainer = make(folder, processes=Processes(rank, 2), **settings)
        if rank:
            trainer.trackers = []
        prepare(trainer, rank)
        trainer.fit()
    except Stopped as stopped:
        return stopped.exit_code
    except BaseException:  # the child must not go on with the tests of its parent
        traceback.print_exc()
        return 1
    return 0


@pytest.mark.parametrize(("where", "step", "accumulate"), [("train", 3, 1), ("train", 4, 3), ("val", 1, 1)])
def test_processes_stop_together_when_one_has_no_batch_and_go_on_to_the_same_end(tmp_path, where, step, accumulate):
    """The others wait for it where no signal is heard, so that it must tell them."""
    stuck = tmp_path / "stuck"

    def wait_in_one(trainer, rank):
        def wait(_, at_step):
            if (trainer.progress.epoch, at_step) == (2, step):
                stuck.touch()
                time.sleep(60)

        if rank:
            getattr(trainer, f"{where}_subset").batches.before_batch = wait

    def change_nothing(*_):
        pass

    assert two_processes(tmp_path / "whole", change_nothing, accumulate=accumulate) == [0, 0]
    started = time.monotonic()
    codes = two_processes(tmp_path / "stopped", wait_in_one, signal_when=stuck, accumulate=accumulate)
    assert codes == [143, 143]
    assert time.monotonic() - started < 30
    assert two_processes(tmp_path / "stopped", change_nothing, accumulate=accumulate) == [0, 0]
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
    assert (tmp_path / "whole/metrics.csv").read_bytes() == (tmp_path / "stopped/metrics.csv").read_bytes()


def test_as_long_as_no_epoch_has_a_score_the_last_one_is_the_best_and_none_is_stale(tmp_path, caplog):
    trainer = make(tmp_path, n_epochs=5, early_stop=2)
    aucs = iter([None, None, None, 0.6, 0.5])
    trainer.evaluate = lambda subset, prefix: {
        "val_loss": 1.0,
        "val_macro_auc": next(aucs),
        "val_top1": 0.0,
        "val_cmap": 0.0,
    }
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


def test_out_of_memory_names_the_batch_size_the_shape_and_the_mend(tmp_path):
    trainer = make(tmp_path)

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.transform = fail
    with pytest.raises(UserError, match=r"batch of 4 windows of 10 x 8 values; lower \[trainer\] batch_size_train"):
        trainer.fit()


def test_a_batch_of_one_that_the_networks_norms_cannot_take_is_told_in_a_line(tmp_path):
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


def test_no_process_leaves_before_the_main_one_has_saved(tmp_path, monkeypatch):
    """Or torchrun, which sees that one has left, ends the others."""
    trainer, done = make(tmp_path), []
    monkeypatch.setattr(trainer, "save", lambda **_: done.append("saved"))
    monkeypatch.setattr(Processes, "wait", lambda self: done.append("waited"))
    trainer.progress.step = 1
    with pytest.raises(Stopped):
        trainer._stop(143)
    assert done == ["saved", "waited"]


def test_scores_are_computed_in_float32_whatever_training_computes_in(tmp_path):
    trainer = make(tmp_path)
    trainer._amp_type = torch.bfloat16
    with trainer._autocast():
        assert torch.is_autocast_enabled("cpu")
    with trainer._autocast(scoring=True):
        assert not torch.is_autocast_enabled("cpu")


def test_a_network_that_cannot_be_compiled_is_told_in_a_line(tmp_path, monkeypatch):
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


def test_a_save_in_the_first_epoch_of_a_mean_holds_trained_weights(tmp_path):
    stopped = make(tmp_path, average_last=2)
    stop_at(stopped, epoch=2, step=3)
    with pytest.raises(Stopped):
        stopped.fit()
    saved = load_checkpoint(tmp_path / "last.pt")
    assert_same(saved["model"], saved["training_model"])


@pytest.mark.parametrize(("longer", "averaged"), [(4, [4]), (5, [4, 5])])
def test_a_run_made_longer_takes_the_mean_of_its_new_last_epochs(tmp_path, longer, averaged):
    make(tmp_path, average_last=2).fit()
    trainer = make(tmp_path, average_last=2, n_epochs=longer)
    seen, original = {}, trainer.average.after_epoch

    def note(epoch):
        seen[epoch] = trainer.model[1].weight.detach().clone()
        original(epoch)

    trainer.average.after_epoch = note
    trainer.fit()
    kept = load_checkpoint(tmp_path / "last.pt")["model"]["1.weight"]
    torch.testing.assert_close(kept, sum(seen[epoch] for epoch in averaged) / len(averaged))


def test_a_run_made_longer_scores_its_own_weights_until_its_new_last_epochs(tmp_path):
    make(tmp_path, average_last=2).fit()
    trainer = make(tmp_path, average_last=2, n_epochs=6)
    assert [trainer.average.scored(epoch) is trainer.model for epoch in (4, 5)] == [True, False]


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
    for weights in trainer.model.parameters():
        weights.data *= 3  # scores far from a half, where the mean of sigmoids is not the sigmoid of a mean
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
def test_the_loss_of_a_part_does_not_depend_on_how_it_is_cut_in_batches(tmp_path, loss):
    trainer = make(tmp_path, agent=Agent(loss=loss))
    losses = []
    for size in (1, 3, 9):
        trainer.val_subset = subset(9, size, seed=2)
        trainer.val_subset.targets[:4] = 0.0  # recordings in which no bird calls: cross-entropy does not count them
        losses.append(trainer.evaluate(trainer.val_subset, "val_")["val_loss"])
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_a_longer_run_goes_on_with_a_finished_one(tmp_path):
    make(tmp_path).fit()
    settings = replace(make(tmp_path).settings, n_epochs=4)
    trainer = make(tmp_path, n_epochs=settings.n_epochs)
    assert not trainer.progress.finished


def test_a_table_with_other_classes_is_told_on_resuming(tmp_path):
    make(tmp_path).fit()
    trainer = make(tmp_path)
    trainer.card["labels"] = ["a", "b", "d"]
    with pytest.raises(CheckpointError, match="c, d; restore the table"):
        trainer.resume()


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


def test_a_cpu_without_units_for_bf16_says_so_and_computes_in_float32(tmp_path, monkeypatch, caplog):
    has_units(monkeypatch, False)
    make(tmp_path / "with", amp_on_cpu=True).fit()
    assert "amp_on_cpu: this CPU cannot compute bf16 in hardware" in caplog.text
    make(tmp_path / "without").fit()
    assert_same(weights(tmp_path / "with"), weights(tmp_path / "without"))


def remembering(trainer):
    """What the transform is asked for: (step_key, torch's seed) of each batch. Training targets are zeros then."""
    asked = []

    def images(batch, step_key=None):
        asked.append((step_key, torch.initial_seed()))
        return batch.windows, batch.targets if step_key is None else torch.zeros_like(batch.targets)

    trainer.transform = images
    return asked


def test_the_maker_hears_where_in_the_run_a_batch_stands_and_in_scoring_nothing(tmp_path):
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
def test_the_test_part_is_scored_with_the_best_weights_not_the_last(tmp_path, settings):
    trainer = make(tmp_path, n_epochs=4, **settings)
    aucs = iter([0.6, 0.9, 0.7, 0.8])
    trainer.evaluate = lambda subset, prefix: {"val_loss": 1.0, "val_macro_auc": next(aucs)}
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


def test_it_saves_as_often_as_it_is_told(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("utils.trainer.time.monotonic", lambda: clock[0])
    trainer = make(tmp_path, save_every_minutes=2.0, n_epochs=1)
    saved = []
    trainer.save = lambda *, best: saved.append(trainer.progress.step) or Trainer.save(trainer, best=best)
    trainer.train_subset.batches.before_batch = lambda *_: clock.__setitem__(0, clock[0] + 61)
    trainer.fit()
    assert saved == [1, 3, 5, 0]  # each two minutes, and at the end of the epoch
    assert load_checkpoint(tmp_path / "last.pt")["progress"]["seconds"] == 6 * 61


def test_an_answer_that_is_not_finite_names_its_recording(tmp_path):
    trainer = make(tmp_path)
    trainer.val_subset.batches.windows[7] = np.nan  # not the first that is scored
    with pytest.raises(UserError, match=r"a score of bird/XC7\.ogg is not finite"):
        trainer.fit()


def test_a_run_goes_on_on_a_device_that_scales_its_losses_and_back(tmp_path, monkeypatch):
    """As where a GPU has no bf16 and the machine before had: only fp16 needs a scaler."""
    with pytest.raises(Stopped):
        make(tmp_path, max_minutes=1e-6).fit()
    monkeypatch.setattr("utils.trainer.amp_type", lambda device, settings: torch.float16)
    with pytest.raises(Stopped):
        make(tmp_path, max_minutes=1e-6).fit()
    scaler = load_checkpoint(tmp_path / "last.pt")["scaler"]
    assert scaler["scale"] > 1
    assert make(tmp_path)._scaler.state_dict() == scaler
    monkeypatch.undo()
    make(tmp_path).fit()
    assert load_checkpoint(tmp_path / "last.pt")["epoch"] == 3
