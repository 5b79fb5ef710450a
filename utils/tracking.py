"""Where do a run's scores go? Always into local files, and to the trackers that the user chose."""

import logging
import re
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from utils.local_files import LocalFiles
from utils.neptune_tracker import Neptune
from utils.settings import Callbacks, Config
from utils.tensorboard_tracker import TensorBoard
from utils.tracker import HeldOutScores, Tracker

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class Guarded:
    """A tracker whose errors cannot stop the run: an exception, or a call that takes too long, becomes one warning.

    After that it is not called again. Each call runs in its own thread; if a tracker hangs, its thread stays until the
    process ends.

    Args:
        start: makes the tracker.
        secret: a text that must not be in the log, even if an exception quotes it.
        start_seconds, seconds: the longest wait for its start, and for each call.
    """

    def __init__(
        self, start: Callable[[], Tracker], name: str, secret: str = "", *,
        start_seconds: float = 90.0, seconds: float = 40.0,
    ):  # fmt: skip
        self._name, self._secret, self._seconds = name, secret, seconds
        self._tracker: Tracker | None = None
        self.works = True
        self._tracker = self._try(start, start_seconds)

    def log_epoch(self, row: Mapping[str, float | int | None]) -> None:
        self._try(lambda: self._tracker.log_epoch(row), self._seconds)

    def log_test(self, test: HeldOutScores) -> None:
        self._try(lambda: self._tracker.log_test(test), self._seconds)

    def log_summary(self, summary: Mapping[str, object]) -> None:
        self._try(lambda: self._tracker.log_summary(summary), self._seconds)

    def close(self) -> None:
        self._try(lambda: self._tracker.close(), self._seconds)

    def _try(self, call: Callable[[], Result], seconds: float) -> Result | None:
        if not self.works:
            return None
        results: list[Result] = []
        failures: list[BaseException] = []
        name = f"tracker {self._name}"
        thread = threading.Thread(target=_run, args=(call, results, failures), daemon=True, name=name)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            failures.append(TimeoutError(f"no answer within {seconds:g} s"))
        if not failures:
            return results[0]
        self.works = False
        if not isinstance(failures[0], Exception):  # Ctrl-C is not an error of a tracker
            raise failures[0]
        _warn(self._name, failures[0], self._secret)
        return None


def _run(call: Callable[[], Result], results: list[Result], failures: list[BaseException]) -> None:
    try:
        results.append(call())
    except (Exception, KeyboardInterrupt) as error:  # of any kind: the caller decides what is an error of the tracker
        failures.append(error)


TRACKERS: dict[str, Callable[[Callbacks, Path | str, Config, int], Tracker]] = {
    "neptune": lambda callbacks, run_dir, config, _: Neptune(callbacks, run_dir, config),
    "tensorboard": TensorBoard,
}


def build_trackers(callbacks: Callbacks, run_dir: Path | str, config: Config, keep_epochs: int = 0) -> list[Tracker]:
    """The local files, which are always written, and then the trackers that ``callbacks`` names.

    A tracker that cannot be started is left out with one warning.

    Args:
        run_dir: the run folder; it exists.
        config: the settings that are sent to trackers, without secrets.
        keep_epochs: epochs that were finished before this start, see ``LocalFiles``.

    Raises:
        DataError: an existing local file is damaged.
    """
    trackers: list[Tracker] = [LocalFiles(run_dir, keep_epochs=keep_epochs)]
    for name in callbacks.tracker_names:
        start = partial(TRACKERS[name], callbacks, run_dir, config, keep_epochs)
        tracker = Guarded(start, name, secret=callbacks.neptune_token)
        if tracker.works:
            trackers.append(tracker)
    return trackers


def _warn(name: str, error: Exception, secret: str) -> None:
    log.warning("%s: %s; training continues without it", name, _reason(error, secret))


def _reason(error: Exception, secret: str) -> str:
    """One line for an exception; the client's own messages fill a page, with colours and a banner."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("----")]
    reason = lines[0].rstrip(".") if lines else type(error).__name__
    return (reason.replace(secret, "(secret)") if secret else reason)[:300]
