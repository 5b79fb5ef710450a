"""A folder of folders: each sub-folder a species, the recordings in it examples of it."""

import re
from collections import Counter
from pathlib import Path

from dataloader.tables.schema import NEGATIVE, NOCALL, Understood, counted, listed
from dataloader.tables.sounds import describe, find_sounds
from utils.config import Source
from utils.config_checks import LABEL_FROM
from utils.errors import DataError

NOTHING = ("noise", "background", "nocall")  # folders in which no bird calls, in any case of letters
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_BOTH_NAMES = re.compile(r"(?P<scientific>[A-Z][a-z-]+ [a-z-]+(?: [a-z-]+)?)_(?P<common>[^_]+)")


def labels_of_folder(name: str) -> tuple[str, ...]:
    """The labels that the name of a folder means.

    Several stand with commas between, a leading ``-`` says "not this one", as BirdNET-Analyzer reads them; ``noise``,
    ``background`` and ``nocall`` mean that no bird calls.

    >>> labels_of_folder("asbfly, -comtai1")
    ('asbfly', '-comtai1')
    """
    names = [part.strip() for part in name.split(",") if part.strip(f" {NEGATIVE}")]
    return tuple(dict.fromkeys(NOCALL if one.lower() in NOTHING else one for one in names))


def read_folders(folder: Path, source: Source) -> Understood:
    """Read a folder of folders.

    The species is the sub-folder of ``folder``, or the N-th on the way with [data] label_from = folder:N. Folders
    named train, val and test at the top are the split, and the species is below them; a single folder that holds
    all others is gone through.

    Raises:
        DataError: no recording in a sub-folder, or folders of folders of which it is not clear which is the species.
    """
    import pandas as pd

    sounds = find_sounds(folder)
    inside = [name for name in sounds if "/" in name]
    if not inside:
        raise DataError(
            f"{folder}: no recording in a sub-folder, so no species is known; the folder holds {describe(folder)}"
        )
    notes = []
    if loose := len(sounds) - len(inside):
        notes.append(
            f"{folder}: {counted(loose, 'recording')} in no sub-folder, so of no known species; left out: "
            f"{listed([name for name in sounds if '/' not in name], 3)}"
        )
    level, splits = _level_of_species(folder, inside, source)
    short = [name for name in inside if name.count("/") <= level]
    if short:
        notes.append(f"{folder}: {counted(len(short), 'recording')} above the folders of species; left out")
        inside = [name for name in inside if name.count("/") > level]
    parts = [name.split("/") for name in inside]
    labels = [labels_of_folder(part[level]) for part in parts]
    recordings = pd.DataFrame(
        {
            "filename": inside,
            "path": [str(folder / name) for name in inside],
            "labels": labels,
            "secondary_labels": [()] * len(inside),
            "where": [str(folder / name) for name in inside],
            "split": [SPLITS.get(part[0].lower(), "") if splits else "" for part in parts],
        }
    )
    if not splits:
        recordings = recordings.drop(columns="split")
    names = {}
    for label in {label for found in labels for label in found}:
        if match := _BOTH_NAMES.fullmatch(label):
            names[label] = (match["scientific"], match["common"])
    species = sorted({label for found in labels for label in found if label != NOCALL and label[0] != NEGATIVE})
    which = f"folder {level + 1} on the way" if level else "the sub-folder"
    said = f"{counted(len(inside), 'recording')} in folders, the species is {which}: {listed(species)}"
    return Understood("folders", said, recordings, names=names, notes=notes)


def _level_of_species(folder: Path, inside: list[str], source: Source) -> tuple[int, bool]:
    """Which folder on the way is the species, from 0, and whether the first is the split.

    Raises:
        DataError: it is not clear.
    """
    if match := LABEL_FROM.fullmatch(source.label_from):
        level = int(match[1]) - 1
        if not any(name.count("/") > level for name in inside):
            raise DataError(
                f"{folder}: label_from = {source.label_from}, and no recording lies so deep, such as {inside[0]}"
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
            f"{folder}: recordings lie up to {depth} folders deep, such as {deeper[0]}; say which folder is the "
            f"species by [data] label_from: {' or '.join(choices)}"
        )
    return level, splits
