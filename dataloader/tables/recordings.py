"""What describes recordings whose labels are elsewhere? A table of recordist, place, split or annotated species."""

from pathlib import Path
from typing import TYPE_CHECKING

from dataloader.tables.columns import column_of_files, columns_in_file, find_columns, find_only_table, named_columns
from dataloader.tables.reading import read_table, row_locations
from dataloader.tables.rows import FOR_RECORDINGS
from dataloader.tables.schema import FILENAME, PATH, WHERE, Understood, listed
from dataloader.tables.sounds import Finder, check_filename
from utils.errors import counted
from utils.settings import Source

if TYPE_CHECKING:
    import pandas as pd

_OF_THE_READER = (FILENAME, PATH, WHERE, "labels", "secondary_labels")  # columns that no table may replace


def describes_recordings(path: Path, source: Source) -> bool:
    """Whether a table names files and describes them, and has neither labels nor times."""
    found = columns_in_file(path, source).keys()
    return FILENAME in found and not found.isdisjoint(FOR_RECORDINGS) and found.isdisjoint(("label", "start", "end"))


def add_recordings_table(understood: Understood, folder: Path, source: Source) -> None:
    """Add the columns of the table that describes the recordings, if there is one, to those that a reader found.

    Raises:
        DataError: there are several, or the table cannot be read, or does not name files.
    """
    path = find_only_table(folder, source, describes_recordings, "describe recordings")
    if path is None:
        return
    table, notes = _read(path, folder, source)
    recordings = understood.recordings
    rows = table.reindex(recordings[FILENAME]).reset_index(drop=True)
    for column in table.columns:
        if column == WHERE or column not in _OF_THE_READER:
            before = recordings[column] if column in recordings else [""] * len(rows)  # such as the split of a folder
            new = rows[column].fillna("")
            recordings[column] = [now or earlier for now, earlier in zip(new, before, strict=True)]
    known = set(recordings[FILENAME])
    strangers = [name for name in table.index if name not in known]
    if strangers:
        names = counted(len(strangers), "recording")
        notes.append(f"{path}: it describes {names} without a label or a file of annotations: {listed(strangers, 3)}")
    without = int(rows[WHERE].isna().sum())
    if without:
        notes.append(f"{path}: it does not describe {counted(without, 'recording')} of {len(recordings):,}")
    columns = [name for name in table.columns if name not in _OF_THE_READER]
    understood.summary += f"; the table {path.name} describes them: {', '.join(columns)}"
    understood.notes += notes
    understood.tables.append(path)


def _read(path: Path, folder: Path, source: Source) -> tuple["pd.DataFrame", list[str]]:
    """The table by ``filename``, with the names of this program for its columns, and notes for the log."""
    table = read_table(path)
    found = find_columns(table.columns, named_columns(source.columns), path)
    column = column_of_files(found, table.columns, path)
    where = row_locations(path, table)
    for name, location in zip(table[column], where, strict=True):
        check_filename(name, location)
    finder = Finder([folder, path.parent], folder)
    names = [finder.find(name.strip())[0] for name in table[column]]
    table = table.rename(columns={found[key]: key for key in FOR_RECORDINGS if key in found})
    table = table.drop(columns=column, errors="ignore").assign(**{WHERE: where})
    table.index = names
    notes = []
    if (again := table.index.duplicated()).any():
        repeated = table[WHERE][again].tolist()
        rows = counted(len(repeated), "row describes", "rows describe")
        notes.append(f"{path}: {rows} a recording again; the first is kept: {listed(repeated, 3)}")
    return table[~again], notes
