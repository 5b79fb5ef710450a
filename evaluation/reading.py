"""How is a table of scores, detections or labels read, whichever tool wrote it?

Two kinds are known. A *wide* table has a row for each ``row_id`` (or ``filename``) and a column for each class, like
Kaggle's submission.csv. A *long* one has a row for each detection or annotation, with its recording, start, end,
label and perhaps score, like the CSV of predict.py, selection tables of Raven, and tables of BirdNET-Analyzer.
"""

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.errors import DataError, first_line

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("row_id", "filename")  # the first column of a wide table
COLUMNS = {  # of a long table; names are compared in lower case
    "recording": ("begin path", "begin file", "file", "filename", "filepath", "path", "recording", "audiofilename"),
    "start": ("begin time (s)", "start (s)", "start_s", "start", "start_time", "begin_time"),
    "end": ("end time (s)", "end (s)", "end_s", "end", "end_time"),
    "label": (
        "label", "species code", "species_code", "common name", "common_name", "scientific name", "scientific_name",
        "species", "annotation", "primary_label",
    ),
    "score": ("score", "confidence", "probability"),
}  # fmt: skip
_OFFSET = "file offset (s)"  # Raven: where a selection begins in its own file, if several were opened as one
_TABLES = (".csv", ".tsv", ".txt")
_OF_TOOL = re.compile(
    r"(\.BirdNET)?(\.+Table\.\d+)?(\.selections?)?(\.table|\.results?|\.labels)?\.(txt|csv|tsv)$", re.IGNORECASE
)


@dataclass(frozen=True)
class Wide:
    """A row for each key and a column for each class; ``values`` is ``(rows, classes)`` float32."""

    path: Path
    key: str
    keys: tuple[str, ...]
    labels: tuple[str, ...]
    values: np.ndarray

    def stems(self) -> list[str]:
        """The recording of each row, without its ending."""
        if self.key == "filename":
            return [stem_of(key) for key in self.keys]
        return [key.rpartition("_")[0] for key in self.keys]

    def ends(self) -> np.ndarray:
        """The end second of each row; NaN for rows that are whole recordings.

        Raises:
            DataError: a row_id does not end in one.
        """
        if self.key == "filename":
            return np.full(len(self.keys), np.nan)
        ends = np.empty(len(self.keys))
        for index, key in enumerate(self.keys):
            stem, _, text = key.rpartition("_")
            try:
                ends[index] = float(text) if stem else float("nan")
            except ValueError:
                ends[index] = float("nan")
            if not ends[index] > 0:
                raise DataError(f"{self.path}: row_id {key!r} must be <recording>_<end second>, such as soundscape_1_5")
        return ends


@dataclass(frozen=True)
class Long:
    """Detections or annotations; ``score`` is 1 if a table has none.

    Attributes:
        table: with ``recording`` (a stem, or the name of its table), ``start``, ``end``, ``score``.
        names: the possible labels, in one column each.
    """

    path: Path
    table: "pd.DataFrame"
    names: "pd.DataFrame"


def read_table(path: Path) -> Wide | Long:
    """Read a table, or all tables of a folder as one.

    Raises:
        DataError: it is not such a table; the message says where and why.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    separator, header = _header(path)
    if header[:1] and header[0] in KEYS and len(header) > 1 and not _is_long(header):
        return _read_wide(path, header, separator)
    return _read_long(path, header, separator)


def stem_of(name: str) -> str:
    """The name of a recording without folders and ending; both kinds of slashes are known."""
    base = re.split(r"[/\\]", name.strip())[-1]
    stem, ending = os.path.splitext(base)
    return stem if 1 < len(ending) <= 6 and not ending[1:].isdigit() else base


def _header(path: Path) -> tuple[str, list[str]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            line = file.readline()
            if not line.strip():
                raise DataError(f"{path}: it is empty, or begins with an empty line")
            separator = next((one for one in "\t,;" if one in line), ",")
            header = next(csv.reader([line], delimiter=separator), [])
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8; save the table as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}: not a table: {first_line(error)}") from None
    return separator, [name.strip() for name in header]


def _is_long(header: Sequence[str]) -> bool:
    lower = {name.lower() for name in header}
    return all(lower & set(COLUMNS[name]) for name in ("start", "end", "label"))


# Wide tables


def _read_wide(path: Path, header: Sequence[str], separator: str) -> Wide:
    import pandas as pd

    if repeated := sorted({name for name in header if list(header).count(name) > 1}):
        raise DataError(f"{path}: column {repeated[0]!r} is there twice; remove one")
    types = {header[0]: str} | dict.fromkeys(header[1:], np.float32)
    try:
        frame = pd.read_csv(
            path, sep=separator, names=list(header), header=0, dtype=types, encoding="utf-8-sig", na_filter=True
        )
    except (ValueError, OverflowError) as error:
        # from pandas: a cell is not a number, or the rows have different lengths
        raise DataError(_bad_cell(path, header, separator) or f"{path}: not a table: {first_line(error)}") from None
    if not len(frame):
        raise DataError(f"{path}: it has no rows")
    # If rows are longer than the header, pandas makes an index of the first cells.
    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(_bad_cell(path, header, separator) or f"{path}: its rows are longer than its header")
    keys = frame[header[0]]
    values = frame[list(header[1:])].to_numpy(dtype=np.float32)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        if (text := _bad_cell(path, header, separator)) and "the header has" in text:
            raise DataError(text)
        raise DataError(
            f"{path}: line {row + 2}: {header[1 + column]} of {keys.iloc[row]} is {values[row, column]}, not a finite "
            "number; fill it in"
        )
    if keys.isna().any():
        raise DataError(f"{path}: line {int(keys.isna().argmax()) + 2}: {header[0]} is empty")
    if keys.duplicated().any():
        raise DataError(f"{path}: {header[0]} {keys[keys.duplicated()].iloc[0]} is there twice; remove one")
    return Wide(path, header[0], tuple(keys), tuple(header[1:]), values)


def _bad_cell(path: Path, header: Sequence[str], separator: str) -> str | None:
    """A message about the first cell that is not a number."""
    with open(path, encoding="utf-8-sig", newline="", errors="replace") as file:
        for number, row in enumerate(csv.reader(file, delimiter=separator), 1):
            if number == 1 or not row:
                continue
            if len(row) != len(header):
                return f"{path}: line {number}: {len(row)} cells, but the header has {len(header)}"
            for name, text in zip(header[1:], row[1:], strict=True):
                try:
                    float(text)
                except ValueError:
                    return f"{path}: line {number}: {name} of {row[0]} is {text!r}, not a number"
    return None


# Long tables


def _read_folder(folder: Path) -> Long:
    import pandas as pd

    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _TABLES and path.is_file())
    if not paths:
        raise DataError(
            f"{folder}: it has no table; a folder of tables needs one (.txt, .csv, .tsv) for each recording"
        )
    tables = [_read_long(path, *reversed(_header(path))) for path in paths]
    table = pd.concat([one.table for one in tables], ignore_index=True)
    names = pd.concat([one.names for one in tables], ignore_index=True)
    return Long(folder, table, names.fillna(""))  # a table may lack a column that another one has


def _read_long(path: Path, header: Sequence[str], separator: str) -> Long:
    import pandas as pd

    lower = [name.lower() for name in header]
    found = {kind: next((name for name in names if name in lower), None) for kind, names in COLUMNS.items()}
    labels = [name for name in COLUMNS["label"] if name in lower]
    if missing := [kind for kind in ("start", "end", "label") if not found[kind]]:
        raise DataError(
            f"{path}: it is neither a table of row_id and a column for each class nor one of detections, as it has no "
            f"column for {' and '.join(missing)} ({', '.join(COLUMNS[missing[0]][:3])}, ...); it begins with "
            f"{list(header[:4])}"
        )
    try:
        frame = pd.read_csv(
            path, sep=separator, names=lower, header=0, dtype=str, keep_default_na=False, encoding="utf-8-sig",
            index_col=False,
        )  # fmt: skip
    except ValueError as error:
        raise DataError(f"{path}: not a table: {first_line(error)}") from None
    numbers = {kind: _numbers(path, frame, found[kind]) for kind in ("start", "end", "score") if found[kind]}
    start, end = numbers["start"], numbers["end"]
    if (wrong := (end < start) | (start < 0)).any():
        row = int(np.argmax(wrong))
        raise DataError(f"{path}: line {row + 2}: it begins at {start[row]:g} s but ends at {end[row]:g} s; correct it")
    if _OFFSET in lower:
        offset = _numbers(path, frame, _OFFSET)
        start, end = offset, offset + (end - start)
    own_name = _OF_TOOL.sub("", path.name)
    recording = frame[found["recording"]].map(stem_of) if found["recording"] else [own_name] * len(frame)
    score = numbers.get("score", np.ones(len(frame)))
    table = pd.DataFrame({"recording": recording, "start": start, "end": end, "score": score})
    return Long(path, table, frame[labels])


def _numbers(path: Path, frame: "pd.DataFrame", column: str) -> np.ndarray:
    import pandas as pd

    values = pd.to_numeric(frame[column].str.strip(), errors="coerce").to_numpy(dtype=float)
    if (wrong := ~np.isfinite(values)).any():
        row = int(np.argmax(wrong))
        raise DataError(f"{path}: line {row + 2}: {column} is {frame[column].iloc[row]!r}, not a finite number")
    return values
