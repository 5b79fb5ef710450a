"""How is a file written completely or not at all?"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from utils.errors import DataError

# .<name>.<host>.<pid>.tmp names its process, so that only files of dead processes are removed.
TEMPORARY = re.compile(r"^\..+\.(?P<host>[^.]+)\.(?P<pid>\d+)\.tmp$")

_LONGEST_NAME = 255  # bytes, on every common file system
_LONGEST_OUTPUT = 240  # bytes of a name that the program chooses


def printable(path: Path | str) -> str:
    """A path as text; bytes that are not UTF-8 are written as numbers, so that different names stay different."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def host() -> str:
    """This machine's name, without the dots that separate the parts of a temporary file's name."""
    return socket.gethostname().replace(".", "-") or "localhost"


def temporary_for(path: Path) -> Path:
    """The path of a temporary file in the folder of ``path`` that no other live process uses."""
    ending = f".{host()}.{os.getpid()}.tmp"
    temporary = path.with_name(f".{path.name}{ending}")
    if len(os.fsencode(temporary.name)) > _LONGEST_NAME:
        temporary = path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()}{ending}")
    return temporary


def fitting_name(name: str, ending: str) -> str:
    """``name + ending``, short enough for a file: a name of more than 240 bytes ends in a digest instead.

    The limit of file systems is 255 bytes; the program uses the rest for its own endings, such as ``.lock``.
    """
    if len(os.fsencode(name + ending)) <= _LONGEST_OUTPUT:
        return name + ending
    digest = f"-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
    room = _LONGEST_OUTPUT - len(digest) - len(os.fsencode(ending))
    start = os.fsencode(name)[:room].decode("utf-8", errors="ignore")
    return start + digest + ending


@contextlib.contextmanager
def whole(path: Path | str, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to; when the block ends without an error, the file becomes ``path``.

    A reader sees the old file or the new one, never a part of one. After an error the temporary file is removed and
    ``path`` is unchanged.

    Args:
        durable: wait until the file and its name are on the disk, so that they survive a power cut. Without it they
            survive the death of the process only, and a power cut may leave an empty file. This is enough for files
            that have a checksum and can be made again.
    """
    path = Path(path)
    temporary = temporary_for(path)
    try:
        yield temporary
        if durable:
            _flush(temporary)
        os.replace(temporary, path)
    except BaseException:  # a Ctrl-C must not leave a part of a file either
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _flush(path.parent)


def write_text(path: Path | str, text: str, *, durable: bool = True) -> None:
    """Write ``text`` as UTF-8, completely or not at all."""
    with whole(path, durable=durable) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a text file, without blanks around them and without empty lines.

    Args:
        what: the option and what it takes, for the message, such as ``--species takes one species on each line``.

    Raises:
        DataError: it is missing, or not a text file.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {what}") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise DataError(f"{path}: this is not a text file; {what}") from None
    return [line.strip() for line in lines if line.strip()]


def holds(path: Path, text: str) -> bool:
    """Whether ``text`` is what ``path`` holds."""
    return path.is_file() and path.read_bytes() == text.encode("utf-8")


def keep_text(path: Path, text: str) -> None:
    """Write ``text`` unless ``path`` already holds it; so a complete folder may be on a read-only disk."""
    if not holds(path, text):
        write_text(path, text)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def second_name(path: Path, name: Path) -> None:
    """Give the content of ``path`` the name ``name`` too, completely or not at all; without a copy if links work."""
    temporary = temporary_for(name)
    try:
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, temporary)
            _flush(temporary)
        os.replace(temporary, name)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> int:
    """Remove temporary files directly in ``folder`` whose process on this machine is dead; return how many."""
    removed = 0
    for entry in os.scandir(folder):
        match = TEMPORARY.match(entry.name)
        if match and match["host"] == host() and not _alive(int(match["pid"])):
            with contextlib.suppress(PermissionError):  # a file of another user, in a shared folder
                Path(entry.path).unlink(missing_ok=True)
                removed += 1
    return removed


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is alive, and belongs to another user
        return True
    return True


def _flush(path: Path) -> None:
    """Wait until ``path`` (a file, or a folder's list of names) is on the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows cannot open a folder
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.EBADF):  # some network file systems
            raise
    finally:
        os.close(handle)


def must_be_writable(path: Path) -> None:
    """Check before hours of work that ``path`` can be written, without writing anything.

    Raises:
        DataError: it cannot.
    """
    folder = Path(os.path.abspath(path)).parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise DataError(f"{folder} is a file, not a folder; choose another folder")
    if not (path.is_file() or path.is_dir()) and path.exists():
        raise DataError(f"{path}: a device or a pipe; choose the name of a file")
    for target in (folder, path):
        if target.is_dir() and not os.access(target, os.W_OK):
            raise DataError(f"{target}: permission denied; choose a folder you may write to")
