"""What a run takes from its machine: a seed, a device, memory, a folder. Nothing else belongs here."""

import hashlib
import os
import random
import time
from pathlib import Path

import numpy as np
import torch

from utils.errors import ConfigError, Problem


def seed_for(seed: int, *step_key: int | str) -> int:
    """A seed for one step of a run (a purpose, an epoch, a step): the same on every machine."""
    text = "/".join(map(str, (seed, *step_key)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def seed_everything(seed: int) -> None:
    """Seed every generator that a model or a library may draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)  # of every device


def choose_device(name: str) -> torch.device:
    """The device that [trainer] device names; ``auto`` takes a GPU where there is one, of NVIDIA or of Apple.

    Raises:
        ConfigError: a device is asked for that is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, is_there in there.items() if is_there)
    if not there[name]:
        raise ConfigError(Problem(f"no {name.upper()} device here; use cpu or auto", "trainer", "device", name))
    return torch.device(name)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Have this process keep memory that it frees, for its next step.

    glibc gives blocks as large as a layer's output back to the system at once, and gets them again page by page,
    which takes a good part of a training step on a CPU. Does nothing with another C library.
    """
    import ctypes

    trim_threshold, mmap_threshold = -1, -3  # of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)


def make_run_folder(runs_dir: Path, model_type: str) -> Path:
    """Make ``<runs_dir>/<YYYYmmdd-HHMMSS>-<model type>``, with a number behind it where that is taken."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{model_type.replace('/', '_')}"
    runs_dir.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        folder = runs_dir / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{runs_dir}: a thousand runs have the name {name}")
