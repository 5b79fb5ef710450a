"""Which recordings must be in one subset? Those of one recordist and place, or of one group by their filenames."""

import math
import posixpath
import re
from collections import Counter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_CATALOGUE = re.compile(r"(?:^|[^A-Za-z0-9])((?:XC|iNat|CSA|ML)\d{3,})(?!\d)", re.IGNORECASE)
_ORIGINS = (
    "the table's group",
    "recordist and place",
    "the archive number, or recorder and day, in the filename",
    "the recording alone, because its recordist, place and day are unknown",
)
_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_]?(0[1-9]|1[0-2])[-_]?(0[1-9]|[12]\d|3[01])(?!\d)")


def catalogue_number(filename: str) -> str:
    """The number of a recording in an archive, such as ``XC134896``; empty if the name has none."""
    match = _CATALOGUE.search(_stem(filename))
    return match[1].upper() if match else ""


def group_from_name(filename: str) -> str:
    """The group that the name of a file shows; empty if it shows none.

    Parts of one recording of an archive (``XC134896_2.wav``) belong together, and all files of one recorder on one day
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
    """The group of each recording, and in words where it comes from.

    Args:
        table: with ``filename`` and, if known, ``group``, ``author``, ``latitude``, ``longitude``, ``place``.
        group_by: of [data]. The caller handles ``author``, which joins groups.
    """
    names = table["filename"].tolist()
    if group_by == "file":
        return names, "the recording alone ([data] group_by = file)"
    if group_by == "folder":
        return [str(PurePosixPath(name).parent) for name in names], "the folder ([data] group_by = folder)"
    candidates = _column(table, "group"), _people_and_places(table), map(group_from_name, names), names
    groups, counts = [], Counter()
    for row in zip(*candidates, strict=True):
        origin = next(number for number, group in enumerate(row) if group)
        groups.append(row[origin])
        counts[origin] += 1
    return groups, "; ".join(f"{text} ({counts[number]:,})" for number, text in enumerate(_ORIGINS) if counts[number])


def _column(table: "pd.DataFrame", name: str) -> list[str]:
    return table[name].fillna("").str.strip().tolist() if name in table else [""] * len(table)


def _people_and_places(table: "pd.DataFrame") -> list[str]:
    """Recordist and place (0.01 degree, about 1 km); empty if neither is known."""
    groups = []
    columns = (_column(table, name) for name in ("author", "latitude", "longitude", "place"))
    for author, latitude, longitude, place in zip(*columns, strict=True):
        rounded = [_degrees(latitude), _degrees(longitude)]
        known = author or all(rounded) or place
        where = rounded if all(rounded) or not place else [place]
        groups.append(f"{author}|{'|'.join(where)}" if known else "")
    return groups


def _degrees(text: str) -> str:
    """The degrees, rounded; empty if unknown."""
    try:
        degrees = round(float(text), 2) + 0.0  # never -0.0, which is written differently from 0.0
    except ValueError:
        return ""
    return f"{degrees:.2f}" if math.isfinite(degrees) else ""
