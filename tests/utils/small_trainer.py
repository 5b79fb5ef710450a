"""A trainer of a tiny network on noise, with which the tests of the loop train in milliseconds."""

import os
import signal
import threading
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from factory.loss import build_loss
from factory.metric import build_metric
from factory.optimizer import build_optimizer
from factory.scheduler import build_schedule
from models.freezing import Backbone
from utils.checkpoint import Checkpoints, load_checkpoint
from utils.distributed import Processes
from utils.local_files import LocalFiles
from utils.settings import Agent, Callbacks, TrainerSettings
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


def give_scores(trainer, aucs):
    """Let validation give these macro AUCs, one in each epoch."""
    left = iter(aucs)
    trainer.evaluate = lambda subset, prefix: {f"{prefix}loss": 1.0, f"{prefix}macro_auc": next(left)}
