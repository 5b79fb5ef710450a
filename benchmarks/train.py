"""How much time does the trainer add to the model's own work, and how fast are windows read?

    python -m benchmarks.train [--rounds N] [--set section.key=value ...]

In one run, these take turns on the same recordings (BIRDS_DIR, else ../shared/birds, else a demo), not augmented:
* the bare loop: the same model on the same batches, as images in memory: forward, backward, clipping, step;
* this program (ours): an epoch of the trainer on the cache, with everything it does for each batch, and the share of
  this time that it waits for batches.
Then random windows are read by the dataset and by slices of ``np.load(mmap_mode="r")``. On a GPU the batches stay
there; without one, the output reports that this was not run.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.birds import FOLDER
from dataloader.batches.dataset import WindowDataset
from factory.optimizer import build_optimizer
from training.build import build_and_dry_run, build_trainer
from training.environment import open_folder, processes_of
from training.recordings import load_table, prepare, split_recordings
from utils.arguments import at_least
from utils.command import run_command
from utils.config import load_config
from utils.settings import Agent, Config
from utils.trainer import Trainer

ROOT = Path(__file__).parents[1]
GOALS = {"efficientnet_b0": 0.95, "mobilenetv3_small_100": 0.92}
GPU_GOAL = 0.90
CONTEST_RECORDINGS, CONTEST_EPOCHS = 24_459, 12


class Waiting:
    """Batches, with the time spent waiting for them."""

    def __init__(self, batches: Iterable):
        self._batches, self.seconds = batches, 0.0

    def __iter__(self) -> Iterator:
        batches, self.seconds = iter(self._batches), 0.0
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.seconds += time.perf_counter() - started
            if batch is None:
                return
            yield batch


class BareLoop:
    """A tracker that, after each epoch of the trainer, runs the bare loop over as many batches."""

    def __init__(self, trainer: Trainer, agent: Agent, model: nn.Module, waiting: Waiting):
        self.trainer, self.model, self.waiting = trainer, model, waiting
        self.optimizer = build_optimizer(model.parameters(), agent)
        trainer.train_subset.order.go_to(1)
        batches = [batch.to(trainer.device) for batch in trainer.train_subset.batches]
        self.batches = [trainer.transform(batch) for batch in batches]
        self.ours, self.bare, self.waited = [], [], []

    def log_epoch(self, row: dict[str, float]) -> None:
        self.ours.append(row["seconds"])
        self.waited.append(self.waiting.seconds / row["seconds"])
        self.bare.append(self.epoch())

    def epoch(self) -> float:
        trainer, model = self.trainer, self.model
        # It continues from the trainer's weights and rate, because denormal numbers would slow down a CPU much.
        model.load_state_dict(trainer.model.state_dict())
        for group in self.optimizer.param_groups:
            group["lr"] = trainer.schedule.rate
        model.train()
        started = time.perf_counter()
        for images, targets in self.batches:
            with trainer._autocast():
                loss = trainer.loss(model(images), targets)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), trainer.settings.grad_clip or float("inf"), foreach=True)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        loss.item()  # a GPU has finished only when its result is here
        return time.perf_counter() - started


def config_for(model_type: str, folder: Path, options: argparse.Namespace) -> Config:
    settings = {
        "testing.testing": True, "testing.data_samples_for_testing": options.recordings,
        "paths.data_dir": FOLDER, "paths.demo_dir": folder / "demo", "paths.runs_dir": folder / "runs",
        "data.output_dir": folder / "cache", "data.hash_path": folder / "key", "data.train_ratio": 1.0,
        "model.type": model_type, "model.transfer_learning": False, "augmentation.data_augmentation": False,
        "trainer.n_epochs": options.rounds + 1, "callbacks.model_checkpoint_verbose": False,
    }  # fmt: skip
    overrides = [f"{name}={value}" for name, value in settings.items()] + options.overrides
    return load_config(ROOT / "config.ini", overrides)


def compare(model_type: str, folder: Path, options: argparse.Namespace) -> WindowDataset | None:
    """Print the comparison; return the dataset, if windows are read from the disk."""
    config = config_for(model_type, folder, options)
    with processes_of(config) as (processes, device):
        table = load_table(config, processes)
        model = build_and_dry_run(config, table)
        metadata = prepare(config, table, processes)
        with open_folder(config, None, processes) as run:
            metadata = split_recordings(config, metadata, run)
            trainer = build_trainer(config, model, metadata, run, device, processes)
            twin = build_and_dry_run(config, table).to(device, memory_format=torch.channels_last)
            dataset = getattr(trainer.train_subset.batches, "dataset", None)
            waiting = Waiting(trainer.train_subset.batches)
            trainer.train_subset = replace(trainer.train_subset, batches=waiting)
            bare = BareLoop(trainer, config.agent, twin, waiting)
            trainer.trackers = [bare]
            trainer.fit()
    ratios = [b / o for b, o in zip(bare.bare[1:], bare.ours[1:], strict=True)]  # the first round is a warm-up
    windows = len(bare.batches) * config.trainer.batch_size_train
    ratio, waited = statistics.median(ratios), statistics.median(bare.waited[1:])
    goal = GPU_GOAL if device.type == "cuda" else GOALS.get(model_type, 0.92)
    speed = windows / statistics.median(bare.ours[1:])
    size = config.trainer.batch_size_train
    print(f"{model_type} on {device}: {len(bare.batches)} batches of {size}, {options.rounds} rounds, medians")
    print(f"  the bare loop       {windows / statistics.median(bare.bare[1:]):8.1f} windows/s")
    print(f"  ours                {speed:8.1f} windows/s")
    spread = f"rounds: {min(ratios):.3f} to {max(ratios):.3f}"
    print(f"  ours / bare loop    {ratio:8.3f}   goal: at least {goal}   ({spread})")
    print(f"  waiting for data    {100 * waited:7.2f}%   goal: below 3%")
    if device.type == "cuda":
        minutes = CONTEST_RECORDINGS * CONTEST_EPOCHS / speed / 60
        print(f"  {CONTEST_EPOCHS} epochs of {CONTEST_RECORDINGS} recordings, a window each: {minutes:.1f} min")
    return dataset


def read_plainly(dataset: WindowDataset, drawn: Sequence[tuple[int, float]]) -> np.ndarray:
    """The windows of ``dataset[drawn]``, ``(batch, frames, n_mels)`` float16, by numpy alone."""
    windows = np.empty((len(drawn), dataset.length, dataset.n_mels), np.float16)
    for row, (recording, first) in enumerate(zip(*dataset.where(drawn), strict=True)):
        array = np.load(dataset.entries[recording], mmap_mode="r").T
        window = array[first : first + dataset.length]
        windows[row, : len(window)] = window
    return windows


def compare_reading(dataset: WindowDataset) -> None:
    rows = [(row, 0.0) for row in np.random.default_rng(0).permutation(len(dataset)).tolist()]
    batches = [rows[first : first + 16] for first in range(0, len(rows) - 15, 16)] * 4
    readers = dataset.__getitem__, partial(read_plainly, dataset)

    def seconds(read: Callable[[Sequence[tuple[int, float]]], object]) -> float:
        started = time.perf_counter()
        for batch in batches:
            read(batch)
        return time.perf_counter() - started

    for read in readers:  # the first time is a warm-up
        seconds(read)
    pairs = [tuple(map(seconds, readers)) for _ in range(7)]
    n = 16 * len(batches)
    print(f"reading {n} windows at random, in batches of 16")
    print(f"  np.load, mmap_mode=r {n / statistics.median(p for _, p in pairs):8.0f} windows/s")
    print(f"  ours                 {n / statistics.median(o for o, _ in pairs):8.0f} windows/s")
    print(f"  ours / np.load       {statistics.median(p / o for o, p in pairs):8.2f}   goal: at least 0.80")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=at_least(1), default=5)
    parser.add_argument("--recordings", type=at_least(1), default=50, help="of real birds; each has five windows")
    parser.add_argument("--models", nargs="+", default=list(GOALS))
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    options = parser.parse_args(arguments)
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        for model_type in options.models:
            dataset = compare(model_type, Path(folder), options)
        if dataset is not None:
            compare_reading(dataset)
    if not torch.cuda.is_available():
        print("there is no GPU, so this was not run on one")


if __name__ == "__main__":
    run_command(main)
