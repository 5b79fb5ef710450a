"""How is a file or folder written by one process at a time? By a lock, which the system frees when its process dies."""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from utils.errors import DataError
from utils.files import fitting_name

log = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of some network file systems


@contextlib.contextmanager
def alone(path: Path, busy: str) -> Iterator[list[int]]:
    """Keep other processes from writing to ``path``, by a file ``.<name>.lock`` in its folder.

    Args:
        busy: the message if another process has the lock.

    Returns:
        The descriptor of the lock, for a child process that should hold it too; empty if the file system has no locks.

    Raises:
        DataError: another process has the lock.
    """
    file, descriptors = Path(os.path.abspath(path)).with_name(fitting_name(f".{path.name}", ".lock")), []
    lock = FileLock(file, timeout=0, thread_local=False, fallback_to_soft=False, on_acquired=descriptors.append)
    try:
        lock.acquire()
    except Timeout:
        raise DataError(busy) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("%s: no locks on this file system; make sure that no other process writes there", file)
        yield []
        return
    try:
        yield descriptors
    finally:
        file.unlink(missing_ok=True)  # while it is held: a process that has just opened it notices that it is gone
        lock.release()
