"""What every command shares: exit codes, one-line errors, and where the log goes."""

import errno
import getpass
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from utils.errors import UserError

SIGINT_EXIT = 130
SIGTERM_EXIT = 143

# How often torch's threads (GNU OpenMP) poll for each other before they sleep; by default they poll long after a
# core was given to another program: beside one, training took six to nine times as long as alone, with this three to
# four times (docs/experiments/log.md, 2026-11-27). Alone it is as fast.
_SPINS = "10000"

MENDS = {
    errno.ENOSPC: "no room on the disk; free some and start again, finished work is kept",
    errno.EDQUOT: "the disk quota is used up; free some and start again, finished work is kept",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n 4096), or set fewer workers",
    errno.ENFILE: "too many open files on this machine; close other programs, or set fewer workers",
    errno.EACCES: "permission denied; change who may read and write it, or choose another",
    errno.EROFS: "the file system is read-only; choose a folder you may write to",
    errno.EPERM: "not permitted; choose a folder you may write to",
    errno.EEXIST: "is there already and is no folder; choose another",
    errno.ENOTDIR: "part of this path is a file, not a folder; choose another",
}


class _AboveTheBar(logging.Handler):
    """Write log lines to stderr without tearing a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


ONLY_IN_FILE = "only_in_file"  # a log record with this attribute is for log.txt, and not for the screen


class _Early(logging.Handler):
    """Keeps what is logged before there is a log file, such as how the model was built."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.records) < _EARLY:
            self.records.append(record)


_EARLY = 10_000  # records: a preparation of many days has more to say, and the screen has it all


class _Plain(logging.Formatter):
    """``text`` for information, ``warning: text`` for what the user should notice."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        return f"{record.levelname.lower()}: {text}" if record.levelno >= logging.WARNING else text


class _LogFile(logging.FileHandler):
    """A log file that is allowed to be incomplete on a full disk: the next save reports the disk."""

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
    root.setLevel(logging.INFO)
    for noisy in ("matplotlib", "neptune", "httpx", "httpx2", "huggingface_hub", "timm", "distributed", "numba"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def log_to_file(path: Path) -> None:
    """Send the log to ``path`` as well, with the time of each line, from the command's first line on."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    for early in [one for one in root.handlers if isinstance(one, _Early)]:
        root.removeHandler(early)
        for record in early.records:
            handler.handle(record)
    root.addHandler(handler)


def explain_os_error(error: OSError) -> str:
    """One line for a file or folder the system refused."""
    name = error.filename2 or error.filename
    text = MENDS.get(error.errno, os.strerror(error.errno) if error.errno else str(error))
    return f"{name}: {text}" if name else text


def _name_the_user() -> None:
    """Give a user without an entry in the system's list of users a name, as torch asks for one when it is imported.

    Containers may run as such a user: ``docker run --user 12345``.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # of pwd; of a later Python; on Windows
        os.environ["USER"] = f"user{os.getuid() if hasattr(os, 'getuid') else ''}"


def run_command(main: Callable[[Sequence[str] | None], int | None]) -> None:
    """Run a command's ``main`` and leave the process with its exit code.

    0 done, 1 error, 2 configuration error, 130 interrupted, 143 terminated. A mistake of the user is one line
    on stderr for each problem; anything else is a bug of ours and keeps its traceback.
    """
    log_to_stderr()
    _name_the_user()
    if hasattr(sys.stdout, "reconfigure"):  # it may be closed, or a notebook's
        sys.stdout.reconfigure(errors="backslashreplace")  # what a terminal cannot show is no reason to fail at the end
    # Read once, when torch is imported: by main, or by the processes it starts.
    os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(SIGTERM_EXIT))  # what is open is closed, and workers are stopped
    try:
        code = main(None) or 0
    except UserError as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    except BrokenPipeError:  # whoever read our output, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains of what is not written yet
        code = 1
    except OSError as error:
        if error.filename is None and error.errno not in MENDS:
            raise  # no file is named: it is a bug, not a mistake of the user
        print(explain_os_error(error), file=sys.stderr)
        code = 1
        if error.errno in (errno.EMFILE, errno.ENFILE):
            # A loader of torch that this error left half made fails in its __del__, with a traceback of its own.
            sys.unraisablehook = lambda *_: None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = SIGINT_EXIT
    except SystemExit as stop:  # by SIGTERM, or of argparse
        code = stop.code
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # One of torchrun's processes: taking its connections apart can wait for ever for a process that has left.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
