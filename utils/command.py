"""What do all commands have in common? Exit codes, one-line errors, and the log."""

import errno
import getpass
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from utils.errors import UserError

SIGINT_EXIT = 130
SIGTERM_EXIT = 143

# How often torch's threads (GNU OpenMP) poll for each other before they sleep. By default they still poll when another
# program uses their core: beside one, training took six to nine times as long as alone, and with this value three to
# four times (docs/experiments/log.md, 2026-11-27). Alone, training is as fast as by default.
_SPINS = "10000"

REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and start again, finished work is kept",
    errno.EDQUOT: "the disk quota is used up; free some space and start again, finished work is kept",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n 4096), or set fewer workers",
    errno.ENFILE: "too many open files on this machine; close other programs, or set fewer workers",
    errno.EACCES: "permission denied; change its permissions, or choose another",
    errno.EROFS: "the file system is read-only; choose a folder you may write to",
    errno.EPERM: "not permitted; choose a folder you may write to",
    errno.EEXIST: "exists and is not a folder; choose another",
    errno.ENOTDIR: "a part of this path is a file, not a folder; choose another path",
}


class _AboveTheBar(logging.Handler):
    """Writes log lines to stderr without damaging a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


ONLY_IN_FILE = "only_in_file"  # a log record with this attribute goes to log.txt, but not to the screen


class _Early(logging.Handler):
    """Keeps what is logged before there is a log file, such as how the model was built."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.records) < _EARLY:
            self.records.append(record)


_EARLY = 10_000  # log records; preparing for many days logs more, and all of it is on the screen


class _Plain(logging.Formatter):
    """``text`` for information, ``warning: text`` for what the user should notice."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        return f"{record.levelname.lower()}: {text}" if record.levelno >= logging.WARNING else text


class _LogFile(logging.FileHandler):
    """A log file that may be incomplete on a full disk: the next save reports the disk."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


def log_to_stderr() -> None:
    """Send the log to stderr; stdout stays free for results."""
    handler = _AboveTheBar()
    handler.setFormatter(_Plain())
    root = logging.getLogger()
    handler.addFilter(lambda record: not hasattr(record, ONLY_IN_FILE))
    root.handlers = [handler, _Early()]
    root.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)  # one of torchrun's reports
    for noisy in ("matplotlib", "neptune", "httpx", "httpx2", "huggingface_hub", "timm", "distributed", "numba"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def log_to_file(path: Path) -> None:
    """Also send the log to ``path``, with the time of each line, from the first line of the command on."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    for early in [early for early in root.handlers if isinstance(early, _Early)]:
        root.removeHandler(early)
        for record in early.records:
            handler.handle(record)
    root.addHandler(handler)


def explain_os_error(error: OSError) -> str:
    """One line about a file or folder that the system could not open or write."""
    name = error.filename2 or error.filename
    text = REMEDIES.get(error.errno, os.strerror(error.errno) if error.errno else str(error))
    return f"{name}: {text}" if name else text


def cannot_start(what: str, error: OSError, instead: str) -> str:
    """One line for processes that the system refused to start.

    Args:
        what: could not be started.
        instead: what needs no processes.
    """
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM):
        return f"no {what} can be started: {explain_os_error(error)}; or {instead}"
    # The semaphores that processes share are files there.
    return f"no {what} can be started: /dev/shm: {os.strerror(error.errno or 0)}; make it writable, or {instead}"


# The errors of the libraries by which processes communicate (gloo, NCCL) when another process has ended.
_LEFT = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")


def _of_torchrun() -> bool:
    """Whether this is one of several processes of a run."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _name_the_user() -> None:
    """Give the user a name if the system's list of users has none, because torch asks for it when it is imported.

    A container may have such a user: ``docker run --user 12345``.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # raised by pwd; by later versions of Python; on Windows
        os.environ["USER"] = f"user{os.getuid() if hasattr(os, 'getuid') else ''}"


def run_command(main: Callable[[Sequence[str] | None], int | None]) -> None:
    """Run a command's ``main`` and end the process with its exit code.

    The codes are 0 done, 1 error, 2 configuration error, 130 interrupted, 143 terminated. A mistake of the user is
    one line on stderr for each problem; anything else is a bug of this program and keeps its traceback.
    """
    log_to_stderr()
    _name_the_user()
    if hasattr(sys.stdout, "reconfigure"):  # it may be closed, or a notebook's
        # A character that the terminal cannot show must not cause a failure at the end.
        sys.stdout.reconfigure(errors="backslashreplace")
    # It is read once, when torch is imported: by main, or by the processes that main starts.
    os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    warnings.filterwarnings("ignore", ".*joblib will operate in serial mode")  # we do not use it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(SIGTERM_EXIT))  # open files are closed, and workers are stopped
    try:
        code = main(None) or 0
    except UserError as error:
        if str(error):  # it is empty if another process of the run reports the same
            print(error, file=sys.stderr)
        code = error.exit_code
    except BrokenPipeError:  # the program that read the output, such as head, has ended
        # Otherwise Python would report the output that is not written yet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        if error.filename is None and error.errno not in REMEDIES:
            raise  # the error names no file: it is a bug, not a mistake of the user
        print(explain_os_error(error), file=sys.stderr)
        code = 1
    except RuntimeError as error:
        if not _of_torchrun() or not any(text in str(error) for text in _LEFT):
            raise
        print("another process of this run has ended; its message says why", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = SIGINT_EXIT
    except SystemExit as stop:  # raised by SIGTERM or by argparse
        code = stop.code
    if _of_torchrun():
        # Closing the connections can wait for ever for a process that has ended.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
