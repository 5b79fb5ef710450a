"""One process at a time: a lock beside what is written, which the kernel frees when its process dies."""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from utils.errors import DataError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

log = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of some network file systems
_TAKEN = (errno.EACCES, errno.EAGAIN)
_held: set[Path] = set()  # by this process, which the system would give any of them again


@contextlib.contextmanager
def alone(path: Path, busy: str) -> Iterator[None]:
    """Keep other processes away from ``path``, by a file ``.<name>.lock`` beside it.

    The lock is this process's alone: one that it forks, such as a worker that outlives it, does not hold it.

    Args:
        busy: told where another process has it.

    Raises:
        DataError: another process has it.
    """
    path = Path(os.path.abspath(path)).with_name(f".{path.name}.lock")
    if path in _held:
        raise DataError(busy)
    with open(path, "ab") as file:
        if not _lock(file):
            raise DataError(busy)
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)
            path.unlink(missing_ok=True)


def _lock(file: BinaryIO) -> bool:
    """Whether the file is this process's now: no other holds it, nor has just removed it."""
    if fcntl is None:
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("%s: no locks on this file system; see to it that no other process writes there", file.name)
        return True
    return os.fstat(file.fileno()).st_nlink > 0
