"""What all tests share."""

import os
import signal

# Two test processes on two cores: one thread of the numerical libraries each.
os.environ["OMP_NUM_THREADS"] = "1"

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would every command that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The files that take longest, first: at the end one core would wait for the other. `make test` keeps this order.
SLOWEST = ("test_end_to_end.py", "test_resuming.py", "test_tour.py", "test_configs.py", "test_contest.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))  # it keeps the order of equal ones


SMALL = {"sample_rate": 16_000, "n_mels": 32, "n_fft": 512, "hop_length": 250, "f_max": 7_500.0, "max_length_s": 3.0}


class _InTurn(contextlib.nullcontext):
    """Stands in for a pool of threads: a run sets handlers of signals, which only the main thread may."""

    def __init__(self, jobs):
        super().__init__(self)

    map = staticmethod(map)


@pytest.fixture(scope="session")
def in_this_process() -> Callable[..., contextlib.AbstractContextManager]:
    """While the context is entered, the runs of folds and contests are trained here: a process takes seconds to start.

    The runs have no pages. ``refuse`` decides by the overrides of a run whether it fails.
    """
    import train_classifier
    from training import folds

    @contextlib.contextmanager
    def entered(refuse: Callable[[tuple[str, ...]], bool] = lambda overrides: False) -> Iterator[None]:
        def call(planned, what, *_):
            if refuse(planned.overrides):
                planned.folder.mkdir(parents=True, exist_ok=True)
                (planned.folder / "output.txt").write_text("the disk is full\n")
                return 1
            line = [*map(str, what), *(f"--set={override}" for override in planned.overrides)]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(train_classifier, "write_page", lambda *_: None)
                return train_classifier.main(line)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(folds, "_call", call)
            patch.setattr(folds, "ThreadPoolExecutor", _InTurn)
            yield

    return entered


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Path:
    """The demo that several files train on: eight recordings of each of three species. No test changes it."""
    from dataloader import demo

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "SOUNDSCAPE_S", 20.0)
        return demo.make_demo(tmp_path_factory.mktemp("shared") / "demo", species=3, recordings=8)


@pytest.fixture(scope="session")
def make_run(tmp_path_factory) -> Callable[..., Path]:
    """Make the folder of a run as training leaves it, with a tiny network that was never trained.

    Its scores vary as a trained one's do: its logits have a deviation of 2 over images of noise.
    """
    import torch

    from factory.model import build_model
    from utils.checkpoint import Checkpoints
    from utils.settings import DataProcess, Model

    def make(
        *, seed: int = 1, labels: tuple[str, ...] = ("asbfly", "bkskit1", "comgre"), standardize_over: str = "window",
        model_type: str = "test_efficientnet", **process: object,
    ) -> Path:  # fmt: skip
        torch.manual_seed(seed)
        process = DataProcess(**(SMALL | process))
        frames = round(process.max_length_s * process.sample_rate / process.hop_length)
        model = Model(type=model_type, transfer_learning=False, weights_path=None)
        network = build_model(model, len(labels), image_size=(process.n_mels, frames)).eval()
        head = network.get_classifier()
        with torch.no_grad():
            noise = torch.randn(16, 1, process.n_mels, frames)
            logits = network(10 * noise - 50 if process.standardize == "none" else noise)
            scale = 2 / logits.std(dim=0)
            head.weight *= scale[:, None]
            head.bias.copy_((head.bias - logits.mean(dim=0)) * scale)
        folder = tmp_path_factory.mktemp("run")
        (folder / "config.ini").write_text("")
        state = {
            "model": network.state_dict(),
            "epoch": 1,
            "model_type": model_type,
            "labels": list(labels),
            "scientific_names": [f"Avis {label}" for label in labels],
            "common_names": [f"Common {label}" for label in labels],
            "data_process": asdict(process),
            "standardize_over": standardize_over,
        }
        Checkpoints(folder, keep_best=True).save(state, best=True)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_run(make_run) -> Path:
    """The run that most tests predict with; what tests leave in its folder, they all see."""
    return make_run()


@pytest.fixture(scope="session")
def sound() -> Callable[..., "object"]:
    """Make ``(samples,)`` of noise with a whistle each second, so that no two windows sound alike."""
    import numpy as np

    def make(seconds: float, rate: int = 16_000, seed: int = 1) -> np.ndarray:
        rng = np.random.default_rng(seed)
        samples = 0.02 * rng.standard_normal(round(seconds * rate), dtype=np.float32)
        for _ in range(max(1, round(seconds))):
            first = rng.integers(len(samples))
            call = samples[first : first + round(rng.uniform(0.1, 0.8) * rate)]
            call += 0.5 * np.sin(2 * np.pi * rng.uniform(300, 6_000) / rate * np.arange(len(call), dtype=np.float32))
        return samples / np.float32(1.1 * np.abs(samples).max())

    return make
