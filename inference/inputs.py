"""Which recordings do files, folders and patterns name?"""

import glob
import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from dataloader.audio.endings import ENDINGS, sound_files_not_used
from dataloader.audio.recorder import recorder_columns
from dataloader.tables.schema import TIME_EXPANSION
from dataloader.tables.sources import sources_of
from utils.config import load_config
from utils.errors import DataError, counted

log = logging.getLogger(__name__)


def find_recordings(inputs: Iterable[Path | str]) -> list[Path]:
    """The recordings that ``inputs`` name, each of them once.

    They are in the order of the inputs; the recordings of a folder or a pattern are sorted. A file that is named
    directly is taken whatever its ending. Folders (searched recursively) and patterns give the files that end in one
    of ``ENDINGS`` and are not hidden. Links are followed.

    Raises:
        DataError: an input does not exist, or holds no recording, or a folder cannot be read.
    """
    found: dict[str, Path] = {}
    names: set[str] = set()
    others: list[str] = []  # files of folders and patterns that are not taken
    for name in map(str, inputs):
        if not name:
            raise DataError("an input is empty, perhaps a variable that is not set; use '.' for the current folder")
        path = Path(name)
        if path.is_dir():
            recordings = _in_folder(path, others)
        elif path.exists():
            recordings = [path]
        elif glob.has_magic(name):  # a quoted pattern such as 'night/**/*.wav'
            recordings = [path for match in sorted(glob.glob(name, recursive=True)) for path in _matched(match, others)]
        else:
            raise DataError(f"{name}: no such file or folder")
        if not recordings:
            unused = sound_files_not_used(others)
            raise DataError(f"{name}: there is no recording in it ({unused or ', '.join(ENDINGS)})")
        for recording in recordings:
            found.setdefault(os.path.realpath(recording), recording)
            names.add(recording.name)
    if other := names - {recording.name for recording in found.values()}:
        links = counted(len(other), "link leads", "links lead")
        log.warning("%s to a recording that is already there under another name; left out: %s ...", links, min(other))
    if unused := sound_files_not_used(others):
        log.warning("%s", unused)
    return list(found.values())


def time_expansions(recordings: Sequence[Path], of_all: float | None) -> dict[Path, float]:
    """How many times slower each recording plays than the original sound; only those that do not play at its speed.

    Args:
        of_all: the factor of all recordings; None: what each states itself.
    """
    if of_all is not None:
        return dict.fromkeys(recordings, of_all) if of_all != 1 else {}
    stated = recorder_columns(recordings)[TIME_EXPANSION]
    found = {path: factor for path, factor in zip(recordings, stated, strict=True) if factor != 1}
    if found:
        plays = counted(len(found), "recording states that it plays", "recordings state that they play")
        (factor, _), *others = Counter(found.values()).most_common()
        times = f"{factor:g} times" + (" (most of them)" if others else "")
        log.info(
            "%s %s slower than the original sound, which is taken into account; --time-expansion 1 ignores it",
            plays,
            times,
        )
    return found


def trained_expansion(path: Path) -> float:
    """The time expansion that the config of a run sets for its data, or for one of its sources; 1 where none does."""
    config = load_config(path)
    factors = [source.time_expansion for source in sources_of(config).values()]
    return next((factor for factor in factors if factor != 1), 1.0)


def _matched(name: str, others: list[str]) -> list[Path]:
    """The recordings of one match of a pattern, as if the shell had expanded it."""
    if os.path.isdir(name):
        return _in_folder(Path(name), others)
    if _is_recording(name):
        return [Path(name)]
    others.append(name)
    return []


def _in_folder(folder: Path, others: list[str]) -> list[Path]:
    """The recordings anywhere below a folder; its other files are added to ``others``."""
    names, seen = [], set()
    for current, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        if (real := os.path.realpath(current)) in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names += [os.path.join(current, name) for name in files]
    recordings = [name for name in sorted(names) if _is_recording(name)]
    others += set(names).difference(recordings)
    return [Path(name) for name in recordings]


def _refuse(error: OSError) -> None:
    raise DataError(
        f"{error.filename}: {error.strerror}; make it readable, or name the other files and folders one by one"
    )


def _is_recording(name: str) -> bool:
    """A broken link counts as a recording, so that reading it reports the problem."""
    base = os.path.basename(name)
    named = base.lower().endswith(ENDINGS) and not base.startswith(".")
    return named and (os.path.isfile(name) or (os.path.islink(name) and not os.path.exists(name)))
