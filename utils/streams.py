"""How is what C++ libraries write to stdout or stderr kept away from the user?"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def redirected(number: int, file: IO) -> Iterator[None]:
    """Send what is written to stdout (1) or stderr (2), by C++ code too, to ``file``; a closed one stays as it is.

    The whole process is redirected, so only one thread at a time may use this.
    """
    (sys.stdout if number == 1 else sys.stderr).flush()
    try:
        kept = os.dup(number)
    except OSError:  # it is closed
        yield
        return
    os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)
