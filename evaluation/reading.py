"""How do the tables of any tool become scores and labels of the same rows?

Two kinds are read. A *wide* table has a row for each ``row_id`` (or ``filename``) and a column for each class, like
Kaggle's submission.csv. A *long* one has a row for each detection or annotation, with its recording, start, end,
label and perhaps score, like the CSV of predict.py, selection tables of Raven, and tables of BirdNET-Analyzer.
"""

import csv
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evaluation.table import ScoreTable
from utils.errors import DataError, first_line, unknown

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
    join = {"ignore_index": True}
    return Long(
        folder, pd.concat([one.table for one in tables], **join), pd.concat([one.names for one in tables], **join)
    )


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


# Scores and labels of the same rows


@dataclass(frozen=True)
class Truth:
    """The rows that are scored, and their true labels.

    Attributes:
        labels, targets: see ``ScoreTable``.
        stems: the recording of each row, without its ending.
        start_s, end_s: ``(rows,)``; a whole recording begins at 0 and ends with it.
        groups: the group of each recording, by stem; a stem that is missing here is a group of its own.
        keys: the row_id of each row, if it has one.
        names: other names of the labels (scientific, common), normalised -> label.
        timed: see ``ScoreTable``.
        seconds: the length of each recording, by stem, if it is known; else it ends with its last row.
    """

    source: str
    labels: tuple[str, ...]
    targets: np.ndarray
    stems: tuple[str, ...]
    start_s: np.ndarray
    end_s: np.ndarray
    groups: Mapping[str, str]
    keys: tuple[str, ...] | None
    names: Mapping[str, str]
    timed: bool
    seconds: Mapping[str, float] = field(default_factory=dict)


def truth_of(wide: Wide) -> Truth:
    """The labels in a table of ``row_id`` and a column of 0 and 1 for each class.

    Raises:
        DataError: a value is neither 0 nor 1, or a row_id has no end second.
    """
    if (wrong := ~np.isin(wide.values, (0, 1))).any():
        row, column = np.argwhere(wrong)[0]
        value = wide.values[row, column]
        raise DataError(f"{wide.path}: {wide.labels[column]} of {wide.keys[row]} is {value:g}; labels are 0 or 1")
    ends, stems = wide.ends(), wide.stems()
    timed = wide.key == "row_id"
    length = _row_length(stems, ends) if timed else 0.0
    start, end = (ends - length, ends) if timed else (np.zeros(len(stems)), np.full(len(stems), np.inf))
    names = {normal(label): label for label in wide.labels}
    return Truth(
        str(wide.path), wide.labels, wide.values.astype(np.int8), tuple(stems), start, end, {}, wide.keys, names, timed
    )


def _row_length(stems: Sequence[str], ends: np.ndarray) -> float:
    """Seconds of a row: the least step between rows of a recording, or the least end where each has one row."""
    order = np.lexsort((ends, np.asarray(stems)))
    same = np.asarray(stems)[order][1:] == np.asarray(stems)[order][:-1]
    steps = np.diff(ends[order])[same]
    return float(steps[steps > 0].min() if (steps > 0).any() else ends.min())


def normal(name: str) -> str:
    """A name in the form in which names are compared: lower case, with blanks between its words."""
    return " ".join(re.split(r"[\W_]+", name.casefold())).strip()


def match(truth: Truth, predictions: Wide | Long) -> tuple[ScoreTable, list[str]]:
    """The scores of the rows of ``truth``, and remarks about differences.

    Raises:
        DataError: the rows or classes differ.
    """
    scores, remarks = (_match_wide if isinstance(predictions, Wide) else _match_long)(truth, predictions)
    if (wrong := (scores < 0) | (scores > 1)).any():
        row, column = np.argwhere(wrong)[0]
        raise DataError(
            f"{predictions.path}: the score of {truth.labels[column]} in {truth.stems[row]} is "
            f"{scores[row, column]:g}; scores are between 0 and 1 (the sigmoid of logits)"
        )
    recordings = tuple(dict.fromkeys(truth.stems))
    index = {stem: number for number, stem in enumerate(recordings)}
    recording = np.array([index[stem] for stem in truth.stems])
    group = tuple(truth.groups.get(stem, stem) for stem in recordings)
    length = np.where(np.isfinite(truth.end_s), truth.end_s - truth.start_s, 0.0)
    source = str(predictions.path)
    table = ScoreTable(truth.labels, scores, truth.targets, recordings, recording, group, length, truth.timed, source)
    return table, remarks


def _match_wide(truth: Truth, wide: Wide) -> tuple[np.ndarray, list[str]]:
    if truth.keys is None or wide.key == "filename":
        keys, ours = wide.stems() if wide.key == "filename" else list(wide.keys), list(truth.stems)
        if truth.keys is None and wide.key == "row_id":
            keys, ours = list(wide.keys), [f"{s}_{e:g}" for s, e in zip(truth.stems, truth.end_s, strict=True)]
    else:
        keys, ours = list(wide.keys), list(truth.keys)
    place = {key: number for number, key in enumerate(keys)}
    if missing := [key for key in ours if key not in place]:
        raise DataError(
            f"{wide.path}: {_count(len(missing), 'row')} of {truth.source} {_are(missing)} missing, the first is "
            f"{missing[0]}; every row needs a score"
        )
    known = set(ours)
    if beyond := [key for key in keys if key not in known]:
        raise DataError(
            f"{wide.path}: {_count(len(beyond), 'row')} {_are(beyond)} not in {truth.source}, the first is "
            f"{beyond[0]}{_last_row(truth, beyond[0])}; remove {'it' if len(beyond) == 1 else 'them'}"
        )
    columns = {label: number for number, label in enumerate(wide.labels)}
    if missing := [label for label in truth.labels if label not in columns]:
        raise DataError(
            f"{wide.path}: no column for {_count(len(missing), 'class', 'classes')}, the first is {missing[0]}"
        )
    if foreign := [label for label in wide.labels if label not in set(truth.labels)]:
        why = unknown(foreign[0], truth.labels, list_known=False)
        raise DataError(f"{wide.path}: column {foreign[0]!r} is not a class of {truth.source}: {why}; remove it")
    if keys == ours and wide.labels == truth.labels:
        return wide.values, []
    return wide.values[[place[key] for key in ours]][:, [columns[label] for label in truth.labels]], []


def _last_row(truth: Truth, key: str) -> str:
    """The end of the recording of a row, for a message."""
    stem = key.rpartition("_")[0]
    ends = [end for name, end in zip(truth.stems, truth.end_s, strict=True) if name == stem]
    return f" (that recording ends at {max(ends):g} s)" if ends else ""


def _match_long(truth: Truth, long: Long) -> tuple[np.ndarray, list[str]]:
    """A row has the highest score of the detections that overlap it by at least half of the shorter of the two."""
    label, remarks = _labels_in(truth, long)
    rows_of: dict[str, list[int]] = {}
    for number, stem in enumerate(truth.stems):
        rows_of.setdefault(stem, []).append(number)
    recording = _recordings_in(long, rows_of, truth.source)
    scores = np.zeros((len(truth.stems), len(truth.labels)), dtype=np.float32)
    columns = {name: number for number, name in enumerate(truth.labels)}
    columns_of = label.map(columns)
    for stem, its in long.table.assign(column=columns_of).groupby(recording, sort=False):
        rows = np.array(rows_of[stem])
        start, end = truth.start_s[rows], truth.end_s[rows]
        length = max(truth.seconds.get(stem, 0.0), end.max())
        if (beyond := its["start"] >= length).any():
            first = its[beyond].iloc[0]
            raise DataError(
                f"{long.path}: a detection in {stem} begins at {first['start']:g} s, after the end of the "
                f"recording at {length:g} s; correct or remove it"
            )
        its = its[its["column"].notna()]
        begin, stop = its["start"].to_numpy()[:, None], its["end"].to_numpy()[:, None]
        overlap = np.minimum(stop, end) - np.maximum(begin, start)  # (detections, rows)
        needed = np.minimum(stop - begin, end - start) / 2
        detection, row = np.nonzero((overlap >= needed - 1e-6) & (overlap > 0))
        np.maximum.at(
            scores, (rows[row], its["column"].to_numpy(dtype=int)[detection]), its["score"].to_numpy()[detection]
        )
    never = [name for number, name in enumerate(truth.labels) if not scores[:, number].any()]
    if never:
        remarks.append(f"{_count(len(never), 'class', 'classes')} never detected: {_some(never)}")
    remarks.append(
        "rows without a detection have a score of 0, so AUC and average precision are those of a cut-off list"
    )
    return scores, remarks


def _labels_in(truth: Truth, long: Long) -> tuple["pd.Series", list[str]]:
    """The class of each detection, by the column that names most of them; others than the classes are left out."""
    known = dict(truth.names)
    best, named = None, -1
    for column in long.names.columns:
        labels = long.names[column].map(normal).map(known)
        if labels.notna().sum() > named:
            best, named, name = labels, int(labels.notna().sum()), column
    if len(long.table) and not named:
        raise DataError(
            f"{long.path}: no detection has a class of {truth.source}, such as {truth.labels[0]}; its labels are "
            f"{_some(list(dict.fromkeys(long.names.iloc[:, 0])))}"
        )
    foreign = sorted(set(long.names[name][best.isna().to_numpy()])) if len(long.table) else []
    text = f"{_count(len(long.table) - named, 'detection')} of other species left out: {_some(foreign)}"
    return best, [text] if foreign else []


def _recordings_in(long: Long, rows_of: Mapping[str, list[int]], source: str) -> "pd.Series":
    """The recording of each detection: by its stem, or by the beginning of the name of its table."""
    known = {}
    for name in dict.fromkeys(long.table["recording"]):
        begins = [stem for stem in rows_of if name == stem or name.startswith(f"{stem}.")]
        if not begins:
            raise DataError(f"{long.path}: {name} is not a recording of {source}; remove its rows, or its table")
        known[name] = max(begins, key=len)
    return long.table["recording"].map(known)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _are(things: Sequence[object]) -> str:
    return "is" if len(things) == 1 else "are"


def _some(names: Iterable[str], n: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:n]) + (", ..." if len(names) > n else "")
