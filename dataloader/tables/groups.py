"""Which recordings belong on one side of a split? What is known of recordist and place, or what file names say."""

import math
import posixpath
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_CATALOGUE = re.compile(r"(?:^|[^A-Za-z0-9])((?:XC|iNat|CSA|ML)\d{3,})(?!\d)", re.IGNORECASE)
_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_]?(0[1-9]|1[0-2])[-_]?(0[1-9]|[12]\d|3[01])(?!\d)")


def catalogue_number(filename: str) -> str:
    """The number of a recording in an archive, such as ``XC134896``; empty where the name has none."""
    match = _CATALOGUE.search(_stem(filename))
    return match[1].upper() if match else ""


def group_from_name(filename: str) -> str:
    """What the name of a file says about what belongs together; empty where it says nothing.

    Cuttings of one recording of an archive (``XC134896_2.wav``), and what one recorder recorded on one day
    (``S4A03895_20190522_043000.wav``).
    """
    if number := catalogue_number(filename):
        return number
    stem = _stem(filename)
    if match := _DAY.search(stem):
        recorder = stem[: match.start()].strip("_- ") or str(PurePosixPath(filename).parent)
        return f"{recorder}|{match[1]}{match[2]}{match[3]}"
    return ""


def _stem(filename: str) -> str:
    """Without folders and ending; text, as a path for each of 100,000 takes seconds."""
    return posixpath.splitext(posixpath.basename(filename))[0]


def choose_groups(table: "pd.DataFrame", group_by: str) -> tuple[list[str], str]:
    """The group of each recording, and what it was taken from, for people.

    Args:
        table: with ``filename`` and, where known, ``group``, ``author``, ``latitude``, ``longitude``, ``place``.
        group_by: of [data]. ``author`` is the caller's: it joins groups.
    """
    names = table["filename"].tolist()
    if group_by == "file":
        return names, "each recording is a group of its own ([data] group_by = file)"
    if group_by == "folder":
        return [str(PurePosixPath(name).parent) for name in names], "the folder ([data] group_by = folder)"
    given, people = _column(table, "group"), _people_and_places(table)
    from_names = [group_from_name(name) for name in names]
    groups, used = [], dict.fromkeys(("the table's group", "recordist and place", "names of files", "file alone"), 0)
    for name, one, person, from_name in zip(names, given, people, from_names, strict=True):
        group = one or person or from_name or name
        kind = (one and "the table's group") or (person and "recordist and place")
        used[kind or ("names of files" if from_name else "file alone")] += 1
        groups.append(group)
    words = {
        "the table's group": "the table's group",
        "recordist and place": "recordist and place",
        "names of files": "archive number or recorder and day in the file's name",
        "file alone": "each recording by itself, as nothing is known of its recordist, place or day",
    }
    return groups, "; ".join(f"{words[kind]} ({count:,})" for kind, count in used.items() if count)


def _column(table: "pd.DataFrame", name: str) -> list[str]:
    return table[name].fillna("").str.strip().tolist() if name in table else [""] * len(table)


def _people_and_places(table: "pd.DataFrame") -> list[str]:
    """Recordist and place (0.01 degree, about 1 km); empty where neither is known."""
    groups = []
    columns = (_column(table, name) for name in ("author", "latitude", "longitude", "place"))
    for author, latitude, longitude, place in zip(*columns, strict=True):
        rounded = [_degrees(latitude), _degrees(longitude)]
        known = author or all(rounded) or place
        where = rounded if all(rounded) or not place else [place]
        groups.append(f"{author}|{'|'.join(where)}" if known else "")
    return groups


def _degrees(text: str) -> str:
    """Rounded; nothing where it is not known."""
    try:
        degrees = round(float(text), 2) + 0.0  # never -0.0, which is written otherwise than 0.0
    except ValueError:
        return ""
    return f"{degrees:.2f}" if math.isfinite(degrees) else ""
