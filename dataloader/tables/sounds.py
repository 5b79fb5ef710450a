"""Which sound files are in a folder, and which file does a name in a table mean?"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from dataloader.audio.decoding import ENDINGS
from dataloader.tables.schema import counted, listed
from utils.errors import DataError

_NOT_OURS = ("__MACOSX", "System Volume Information", "$RECYCLE.BIN")


def find_sounds(folder: Path) -> list[str]:
    """The sound files below ``folder`` as relative paths with ``/``, sorted; hidden files and folders are left out.

    Raises:
        DataError: the folder cannot be read.
    """
    return [name for name in find_files(folder) if name.lower().endswith(tuple(ENDINGS))]


def find_files(folder: Path) -> list[str]:
    """All files below ``folder`` as relative paths with ``/``, sorted; hidden ones are left out, links are followed."""
    found, seen = [], set()

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: the folder cannot be read: {error.strerror}")

    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _NOT_OURS]
        below = os.path.relpath(place, folder)
        parent = "" if below == "." else below.replace(os.sep, "/") + "/"
        found += [parent + name for name in files if not name.startswith(".")]
    return sorted(found)


def describe(folder: Path) -> str:
    """What is in a folder, in one line: sound files, sub-folders with them, tables."""
    files = find_files(folder)
    sounds = [name for name in files if name.lower().endswith(tuple(ENDINGS))]
    folders = Counter(str(PurePosixPath(name).parent) for name in sounds)
    inside = len([name for name in folders if name != "."])
    tables = [name for name in files if name.count("/") < 2 and name.lower().endswith((".csv", ".tsv", ".parquet"))]
    text = counted(len(sounds), "recording") + (f" in {counted(inside, 'sub-folder')}" if inside else "")
    if tables:
        return f"{text}, and the {'table' if len(tables) == 1 else 'tables'} {listed(tables)}"
    return f"{text}, and no table"


def check_filename(name: str, where: str) -> None:
    """Refuse what is no name of a file below the data folder.

    Raises:
        DataError: it is empty, holds a line break, or leads out of the folder.
    """
    if not name.strip():
        raise DataError(f"{where}: filename is empty; name the recording")
    if not PurePosixPath(name).name or any(character < " " for character in name):
        raise DataError(f"{where}: filename {name!r} is no name of a file; correct it")
    if name.startswith("/") or ".." in PurePosixPath(name.replace("\\", "/")).parts:
        raise DataError(f"{where}: filename {name!r} leads out of the data folder; correct it")


class Finder:
    """Finds the files that the names in a table mean.

    Names are taken below ``folders``, the first that has them. A name with backslashes, or with accents composed in
    another way (NFC, NFD) than the file's, is found too; ``odd`` counts these.

    Args:
        folders: where to look, in this order.
        base: what ``filename`` is relative to; a recording elsewhere is named by its absolute path without the root.
    """

    def __init__(self, folders: Iterable[Path], base: Path):
        self._folders, self._base = [Path(folder) for folder in folders], Path(base)
        self._listed: dict[str, dict[str, str]] = {}
        self.odd: Counter[str] = Counter()

    def find(self, name: str) -> tuple[str, str]:
        """``(filename, path)`` of a name; where no file is there the first place that it could have."""
        plain = os.path.normpath(name.replace("\\", "/")) if "\\" in name else os.path.normpath(name)
        for candidate in dict.fromkeys((os.path.normpath(name), plain)):
            for folder in self._folders:
                if (path := self._listing(folder, candidate)) is not None:
                    if candidate != os.path.normpath(name):
                        self.odd["backslashes in place of /"] += 1
                    return self._identity(folder, candidate), path
        return self._identity(self._folders[0], plain), str(self._folders[0] / plain)

    def _identity(self, folder: Path, name: str) -> str:
        path = Path(os.path.normpath(folder / name))
        return path.relative_to(self._base if path.is_relative_to(self._base) else path.anchor).as_posix()

    def _listing(self, folder: Path, name: str) -> str | None:
        """The path of the file with this name, however its accents are composed; None where there is none."""
        if name.startswith("..") or os.path.isabs(name):
            path = os.path.normpath(folder / name)
            return path if os.path.exists(path) else None
        place, odd = str(folder), False
        for part in name.split(os.sep):
            names = self._names_in(place)
            there = names.get(part) or names.get(unicodedata.normalize("NFC", part))
            if there is None:
                return None
            odd |= there != part
            place = os.path.join(place, there)
        self.odd["accents composed otherwise (NFC, NFD) than in the file's name"] += odd
        return place

    def _names_in(self, folder: str) -> dict[str, str]:
        """What is in a folder, by its name as it is and composed; a listing is quicker than a question a file."""
        if folder not in self._listed:
            try:
                names = os.listdir(folder)
            except OSError:
                names = []
            self._listed[folder] = {unicodedata.normalize("NFC", name): name for name in names} | {n: n for n in names}
        return self._listed[folder]


def odd_names(finder: Finder, path: Path) -> list[str]:
    """A line for each way in which names of the table differed from those of the files."""
    return [
        f"{path}: {counted(count, 'filename')} with {what}; found all the same"
        for what, count in finder.odd.items()
        if count
    ]
