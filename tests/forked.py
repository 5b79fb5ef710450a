"""Run a command as a process of its own without the seconds that its imports take.

A server (``multiprocessing``'s own) has imported what the program imports; for each command it forks.
"""

import multiprocessing
import os
import runpy
import sys
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["timm", "librosa.filters", "matplotlib.figure", "reports.run", "training.fit", "training.build"]
)


def run_forked(arguments: list[str], folder: Path, *, cwd: Path, timeout: float) -> CompletedProcess:
    """Run ``python SCRIPT ARGUMENTS`` in a forked process; the result is that of ``subprocess.run`` with captured text.

    Args:
        arguments: the script's path first.
        folder: where the output waits to be read.
    """
    out, err = folder / "forked.out", folder / "forked.err"
    process = _SERVER.Process(target=_main, args=(arguments, out, err, cwd, dict(os.environ)))
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        raise TimeoutExpired(arguments, timeout, out.read_text(), err.read_text())
    return CompletedProcess(arguments, process.exitcode, out.read_text(), err.read_text())


def _main(arguments: list[str], out: Path, err: Path, cwd: Path, environment: dict[str, str]) -> None:
    for number, path in ((0, os.devnull), (1, out), (2, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")
