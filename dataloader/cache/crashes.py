"""Which recordings did a start that crashed have in hand? So that the next start tries them with care.

A C library that crashes on a recording takes its process along: with several processes only a worker, with one
worker or with threads the whole run. For that case a file beside the cache says what is in hand, and
faulthandler, which the system calls on a crash (and not on kill -9), adds its report to that file.
"""

import contextlib
import faulthandler
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from utils.files import temporary_for

InHand = Callable[[str], AbstractContextManager[None]]

_CRASH = (b"Fatal Python error", b"Windows fatal exception")  # how a report of faulthandler begins


@contextlib.contextmanager
def journal(folder: Path) -> Iterator[InHand]:
    """Keep the journal of this process in ``folder``; ``with in_hand(filename):`` goes around the work on a recording.

    Two short writes a recording, nothing else: it lives in the system's memory, which a crash does not reach.
    """
    path = temporary_for(folder / "in_hand")  # of a dead process: it is removed with what else such leave
    others = faulthandler.is_enabled()
    with open(path, "ab", buffering=0) as file:

        @contextlib.contextmanager
        def in_hand(filename: str) -> Iterator[None]:
            name = os.fsencode(filename)
            file.write(b"+" + name + b"\n")
            yield
            file.write(b"-" + name + b"\n")

        faulthandler.enable(file)
        try:
            yield in_hand
        finally:
            faulthandler.disable()
            if others and sys.__stderr__ is not None:
                faulthandler.enable(sys.__stderr__)
            path.unlink(missing_ok=True)


def take_suspects(folder: Path) -> set[str]:
    """The recordings that crashed starts had in hand, by filename; their journals are removed."""
    suspects = set()
    for path in folder.glob(".in_hand.*.tmp"):
        try:
            text = path.read_bytes()
        except FileNotFoundError:  # another process has just done the same
            continue
        if any(crash in text for crash in _CRASH):
            for line in text.split(b"\n"):
                if line[:1] == b"+":
                    suspects.add(os.fsdecode(line[1:]))
                elif line[:1] == b"-":
                    suspects.discard(os.fsdecode(line[1:]))
            path.unlink(missing_ok=True)
    return suspects
