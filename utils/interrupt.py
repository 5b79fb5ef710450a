"""Requests to stop: signals and a time limit. The loop asks before each step, and stops when it has saved."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from utils.command import SIGINT_EXIT, SIGTERM_EXIT
from utils.errors import UserError

Value = TypeVar("Value")

_EXIT_CODES = {signal.SIGINT: SIGINT_EXIT, signal.SIGTERM: SIGTERM_EXIT}


class Stopped(UserError):  # noqa: N818 - not an error: the user asked for it
    """The run was asked to stop and has saved; the message says how to resume."""

    def __init__(self, text: str, exit_code: int):
        super().__init__(text)
        self.exit_code = exit_code


class _Now(BaseException):
    """Raised by the signal handler within ``wait_for``; not an Exception, because libraries catch those."""


class Interrupt:
    """Records that a run should stop. Outside of this context manager, signals have their usual effect.

    Args:
        max_minutes: stop after this many minutes; 0: never.
    """

    def __init__(self, max_minutes: float = 0.0):
        self._deadline = time.monotonic() + 60 * max_minutes if max_minutes else None
        self._signal: int | None = None
        self._calls: list[Callable[[], None]] = []
        self._before: dict[int, object] = {}
        self._at_once = False

    def __enter__(self) -> "Interrupt":
        self._before = {number: signal.signal(number, self._note) for number in _EXIT_CODES}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait_for(self, wait: Callable[[], Value]) -> Value | None:
        """Return ``wait()``, or None as soon as a signal comes or if one has come before."""
        if self._signal is not None:
            return None
        try:
            try:
                self._at_once = True
                return wait()
            finally:
                self._at_once = False
        except _Now:
            return None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        self._call()
        if self._at_once:
            self._at_once = False
            raise _Now
        # A second Ctrl-C ends the program at once; torchrun repeats a SIGTERM that all have already received.
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)

    def when_it_comes(self, call: Callable[[], None]) -> None:
        """Call ``call`` once, from the handler of the signal; at once if the signal has already come."""
        self._calls.append(call)
        if self._signal is not None:
            self._call()

    def _call(self) -> None:
        while self._calls:  # removed first, because a handler may run between any two lines
            self._calls.pop()()

    @property
    def exit_code(self) -> int | None:
        """None: continue. Else the exit code that the process should end with: 130, 143, or 0 for the time limit."""
        if self._signal is not None:
            return _EXIT_CODES[self._signal]
        if self._deadline is not None and time.monotonic() > self._deadline:
            return 0
        return None


def obey_the_main_process_alone(_worker: int) -> None:
    """For a process that reads batches: ignore signals, because the main process must finish its step.

    Ctrl-C in a terminal, torchrun and batch systems also signal workers. torch ends a worker at any SIGTERM, and then
    also the main process, if it did not send the signal.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        main = multiprocessing.parent_process().pid  # os.getppid may name a server of forks
        threading.Thread(target=_leave_at_a_signal_of, args=(main,), daemon=True).start()


def _leave_at_a_signal_of(main: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main:
        pass
    os._exit(0)
