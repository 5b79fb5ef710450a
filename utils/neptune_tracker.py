"""How are a run's scores sent to Neptune, offline or online, without any effect on the run?"""

import atexit
import base64
import contextlib
import json
import logging
import os
import random
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from utils.errors import UserError
from utils.files import write_text
from utils.settings import Callbacks, Config
from utils.tracker import HeldOutScores, plain, public_settings

MODES = {"offline": "offline", "online": "async", "debug": "debug"}  # [callbacks] neptune_mode -> the client's


class Neptune:
    """A run of the Neptune client: settings under ``config``, scores under ``epochs``, then ``summary``.

    Offline data is in ``<run_dir>/.neptune``, where ``neptune sync --path <run_dir>`` finds it. Online, the run's id is
    kept in ``<run_dir>/neptune.json``, and a resumed run continues it. By default the client also uploads the entry
    script and the uncommitted changes of the repository, with a token in ``config.ini``; this is switched off.

    Args:
        callbacks: with ``neptune_mode``, ``neptune_project`` and ``neptune_token``.
        run_dir: the run folder; it exists.
        config: all settings; they are sent without the secrets.
        stop_seconds: longest wait in ``close`` for data that is not sent yet.

    Raises:
        Exception: whatever the client raises: there is no token, the host does not answer (after
            about a minute) or the package is not installed.
    """

    def __init__(self, callbacks: Callbacks, run_dir: Path | str, config: Config, *, stop_seconds: float = 30.0):
        self._stop_seconds = stop_seconds
        run_dir = Path(run_dir).absolute()
        online = callbacks.neptune_mode == "online"
        if online:
            _check_server(callbacks.neptune_token)
        with _leaving_the_process_as_it_was(), _environment("NEPTUNE_DATA_DIRECTORY", str(run_dir / ".neptune")):
            import neptune

            _log_like_everyone_else()
            self._run = neptune.init_run(
                with_id=_online_id(run_dir, callbacks.neptune_project) if online else None,
                mode=MODES[callbacks.neptune_mode],
                project=callbacks.neptune_project or None,
                api_token=callbacks.neptune_token or None,
                name=run_dir.name,
                capture_stdout=False,
                capture_stderr=False,
                capture_hardware_metrics=False,
                capture_traceback=False,
                source_files=[],
                git_ref=False,
            )
        # At exit the client stops its runs and waits without a limit. The exit call registered last runs first,
        # so this one runs before the client's and leaves it nothing to do.
        atexit.register(self._close_at_exit)
        if online:
            found = {"project": callbacks.neptune_project, "id": self._run["sys/id"].fetch()}
            write_text(run_dir / "neptune.json", json.dumps(found) + "\n")
        settings: dict[str, dict[str, object]] = {}
        for section, key, value in public_settings(config):
            settings.setdefault(section, {})[key] = _for_neptune(value)
        self._run["config"] = settings
        self._flush()

    def log_epoch(self, row: Mapping[str, float | int | None]) -> None:
        for name, number in plain(row).items():
            if name != "epoch" and number is not None:
                self._run[f"epochs/{name}"].append(number, step=row["epoch"])
        self._flush()

    def log_test(self, test: HeldOutScores) -> None:
        """Nothing to do: single recordings stay on this machine."""

    def log_summary(self, summary: Mapping[str, object]) -> None:
        self._run["summary"] = {
            name: _for_neptune(value) for name, value in plain(summary).items() if value is not None
        }
        self._flush()

    def close(self) -> None:
        """Send the rest of the data, for at most ``stop_seconds``.

        Call it after the last use of other processes, because the client blocks forks while it stops.

        Raises:
            TimeoutError: it took longer; the client stays in a thread that ends with the process.
        """
        atexit.unregister(self._close_at_exit)
        failures: list[Exception] = []
        thread = threading.Thread(target=self._stop, args=(failures,), daemon=True, name="neptune stop")
        thread.start()
        thread.join(self._stop_seconds)
        if thread.is_alive():
            raise TimeoutError(f"its data was not sent within {self._stop_seconds:g} s")
        if failures:
            raise failures[0]

    def _flush(self) -> None:
        """Make the client write its memory to its file on disk, without waiting for the network.

        Else a forked process (a loader's worker) would write the memory that it inherits a second time.
        """
        self._run.wait(disk_only=True)

    def _stop(self, failures: list[Exception]) -> None:
        try:
            self._run.stop(seconds=self._stop_seconds)
        except Exception as error:  # of any kind; close() raises it for its caller
            failures.append(error)

    def _close_at_exit(self) -> None:
        with contextlib.suppress(Exception):  # the process ends, and nothing could report it
            self.close()


def _check_server(token: str) -> None:
    """
    Raises:
        UserError: the token belongs to the hosted service, which has ended.
    """
    try:
        address = str(json.loads(base64.b64decode(token + "=" * (-len(token) % 4))).get("api_address", ""))
    except (ValueError, AttributeError):  # this is not a token of the hosted service; the client will report an error
        return
    if "neptune.ai" in address:
        raise UserError(
            "neptune's hosted service ended on 2026-03-05; use neptune_mode = offline, or the token of your own server"
        )


def _for_neptune(value: object) -> object:
    """``value`` in a form that the client accepts: it accepts neither None nor lists."""
    value = plain(value)
    return "" if value is None else str(value) if isinstance(value, list) else value


def _online_id(run_dir: Path, project: str) -> str | None:
    """The id of the Neptune run of this run folder; None if there is none in ``project``."""
    path = run_dir / "neptune.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return known.get("id") if known.get("project") == project else None


@contextlib.contextmanager
def _leaving_the_process_as_it_was() -> Iterator[None]:
    """Undo the changes that the client makes to the whole process when it starts.

    It replaces ``sys.excepthook``, draws from the global random generator, and its imports show a dozen
    DeprecationWarnings.
    """
    hook, state = sys.excepthook, random.getstate()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            sys.excepthook = hook
            random.setstate(state)


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _log_like_everyone_else() -> None:
    """Send the client's warnings to the log of the program; when imported it is set up to write to stdout."""
    for name in ("neptune", "neptune_no_prefix"):
        client = logging.getLogger(name)
        client.handlers.clear()
        client.propagate = True
        client.setLevel(logging.WARNING)
