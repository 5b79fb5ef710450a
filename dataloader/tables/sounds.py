"""Which sound files are in a folder, and which of them does a name in a table mean?"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from dataloader.audio.endings import ENDINGS
from dataloader.tables.reading import WORKBOOKS
from dataloader.tables.schema import listed
from utils.errors import DataError, counted

_NOT_OURS = ("__MACOSX", "System Volume Information", "$RECYCLE.BIN")


def find_sounds(folder: Path) -> list[str]:
    """The sound files below ``folder`` as relative paths with ``/``, sorted; hidden files and folders are left out.

    Raises:
        DataError: the folder cannot be read.
    """
    return [name for name in find_files(folder) if name.lower().endswith(ENDINGS)]


def find_files(folder: Path) -> list[str]:
    """All files below ``folder`` as relative paths with ``/``, sorted; hidden ones are left out, links are followed."""
    found, seen = [], set()

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: the folder cannot be read: {error.strerror}")

    for parent, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _NOT_OURS]
        below = os.path.relpath(parent, folder)
        prefix = "" if below == "." else below.replace(os.sep, "/") + "/"
        found += [prefix + name for name in files if not name.startswith(".")]
    return sorted(found)


def describe(folder: Path) -> str:
    """What is in a folder, in one line: sound files, sub-folders with them, tables."""
    files = find_files(folder)
    sounds = [name for name in files if name.lower().endswith(ENDINGS)]
    folders = Counter(str(PurePosixPath(name).parent) for name in sounds)
    inside = len([name for name in folders if name != "."])
    tables = [name for name in files if name.count("/") < 2 and name.lower().endswith((".csv", ".tsv", ".parquet"))]
    text = counted(len(sounds), "recording") + (f" in {counted(inside, 'sub-folder')}" if inside else "")
    workbooks = [name for name in files if name.count("/") < 2 and name.lower().endswith(WORKBOOKS)]
    if tables:
        return f"{text}, and the {'table' if len(tables) == 1 else 'tables'} {listed(tables)}"
    if workbooks:
        return f"{text}, and {listed(workbooks)}, which is read only when it is saved as CSV"
    return f"{text}, and no table"


def check_filename(name: str, where: str) -> None:
    """Refuse a name that cannot be a file below the data folder.

    Raises:
        DataError: it is empty, has a line break, or leads out of the folder.
    """
    if not name.strip():
        raise DataError(f"{where}: filename is empty; name the recording")
    if not name.strip("./") or any(character < " " for character in name):
        raise DataError(f"{where}: filename {name!r} cannot be the name of a file; correct it")
    if name.startswith("/") or ".." in name.replace("\\", "/").split("/"):
        raise DataError(f"{where}: filename {name!r} leads out of the data folder; correct it")


class Finder:
    """Finds the files that the names in a table mean.

    A file is taken from the first of ``folders`` that has it. Names with backslashes, or with accents that are composed
    differently (NFC, NFD) from the file's, are found too; ``odd`` counts these.

    Args:
        folders: the folders to search, in this order.
        base: ``filename`` is relative to it; a recording elsewhere is named by its absolute path without the root.
    """

    def __init__(self, folders: Iterable[Path], base: Path):
        self._folders, self._base = [str(folder) for folder in folders], os.path.normpath(base)
        self._listed: dict[str, dict[str, str]] = {}
        self.odd: Counter[str] = Counter()

    def find(self, name: str) -> tuple[str, str]:
        """``(filename, path)`` of a name; if there is no such file, its path in the first folder."""
        plain = os.path.normpath(name.replace("\\", "/"))
        for candidate in dict.fromkeys((os.path.normpath(name), plain)):
            for folder in self._folders:
                if (path := self._listing(folder, candidate)) is not None:
                    if candidate != os.path.normpath(name):
                        self.odd["backslashes in place of /"] += 1
                    return self._identity(folder, candidate), path
        return self._identity(self._folders[0], plain), os.path.join(self._folders[0], plain)

    def _identity(self, folder: str, name: str) -> str:
        path = os.path.normpath(os.path.join(folder, name))  # text, as a Path for each of 100,000 takes seconds
        inside = self._base + os.sep if self._base != "." else ""
        below = path.removeprefix(inside) if path.startswith(inside) else os.path.splitdrive(path)[1].lstrip(os.sep)
        return below.replace(os.sep, "/")

    def _listing(self, folder: str, name: str) -> str | None:
        """The path of the file with this name, however its accents are composed; None if there is none."""
        if name.startswith("..") or os.path.isabs(name):
            path = os.path.normpath(os.path.join(folder, name))
            return path if os.path.exists(path) else None
        path, odd = folder, False
        for wanted in name.split(os.sep):
            names = self._names_in(path)
            there = names.get(wanted) or names.get(composed(wanted))
            if there is None:
                return None
            odd |= there != wanted
            path = os.path.join(path, there)
        self.odd["accents composed differently (NFC, NFD) from the file's name"] += odd
        return path

    def _names_in(self, folder: str) -> dict[str, str]:
        """The names in a folder, as they are and composed; one listing is faster than a search for each file."""
        if folder not in self._listed:
            try:
                names = os.listdir(folder)
            except OSError:
                names = []
            self._listed[folder] = {composed(name): name for name in names} | {name: name for name in names}
        return self._listed[folder]


def odd_names(finder: Finder, path: Path) -> list[str]:
    """A line for each way in which names in the table differ from those of the files."""
    return [
        f"{path}: {counted(count, 'filename')} with {what}; the files were found nevertheless"
        for what, count in finder.odd.items()
        if count
    ]


class SoundNames:
    """Which recording does a table mean by the name or path that a program on another machine gave it?

    Args:
        sounds: relative paths of the recordings that are there.
    """

    def __init__(self, sounds: Iterable[str]):
        self._known: tuple[dict[str, list[str]], ...] = ({}, {}, {})  # by name, by name in any case, by stem
        for sound in sounds:
            name = composed(PurePosixPath(sound).name)
            for known, key in zip(self._known, (name, name.casefold(), PurePosixPath(name).stem), strict=True):
                known.setdefault(key, []).append(sound)

    def find(self, text: str) -> list[str]:
        """The recordings that a name or path may mean; of several with one name, those in the most similar folder.

        Capital and small letters may differ, the ending may be missing, and a recording that was converted since
        keeps its name except for the ending.
        """
        *folders, name = re.split(r"[\\/]", composed(text.strip()))
        by_name, any_case, by_stem = self._known
        found = by_name.get(name) or any_case.get(name.casefold()) or by_stem.get(name)
        found = found or by_stem.get(PurePosixPath(name).stem, [])
        shared = {sound: _shared_tail(folders, PurePosixPath(composed(sound)).parts[:-1]) for sound in found}
        return [sound for sound in found if shared[sound] == max(shared.values())]


def _shared_tail(first: Sequence[str], second: Sequence[str]) -> int:
    """How many folders two paths share, counted from their ends."""
    pairs = zip(reversed(first), reversed(second), strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def composed(text: str) -> str:
    """A text with its accents composed: the same name, whichever system has written it."""
    return unicodedata.normalize("NFC", text)
