"""What does a run need from its machine? A seed, a device, memory and a folder; nothing else belongs here."""

import hashlib
import logging
import os
import random
import time
from pathlib import Path

import numpy as np
import torch

from utils.errors import ConfigError, Problem
from utils.settings import TrainerSettings

log = logging.getLogger(__name__)

_BF16_UNITS = ("avx512_bf16", "amx_bf16")  # as torch.cpu.get_capabilities() names them


def seed_for(seed: int, *step_key: int | str) -> int:
    """The seed for one step of a run (a purpose, an epoch, a step); it is the same on every machine."""
    text = "/".join(map(str, (seed, *step_key)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def seed_everything(seed: int) -> None:
    """Seed every generator that a model or a library may draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)  # of every device


def choose_device(name: str) -> torch.device:
    """The device that [trainer] device names; ``auto`` is a GPU of NVIDIA or Apple if there is one.

    Raises:
        ConfigError: the machine does not have this device.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, is_there in there.items() if is_there)
    if not there[name]:
        raise ConfigError(Problem(f"no {name.upper()} device found; use cpu or auto", "trainer", "device", name))
    return torch.device(name)


def amp_type(device: torch.device, settings: TrainerSettings) -> torch.dtype | None:
    """The type of mixed precision in training: bf16 if the device computes it in hardware, else fp16 on a GPU.

    None: no mixed precision, because a CPU without such hardware would be ten times slower.
    """
    if device.type == "cuda":
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return (torch.bfloat16 if bf16 else torch.float16) if settings.amp else None
    if not settings.amp_on_cpu:
        return None
    if not any(torch.cpu.get_capabilities().get(unit) for unit in _BF16_UNITS):
        log.warning("[trainer] amp_on_cpu: this CPU cannot compute bf16 in hardware; training uses float32")
        return None
    return torch.bfloat16


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Make this process keep freed memory for its next step.

    glibc returns blocks as large as a layer's output to the system at once, and gets them back page by page, which
    takes much of a training step on a CPU. With another C library this does nothing.
    """
    import ctypes

    trim_threshold, mmap_threshold = -1, -3  # of malloc.h
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)


def make_run_folder(runs_dir: Path, model_type: str) -> Path:
    """Make ``<runs_dir>/<YYYYmmdd-HHMMSS>-<model type>``, with a number at the end if that exists."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{model_type.replace('/', '_')}"
    runs_dir.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        folder = runs_dir / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{runs_dir}: a thousand runs have the name {name}; remove some")
