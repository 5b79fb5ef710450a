"""Which recordings are meant? Files, folders (all that is in them) and patterns -> a list of paths."""

import glob
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from dataloader.audio.endings import ENDINGS, sound_files_not_used
from utils.errors import DataError

log = logging.getLogger(__name__)


def find_recordings(inputs: Iterable[Path | str]) -> list[Path]:
    """The recordings that ``inputs`` name, each once, in order; those of a folder or a pattern sorted.

    A file is taken whatever its ending; of folders and patterns, what ends in one of ``ENDINGS`` and is not hidden.
    Links are followed.

    Raises:
        DataError: nothing is there, or no recording is in it, or a folder cannot be read.
    """
    found: dict[str, Path] = {}
    names: set[str] = set()
    others: list[str] = []  # files of folders and patterns that are not taken
    for given in map(str, inputs):
        if not given:
            raise DataError("an empty name among the inputs, as of a variable that is not set; '.' is this folder")
        path = Path(given)
        if path.is_dir():
            recordings = _in_folder(path, others)
        elif path.exists():
            recordings = [path]
        elif glob.has_magic(given):  # a pattern that the shell has left alone, such as 'night/**/*.wav'
            recordings = [path for name in sorted(glob.glob(given, recursive=True)) for path in _matched(name, others)]
        else:
            raise DataError(f"{given}: no such file or folder")
        if not recordings:
            unused = sound_files_not_used(others)
            raise DataError(f"{given}: no recording is there ({unused or ', '.join(ENDINGS)})")
        for recording in recordings:
            found.setdefault(os.path.realpath(recording), recording)
            names.add(recording.name)
    if other := names - {recording.name for recording in found.values()}:
        log.warning("%d names are links to recordings of other names, and left out: %s ...", len(other), min(other))
    if unused := sound_files_not_used(others):
        log.warning("%s", unused)
    return list(found.values())


def _matched(name: str, others: list[str]) -> list[Path]:
    """The recordings of what a pattern matches, as if the shell had put it in the pattern's place."""
    if os.path.isdir(name):
        return _in_folder(Path(name), others)
    if _is_recording(name):
        return [Path(name)]
    others.append(name)
    return []


def _in_folder(folder: Path, others: list[str]) -> list[Path]:
    """The recordings anywhere below a folder; its other files are added to ``others``."""
    names, seen = [], set()
    for place, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names += [os.path.join(place, name) for name in files]
    recordings = [name for name in sorted(names) if _is_recording(name)]
    others += set(names).difference(recordings)
    return [Path(name) for name in recordings]


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: {error.strerror}; make it readable, or name what to score without it")


def _is_recording(name: str) -> bool:
    """A link that leads nowhere counts: reading it says so."""
    base = os.path.basename(name)
    named = base.lower().endswith(ENDINGS) and not base.startswith(".")
    return named and (os.path.isfile(name) or (os.path.islink(name) and not os.path.exists(name)))
