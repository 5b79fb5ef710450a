"""Where do a run's scores go? Always into local files, and to the trackers that the user chose: a class each."""

import atexit
import base64
import contextlib
import json
import logging
import math
import os
import random
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from utils.errors import DataError, UserError
from utils.files import write_text
from utils.packages import require_package
from utils.run_folder import EPOCHS, METRICS, SUMMARY
from utils.settings import KEYS, SECRETS, Callbacks, Config

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

COLUMNS = ("epoch", "lr", "train_loss", "val_loss", "val_macro_auc", "val_top1", "val_cmap")  # of metrics.csv
Result = TypeVar("Result")
NEPTUNE_MODES = {"offline": "offline", "online": "async", "debug": "debug"}  # ours -> the client's


class HeldOutScores(NamedTuple):
    """The test recordings of a run.

    Attributes:
        targets, scores: ``(recordings, classes)``.
        pictures: the spectrograms that the model is most wrong about: a title, and ``(n_mels, frames)`` in dB.
    """

    labels: Sequence[str]
    targets: "np.ndarray"
    scores: "np.ndarray"
    pictures: Sequence[tuple[str, "np.ndarray"]]


class Tracker(Protocol):
    """Something that records the scores of a run."""

    def log_epoch(self, row: Mapping[str, float | int | None]) -> None:
        """Record the numbers of one epoch; ``row["epoch"]`` counts from 1, None means that there is no score."""

    def log_test(self, test: HeldOutScores) -> None:
        """Record the scores of the test recordings."""

    def log_summary(self, summary: Mapping[str, object]) -> None:
        """Record the summary of the run."""

    def close(self) -> None:
        """Finish writing. Nothing is logged afterwards."""


class LocalFiles:
    """``metrics.csv``, ``metrics.jsonl`` and ``summary.json`` in the run folder.

    The CSV has no times and every float to its last bit, so that equal runs give equal bytes. The JSON lines have the
    whole row, with the speed. A file is always replaced as a whole.

    Args:
        run_dir: the run folder; it exists.
        keep_epochs: epochs that were finished before this start. Rows of later epochs, from a run that died after
            them, are removed, because these epochs will be trained again.

    Raises:
        DataError: an existing file was not written by this class.
    """

    def __init__(self, run_dir: Path | str, *, keep_epochs: int = 0):
        self._csv, self._jsonl, self._summary = (Path(run_dir) / name for name in (METRICS, EPOCHS, SUMMARY))
        header = ",".join(COLUMNS)
        self._csv_lines = [header, *_kept(self._csv, keep_epochs, _epoch_of_csv, skip=header)]
        self._json_lines = _kept(self._jsonl, keep_epochs, _epoch_of_json)
        self._write()

    def log_epoch(self, row: Mapping[str, float | int | None]) -> None:
        numbers = plain(row)
        cells = (numbers.get(column) for column in COLUMNS)
        self._csv_lines.append(",".join("" if cell is None else repr(cell) for cell in cells))
        self._json_lines.append(json.dumps(numbers, allow_nan=False))
        self._write()

    def log_test(self, test: HeldOutScores) -> None:
        """Nothing to do: training writes ``test_scores.csv``."""

    def log_summary(self, summary: Mapping[str, object]) -> None:
        write_text(self._summary, json.dumps(plain(summary), indent=2, allow_nan=False) + "\n")

    def close(self) -> None:
        """Nothing to do: every call has written complete files."""

    def _write(self) -> None:
        for path, lines in ((self._csv, self._csv_lines), (self._jsonl, self._json_lines)):
            write_text(path, "".join(f"{line}\n" for line in lines))


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
                mode=NEPTUNE_MODES[callbacks.neptune_mode],
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
        settings: dict[str, dict[str, object]] = {section: {} for section in KEYS}
        for section, key, value in public_settings(config):
            settings[section][key] = _for_neptune(value)
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


class TensorBoard:
    """Event files in ``<run_dir>/tensorboard``, for ``tensorboard --logdir``.

    Scores and losses by epoch, the settings with the summary as hyper-parameters, precision-recall curves of the
    test recordings, and the spectrograms of those with the largest errors.

    Args:
        keep_epochs: epochs that were finished before this start; what a run that died has logged of later ones is
            hidden.

    Raises:
        UserError: the package tensorboard is not installed.
    """

    def __init__(self, callbacks: Callbacks, run_dir: Path | str, config: Config, keep_epochs: int = 0):
        require_package("tensorboard", "or remove it from [callbacks] trackers")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of its dependencies
            from torch.utils.tensorboard import SummaryWriter

        purge = keep_epochs + 1 if keep_epochs else None
        self._writer = SummaryWriter(str(Path(run_dir) / "tensorboard"), purge_step=purge)
        self._settings = {
            f"{section}.{key}": value if isinstance(value, bool | int | float) else str(value)
            for section, key, value in public_settings(config)
        }

    def log_epoch(self, row: Mapping[str, float | int | None]) -> None:
        for name, number in plain(row).items():
            if name != "epoch" and number is not None:
                self._writer.add_scalar(_grouped(name), number, row["epoch"])
        self._writer.flush()

    def log_test(self, test: HeldOutScores) -> None:
        self._writer.add_pr_curve("test/all classes", test.targets.ravel() > 0, test.scores.ravel())
        for column, label in enumerate(test.labels):
            known = test.targets[:, column] >= 0
            if (test.targets[:, column] > 0).any():
                of_class = test.targets[known, column] > 0, test.scores[known, column]
                self._writer.add_pr_curve(f"test classes/{label}", *of_class)
        for number, (title, db) in enumerate(test.pictures, 1):
            self._writer.add_image(f"most wrong/{number} {title}", _grey(db), dataformats="HW")

    def log_summary(self, summary: Mapping[str, object]) -> None:
        numbers = {name: value for name, value in plain(summary).items() if isinstance(value, int | float)}
        self._writer.add_hparams(
            self._settings, {f"summary/{name}": one for name, one in numbers.items()}, run_name="."
        )
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


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


def public_settings(config: Config) -> Iterator[tuple[str, str, object]]:
    """Section, key and value of each setting except the secrets."""
    for section, keys in KEYS.items():
        for key in keys:
            if (section, key) not in SECRETS:
                yield section, key, getattr(getattr(config, section), key)


def _grouped(name: str) -> str:
    """``val_macro_auc`` -> ``val/macro_auc``, so that TensorBoard draws related scores side by side."""
    for group in ("train", "val", "test"):
        if name.startswith(f"{group}_"):
            return f"{group}/{name.removeprefix(f'{group}_')}"
    return f"run/{name}"


def _grey(db: "np.ndarray") -> "np.ndarray":
    """A spectrogram as a picture, low frequencies at the bottom, ``(n_mels, frames)`` uint8."""
    low, high = float(db.min()), float(db.max())
    return ((db[::-1] - low) / max(high - low, 1e-6) * 255).astype("uint8")


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


def plain(value: object) -> object:
    """``value`` in the types of JSON: numpy's numbers become Python's, those that are not finite None, paths text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "item"):  # a scalar of numpy or torch
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _for_neptune(value: object) -> object:
    """``value`` in a form that the client accepts: it accepts neither None nor lists."""
    value = plain(value)
    return "" if value is None else str(value) if isinstance(value, list) else value


def _kept(path: Path, keep_epochs: int, epoch_of: Callable[[str], int], skip: str | None = None) -> list[str]:
    """The lines of ``path`` up to epoch ``keep_epochs``, without the first one if that is ``skip``."""
    if keep_epochs < 1 or not path.exists():
        return []
    kept = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if number == 1 and line == skip:
            continue
        try:
            epoch = epoch_of(line)
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path}: line {number} is not a row of scores; correct or remove the file") from None
        if epoch <= keep_epochs:
            kept.append(line)
    return kept


def _epoch_of_csv(line: str) -> int:
    cells = line.split(",")
    if len(cells) != len(COLUMNS):
        raise ValueError
    return int(cells[0])


def _epoch_of_json(line: str) -> int:
    return int(json.loads(line)["epoch"])


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


def _warn(name: str, error: Exception, secret: str) -> None:
    log.warning("%s: %s; training continues without it", name, _reason(error, secret))


def _reason(error: Exception, secret: str) -> str:
    """One line for an exception; the client's own messages fill a page, with colours and a banner."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("----")]
    reason = lines[0].rstrip(".") if lines else type(error).__name__
    return (reason.replace(secret, "(secret)") if secret else reason)[:300]
