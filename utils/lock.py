"""One process at a time: a lock beside what is written, which the system frees when its process dies."""

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
    """Keep other processes away from ``path``, by a file ``.<name>.lock`` beside it.

    Args:
        busy: the message where another process has it.

    Returns:
        The descriptor of the lock, for a child that is to hold it as well; nothing where the file system has no locks.

    Raises:
        DataError: another process has it.
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
        file.unlink(missing_ok=True)  # while it is held: whoever has just opened it sees that it is gone
        lock.release()
