"""How is a folder of folders read? Each sub-folder is a species, and its recordings are examples of it."""

import re
from collections import Counter
from pathlib import Path

from dataloader.tables.schema import NEGATIVE, NOCALL, Understood, listed, table_of_recordings
from dataloader.tables.sounds import describe, find_sounds
from utils.config_checks import LABEL_FROM
from utils.errors import DataError, counted
from utils.settings import Source

NOTHING = ("noise", "background", "nocall")  # folders in which no bird calls, in upper or lower case
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_BOTH_NAMES = re.compile(r"(?P<scientific>[A-Z][a-z-]+ [a-z-]+(?: [a-z-]+)?)_(?P<common>[^_]+)")


def labels_of_folder(name: str) -> tuple[str, ...]:
    """The labels in the name of a folder.

    Several labels are separated by commas, and a leading ``-`` means "not this species", as in BirdNET-Analyzer.
    ``noise``, ``background`` and ``nocall`` mean that no bird calls.

    >>> labels_of_folder("asbfly, -comtai1")
    ('asbfly', '-comtai1')
    """
    labels = [label.strip() for label in name.split(",") if label.strip(f" {NEGATIVE}")]
    return tuple(dict.fromkeys(NOCALL if label.lower() in NOTHING else label for label in labels))


def read_folders(folder: Path, source: Source) -> Understood:
    """Read a folder of folders.

    The species is the sub-folder of ``folder``, or with [data] label_from = folder:N the folder at the N-th level.
    Folders named train, val and test at the top are the split, and the species is below them. A single folder that
    contains all others is skipped.

    Raises:
        DataError: no recording is in a sub-folder, or it is not clear which level is the species.
    """
    sounds = find_sounds(folder)
    inside = [name for name in sounds if "/" in name]
    if not inside:
        raise DataError(
            f"{folder}: no recording is in a sub-folder with the name of a species; it holds {describe(folder)}"
        )
    notes = []
    if loose := len(sounds) - len(inside):
        notes.append(
            f"{folder}: {counted(loose, 'recording')} not in a sub-folder with the name of a species; left out: "
            f"{listed([name for name in sounds if '/' not in name], 3)}"
        )
    level, splits = _level_of_species(folder, inside, source)
    short = [name for name in inside if name.count("/") <= level]
    if short:
        notes.append(f"{folder}: {counted(len(short), 'recording')} above the folders of species; left out")
        inside = [name for name in inside if name.count("/") > level]
    labels = [labels_of_folder(name.split("/")[level]) for name in inside]
    recordings = table_of_recordings(folder, inside, [str(folder / name) for name in inside], labels)
    if splits:
        recordings["split"] = [SPLITS.get(name.split("/")[0].lower(), "") for name in inside]
    names = {}
    for label in {label for found in labels for label in found}:
        if match := _BOTH_NAMES.fullmatch(label):
            names[label] = (match["scientific"], match["common"])
    species = sorted({label for found in labels for label in found if label != NOCALL and label[0] != NEGATIVE})
    which = f"folder {level + 1} on the way" if level else "the sub-folder"
    summary = f"{counted(len(inside), 'recording')} in folders, the species is {which}: {listed(species)}"
    return Understood("folders", summary, recordings, names=names, notes=notes)


def _level_of_species(folder: Path, inside: list[str], source: Source) -> tuple[int, bool]:
    """The level of the folder that is the species, from 0, and whether the first level is the split.

    Raises:
        DataError: it is not clear.
    """
    if match := LABEL_FROM.fullmatch(source.label_from):
        level = int(match[1]) - 1
        if not any(name.count("/") > level for name in inside):
            raise DataError(
                f"{folder}: label_from = {source.label_from}, but no recording is so deep: {inside[0]}; lower it"
            )
        return level, level > 0 and {name.split("/")[0].lower() for name in inside} <= set(SPLITS)
    level = 0
    while True:
        tops = {name.split("/")[level] for name in inside if name.count("/") > level}
        deeper = [name for name in inside if name.count("/") > level + 1]
        are_splits = level == 0 and {top.lower() for top in tops} <= set(SPLITS) and bool(deeper)
        holds_all = len(tops) == 1 and len(deeper) == len(inside)
        if not (are_splits or holds_all):
            break
        level += 1
    splits = level > 0 and {name.split("/")[0].lower() for name in inside} <= set(SPLITS)
    if deeper:
        depth = max(name.count("/") for name in inside)
        choices = []
        for number in range(level, depth):
            found = Counter(name.split("/")[number] for name in inside if name.count("/") > number)
            choices.append(f"folder:{number + 1} ({listed(sorted(found), 3)}: {counted(len(found), 'label')})")
        raise DataError(
            f"{folder}: recordings are up to {depth} folders deep, such as {deeper[0]}; name the folder of the "
            f"species with [data] label_from: {' or '.join(choices)}"
        )
    return level, splits
