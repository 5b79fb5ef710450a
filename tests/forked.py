"""Run a command as a process of its own without the seconds that its imports take.

A server (``multiprocessing``'s own) has imported what the program imports; for each command it forks.
"""

import contextlib
import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

ROOT = Path(__file__).parents[1]

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["timm", "librosa.filters", "matplotlib.figure", "reports.run", "training.fit", "training.build", "inference.steps"]
)


class Forked:
    """A command that runs, as ``subprocess.Popen`` with the output in files.

    Args:
        arguments: what follows ``python``: a script, ``-m`` and a module, or ``-c`` and code; then its arguments.
        folder: where its output is written.
        environment: variables that differ from those of the tests.
        own_session: it leads a group of processes of its own, as a command that a shell starts.
        own_modules: the modules of this repository are imported anew, from ``cwd``.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, *, cwd: Path = ROOT, environment: Mapping[str, str] | None = None,
        own_session: bool = False, own_modules: bool = False,
    ):  # fmt: skip
        self._arguments = [str(argument) for argument in arguments]
        self._out, self._err = folder / "forked.out", folder / "forked.err"
        everything = os.environ | (environment or {})
        arguments = (self._arguments, self._out, self._err, cwd, dict(everything), own_session, own_modules)
        with contextlib.chdir(ROOT):  # where the server finds what it imports
            forkserver.ensure_running()
        self._process = _SERVER.Process(target=_main, args=arguments)
        self._process.start()
        self.pid = self._process.pid
        self.kill = self._process.kill  # by SIGKILL

    def wait_for(self, start: str, timeout: float = 240) -> None:
        """Wait until a line on stderr begins with ``start``, or the command has ended."""
        until = time.monotonic() + timeout
        while not any(line.startswith(start) for line in self._text(self._err).splitlines()):
            if self._process.exitcode is not None:
                return
            if time.monotonic() > until:
                self._give_up(timeout)
            time.sleep(0.01)

    def wait(self, timeout: float = 240) -> CompletedProcess:
        """The result that ``subprocess.run`` has, with captured text."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._give_up(timeout)
        return CompletedProcess(self._arguments, self._process.exitcode, self._text(self._out), self._text(self._err))

    def _give_up(self, timeout: float) -> None:
        self.kill()
        raise TimeoutExpired(self._arguments, timeout, self._text(self._out), self._text(self._err))

    @staticmethod
    def _text(path: Path) -> str:
        return path.read_text(encoding="utf-8") if path.exists() else ""


def run_forked(arguments: Sequence[str], folder: Path, **options: object) -> CompletedProcess:
    """Run a command to its end, see ``Forked``."""
    return Forked(arguments, folder, **options).wait()


def _main(
    arguments: list[str], out: Path, err: Path, cwd: Path, environment: dict[str, str], own_session: bool,
    own_modules: bool,
) -> None:  # fmt: skip
    if own_session:
        os.setsid()
    for number, path in ((0, os.devnull), (1, out), (2, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    os.environ.clear()
    os.environ.update(environment)
    if encoding := environment.get("PYTHONIOENCODING"):  # Python reads it when it starts
        sys.stdout.reconfigure(encoding=encoding)
    os.chdir(cwd)
    if own_modules:
        _forget_modules(cwd)
    match arguments:
        case ["-m", module, *_]:
            sys.argv = arguments[1:]
            if not hasattr(sys.modules.get(module), "__path__"):
                sys.modules.pop(module, None)  # runpy warns of a module that is imported already
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-c", code, *others]:
            sys.argv = ["-c", *others]
            exec(code, {"__name__": "__main__"})
        case [script, *_]:
            sys.argv = arguments
            runpy.run_path(script, run_name="__main__")


def _forget_modules(cwd: Path) -> None:
    """Let the modules of this repository be imported from ``cwd``, which holds another copy of them."""
    for name in list(sys.modules):
        first = ROOT / name.partition(".")[0]
        if first.is_dir() or first.with_suffix(".py").is_file():
            del sys.modules[name]
    sys.path[:] = [str(cwd), *(path for path in sys.path if Path(path).resolve() != ROOT)]
