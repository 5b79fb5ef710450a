"""How is the user's own table read? Any CSV, TSV or Parquet whose columns are detected or named by [data] columns."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from dataloader.tables.columns import column_of_files, columns_in_file, find_columns, find_only_table, named_columns
from dataloader.tables.raven import is_raven
from dataloader.tables.reading import read_header, read_table, row_locations
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
    return find_only_table(folder, source, _names_and_labels, "name recordings and labels")


def _names_and_labels(path: Path, source: Source) -> bool:
    """Whether a table names files and has labels. The times of a Raven table may continue over several recordings."""
    found = columns_in_file(path, source)
    labelled = "label" in found or Labeller(source).is_set
    return "filename" in found and labelled and not is_raven(read_header(path))


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
    found = find_columns(table.columns, named_columns(source.columns), path)
    labeller = Labeller(source)
    column_of_files(found, table.columns, path)
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
    where, column = row_locations(path, table), found["filename"]
    finder = Finder([folder, path.parent, folder / "train_audio", folder / "audio"], folder)
    names = [_named(text, row, column) for text, row in zip(table[column], where, strict=True)]
    files = {name: finder.find(name) for name in dict.fromkeys(names)}
    notes = _find_elsewhere(files, folder, path)
    filenames = [files[name][0] for name in names]
    timed = _timed(table, found, where)
    labels: dict[str, tuple[str, ...]] = {}  # of complete recordings
    cells = table[found["label"]].tolist() if "label" in found else [""] * len(table)
    for filename, cell, row, has_times in zip(filenames, cells, where, timed, strict=True):
        if not has_times:
            before = labels.get(filename, ())
            labels[filename] = tuple(dict.fromkeys(before + labeller.labels(cell, filename, row)))
    recordings = _recordings(table, found, filenames, where, dict(files.values()), labels)
    annotations, annotated = None, set()
    if any(timed):
        rows = [index for index, has_times in enumerate(timed) if has_times]
        of_rows = [filenames[row] for row in rows], table.iloc[rows], found, [where[row] for row in rows]
        annotations = annotations_of_rows(*of_rows, labeller)
        annotated = {filenames[row] for row in rows}
    columns = ", ".join(f"{key}: {column}" for key, column in found.items())
    times = f" and {counted(len(annotations), 'annotation')}" if annotations is not None else ""
    summary = f"the table {path.name}, {counted(len(recordings), 'recording')}{times}; columns {columns}"
    notes += odd_names(finder, path)
    return Understood("table", summary, recordings, annotations, annotated, notes=notes, tables=[path])


def _find_elsewhere(files: dict[str, tuple[str, str]], folder: Path, path: Path) -> list[str]:
    """Find recordings by name whose path in the table is wrong, for instance because it is from another machine.

    A recording is used only if no other has the same name.

    Args:
        files: ``(filename, path)`` by the name in the table; those that are found are replaced.

    Returns:
        Notes for the log.
    """
    missing = [name for name, (_, where) in files.items() if not os.path.exists(where)]
    if not missing:
        return []
    names, found = SoundNames(find_sounds(folder)), []
    for name in missing:
        meant = names.find(name)
        if len(meant) == 1:
            files[name] = meant[0], str(folder / meant[0])
            found.append(f"{name} is {meant[0]}")
    if not found:
        return []
    what = "not at the path in the table, and found by name"
    return [f"{path}: {counted(len(found), 'recording')} {what}: {listed(found, 3)}"]


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
    for start, end, row in zip(table[found["start"]], table[found["end"]], where, strict=True):
        if bool(start.strip()) != bool(end.strip()):
            raise DataError(f"{row}: only one of {found['start']} and {found['end']} is given; give both, or none")
        timed.append(bool(start.strip()))
    return timed


def _recordings(
    table: "pd.DataFrame", found: dict[str, str], filenames: list[str], where: list[str], paths: dict[str, str],
    labels: dict[str, tuple[str, ...]],
) -> "pd.DataFrame":  # fmt: skip
    """One row for each file: the first row of the table that names it, with its own columns."""
    import pandas as pd

    rows = table.reset_index(drop=True).assign(filename=filenames, where=where)
    for key in FOR_RECORDINGS:
        if key in found:
            rows[key] = table[found[key]].to_numpy()
    background = table[found["secondary_labels"]] if "secondary_labels" in found else [""] * len(table)
    rows["secondary_labels"] = [list_or_labels(text) for text in background]
    first = rows.drop_duplicates("filename").reset_index(drop=True)
    first["path"] = first["filename"].map(paths)
    first["labels"] = pd.Series([labels.get(name, ()) for name in first["filename"]], dtype=object)
    return first
