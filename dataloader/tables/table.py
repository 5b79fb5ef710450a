"""How is the user's own table read? Any CSV, TSV or Parquet whose columns are detected or named by [data] columns."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from dataloader.tables.columns import find_columns, named_columns
from dataloader.tables.raven import is_raven
from dataloader.tables.reading import ENDINGS, read_header, read_table
from dataloader.tables.rows import FOR_RECORDINGS, Labeller, annotations_of_rows, list_or_labels
from dataloader.tables.schema import Understood, listed
from dataloader.tables.sounds import Finder, SoundNames, describe, find_sounds, odd_names
from utils.errors import DataError, counted
from utils.settings import Source

if TYPE_CHECKING:
    import pandas as pd


def find_own_table(folder: Path, source: Source) -> Path | None:
    """The one table at the top of ``folder`` that names files and has labels; None if there is none.

    Raises:
        DataError: there are several.
    """
    if source.table:
        return source.table
    fitting = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in ENDINGS and path.is_file() and not path.name.startswith("."):
            try:
                header = read_header(path)
                found = find_columns(header, named_columns(source.columns, "[data] columns"), path)
            except DataError:
                continue
            if is_raven(header):  # its times may continue over several recordings
                continue
            if "filename" in found and ("label" in found or Labeller(source).is_set):
                fitting.append(path)
    if len(fitting) > 1:
        names = listed([path.name for path in fitting])
        raise DataError(
            f"{folder}: several tables name recordings and labels: {names}; name one with [data] table = FILE"
        )
    return fitting[0] if fitting else None


def read_own_table(folder: Path, source: Source) -> Understood:
    """Read the user's own table.

    A row labels a whole recording, or with start and end it is an annotation. One table may have both.

    Raises:
        DataError: there is no table, a column is missing, or a cell cannot be read.
    """
    path = find_own_table(folder, source)
    if path is None:
        raise DataError(
            f"{folder}: no table with columns for files and labels; the folder holds {describe(folder)}. Name the "
            "table with [data] table = FILE, and its columns with columns = filename: NAME, label: NAME"
        )
    table = read_table(path)
    if is_raven(list(table.columns)):
        raise DataError(
            f"{path}: a selection table of Raven, which [data] layout = annotations reads, without table = FILE"
        )
    found = find_columns(table.columns, named_columns(source.columns, "[data] columns"), path)
    labeller = Labeller(source)
    if "filename" not in found:
        raise DataError(
            f"{path}: no column that names files; it has {', '.join(table.columns)}. Name it with [data] columns = "
            "filename: NAME"
        )
    if "label" not in found and not labeller.is_set:
        raise DataError(
            f"{path}: no column of labels; it has {', '.join(table.columns)}. Name it with [data] columns = "
            "label: NAME, or give all rows one label with label = NAME or label_from = folder:1"
        )
    if ("start" in found) != ("end" in found):
        there, absent = ("start", "end") if "start" in found else ("end", "start")
        raise DataError(f"{path}: a column of {there} times but none of {absent} times; name it with [data] columns")
    if table.empty:
        raise DataError(f"{path}: the table is empty; it needs a row for each recording or annotation")
    return _understand(folder, path, table, found, labeller)


def _understand(
    folder: Path, path: Path, table: "pd.DataFrame", found: dict[str, str], labeller: Labeller
) -> Understood:
    where = [f"{path}: line {line}" for line in table.index]
    finder = Finder([folder, path.parent, folder / "train_audio", folder / "audio"], folder)
    names = [
        _named(text, place, found["filename"]) for text, place in zip(table[found["filename"]], where, strict=True)
    ]
    places = {name: finder.find(name) for name in dict.fromkeys(names)}
    notes = _find_elsewhere(places, folder, path)
    filenames = [places[name][0] for name in names]
    timed = _timed(table, found, where)
    whole_label: dict[str, tuple[str, ...]] = {}
    cells = table[found["label"]].tolist() if "label" in found else [""] * len(table)
    for filename, cell, place, has_times in zip(filenames, cells, where, timed, strict=True):
        if not has_times:
            before = whole_label.get(filename, ())
            whole_label[filename] = tuple(dict.fromkeys(before + labeller.labels(cell, filename, place)))
    recordings = _recordings(table, found, filenames, where, dict(places.values()), whole_label)
    annotations, annotated = None, set()
    if any(timed):
        rows = [index for index, has_times in enumerate(timed) if has_times]
        of_rows = [filenames[row] for row in rows], table.iloc[rows], found, [where[row] for row in rows]
        annotations = annotations_of_rows(*of_rows, labeller)
        annotated = {filenames[row] for row in rows}
    columns = ", ".join(f"{key}: {column}" for key, column in found.items())
    times = f" and {counted(len(annotations), 'annotation')}" if annotations is not None else ""
    said = f"the table {path.name}, {counted(len(recordings), 'recording')}{times}; columns {columns}"
    notes += odd_names(finder, path)
    return Understood("table", said, recordings, annotations, annotated, notes=notes, tables=[path])


def _find_elsewhere(places: dict[str, tuple[str, str]], folder: Path, path: Path) -> list[str]:
    """Find recordings by name that are not where the table says, for instance because it is from another machine.

    A recording is used only if no other has the same name.

    Args:
        places: ``(filename, path)`` by the name in the table; those that are found are replaced.

    Returns:
        Notes for the log.
    """
    missing = [name for name, (_, where) in places.items() if not os.path.exists(where)]
    if not missing:
        return []
    names, found = SoundNames(find_sounds(folder)), []
    for name in missing:
        meant = names.find(name)
        if len(meant) == 1:
            places[name] = meant[0], str(folder / meant[0])
            found.append(f"{name} is {meant[0]}")
    if not found:
        return []
    return [
        f"{path}: {counted(len(found), 'recording')} not where the table says, and found by name: {listed(found, 3)}"
    ]


def _named(text: str, where: str, column: str) -> str:
    if not text.strip():
        raise DataError(f"{where}: {column} is empty; name the file")
    return text.strip()


def _timed(table: "pd.DataFrame", found: dict[str, str], where: list[str]) -> list[bool]:
    """Whether each row has a start and an end.

    Raises:
        DataError: a row has only one of them.
    """
    if "start" not in found:
        return [False] * len(table)
    timed = []
    for start, end, place in zip(table[found["start"]], table[found["end"]], where, strict=True):
        if bool(start.strip()) != bool(end.strip()):
            raise DataError(f"{place}: only one of {found['start']} and {found['end']} is given; give both, or none")
        timed.append(bool(start.strip()))
    return timed


def _recordings(
    table: "pd.DataFrame", found: dict[str, str], filenames: list[str], where: list[str], paths: dict[str, str],
    whole_label: dict[str, tuple[str, ...]],
) -> "pd.DataFrame":  # fmt: skip
    """One row for each file: the first row of the table that names it, with its own columns."""
    import pandas as pd

    rows = table.reset_index(drop=True).assign(filename=filenames, where=where)
    for key in FOR_RECORDINGS:
        if key in found:
            rows[key] = table[found[key]].to_numpy()
    behind = table[found["secondary_labels"]] if "secondary_labels" in found else [""] * len(table)
    rows["secondary_labels"] = [list_or_labels(text) for text in behind]
    first = rows.drop_duplicates("filename").reset_index(drop=True)
    first["path"] = first["filename"].map(paths)
    first["labels"] = pd.Series([whole_label.get(name, ()) for name in first["filename"]], dtype=object)
    return first
