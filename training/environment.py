"""What surrounds a run: its processes, its device, its folder, and the last line that it prints."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import torch

from utils.command import log_to_file
from utils.config import Config, to_ini
from utils.config_checks import PARTNERED
from utils.distributed import Processes, join_processes
from utils.errors import ConfigError, Problem
from utils.files import remove_leftovers, write_text
from utils.lock import alone
from utils.run_folder import CONFIG, LOG
from utils.utils import choose_device, keep_freed_memory, make_run_folder

Result = TypeVar("Result")


@contextlib.contextmanager
def processes_of(config: Config) -> Iterator[tuple[Processes, torch.device]]:
    """This process among those of the run and its device, set up for training.

    Raises:
        ConfigError: a batch cannot be shared by so many processes.
    """
    processes, device = join_processes(choose_device(config.trainer.device))
    _check_batch_for(processes, config)
    if not processes.is_main:
        logging.getLogger().setLevel(logging.ERROR)
    if device.type == "cpu":
        keep_freed_memory()
    if config.trainer.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or torch refuses to multiply on a GPU
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # all that is allocated here is written
    yield processes, device
    processes.wait()  # nobody leaves while another still asks; after an error torchrun ends the others


def _check_batch_for(processes: Processes, config: Config) -> None:
    size, world, text = config.trainer.batch_size_train, processes.world, ""
    if size % world:
        text = f"cannot be shared equally by {world} processes; make it a multiple of that"
    elif size == world > 1 and any(getattr(config.mixing, p) for p in PARTNERED):
        text = f"leaves each of {world} processes one window a batch, and [mixing] needs a partner; raise it"
    if text:
        raise ConfigError(Problem(text, "trainer", "batch_size_train", size))


@contextlib.contextmanager
def open_folder(config: Config, resume: Path | None, processes: Processes) -> Iterator[Path]:
    """The run folder: a new one, whose config.ini is the config, resolved; or that of the run to resume.

    Raises:
        DataError: another process trains the run to resume.
    """
    if not processes.is_main:
        yield processes.from_main(None)
        return
    folder = (resume or make_run_folder(config.paths.runs_dir, config.model.type)).resolve()
    with alone(folder / "run", f"{folder}: another process trains this run; wait for its end, or stop it"):
        remove_leftovers(folder)
        if not resume:
            write_text(folder / CONFIG, to_ini(config))
        log_to_file(folder / LOG)
        yield processes.from_main(folder)


def main_first(processes: Processes, work: Callable[[], Result]) -> Result:
    """The main process works while the others wait, and then find it done."""
    result = work() if processes.is_main else None
    processes.wait()
    return work() if result is None else result


def print_result(processes: Processes, line: str) -> int:
    """Print the result, once for all processes; return the exit code, 0."""
    if processes.is_main:
        print(line)
    return 0
