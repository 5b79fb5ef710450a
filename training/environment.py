"""What is the environment of a run? Its processes, its device, its folder, and the last line that it prints."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import torch

from utils.command import log_to_file
from utils.config import to_ini
from utils.config_checks import PARTNERED
from utils.distributed import Processes, join_processes
from utils.errors import ConfigError, Problem
from utils.files import remove_leftovers, write_text
from utils.lock import alone
from utils.run_folder import CONFIG, LOG
from utils.settings import Config
from utils.utils import choose_device, keep_freed_memory, make_run_folder

Result = TypeVar("Result")


@contextlib.contextmanager
def processes_of(config: Config) -> Iterator[tuple[Processes, torch.device]]:
    """The processes of the run and the device of this one, prepared for training.

    Raises:
        ConfigError: a batch cannot be divided among so many processes.
    """
    processes, device = join_processes(choose_device(config.trainer.device))
    _check_batch_for(processes, config)
    if device.type == "cpu":
        keep_freed_memory()
    if config.trainer.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else torch refuses to multiply on a GPU
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # everything that is allocated is also written
    yield processes, device
    processes.wait()  # no process ends while another still communicates; after an error torchrun ends the others


def _check_batch_for(processes: Processes, config: Config) -> None:
    size, world, text = config.trainer.batch_size_train, processes.world, ""
    if size % world:
        text = f"cannot be divided equally among {world} processes; make it a multiple of {world}"
    elif size == world > 1 and any(getattr(config.mixing, p) for p in PARTNERED):
        text = f"gives each of {world} processes one window in a batch, but [mixing] needs a second window; raise it"
    if text:
        raise ConfigError(Problem(text, "trainer", "batch_size_train", size))


@contextlib.contextmanager
def open_folder(config: Config, resume: Path | None, processes: Processes) -> Iterator[Path]:
    """The run folder: a new one with the resolved config.ini; or the folder of the run to resume.

    Raises:
        DataError: another process trains this run.
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
    """Call ``work`` first in the main process, while the others wait, and then in the others."""
    result = work() if processes.is_main else None
    processes.wait()
    return work() if result is None else result


def print_result(processes: Processes, line: str) -> int:
    """Print the result line in the main process only; return the exit code, 0."""
    if processes.is_main:
        print(line)
    return 0
