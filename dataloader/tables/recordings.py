"""What describes recordings whose labels are elsewhere? A table of recordist, place, split or annotated species."""

from pathlib import Path
from typing import TYPE_CHECKING

from dataloader.tables.columns import find_columns, named_columns
from dataloader.tables.reading import ENDINGS, read_header, read_table
from dataloader.tables.rows import FOR_RECORDINGS
from dataloader.tables.schema import FILENAME, PATH, WHERE, Understood, listed
from dataloader.tables.sounds import Finder, check_filename
from utils.errors import DataError, counted
from utils.settings import Source

if TYPE_CHECKING:
    import pandas as pd

_OF_THE_READER = (FILENAME, PATH, WHERE, "labels", "secondary_labels")  # columns that no table may replace


def find_recordings_table(folder: Path, source: Source) -> Path | None:
    """[data] ``table``, or the only table at the top of ``folder`` that describes recordings; None if there is none.

    Raises:
        DataError: there are several.
    """
    if source.table:
        return source.table
    fitting = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in ENDINGS and path.is_file() and not path.name.startswith(".")
        if describes_recordings(path, source)
    ]
    if len(fitting) > 1:
        names = listed([path.name for path in fitting])
        raise DataError(f"{folder}: several tables describe recordings: {names}; name one with [data] table = FILE")
    return fitting[0] if fitting else None


def describes_recordings(path: Path, source: Source) -> bool:
    """Whether a table names files and describes them, and has neither labels nor times."""
    try:
        found = find_columns(read_header(path), named_columns(source.columns, "[data] columns"), path)
    except DataError:
        return False
    says = set(found) & set(FOR_RECORDINGS)
    return FILENAME in found and bool(says) and not set(found) & {"label", "start", "end"}


def add_recordings_table(understood: Understood, folder: Path, source: Source) -> None:
    """Add the columns of the table that describes the recordings, if there is one, to those that a reader found.

    Raises:
        DataError: the table cannot be read, or does not name files.
    """
    path = find_recordings_table(folder, source)
    if path is None:
        return
    table, notes = _read(path, folder, source)
    recordings = understood.recordings
    rows = table.reindex(recordings[FILENAME]).reset_index(drop=True)
    for column in table.columns:
        if column == WHERE or column not in _OF_THE_READER:
            before = recordings[column] if column in recordings else [""] * len(rows)  # such as the split of a folder
            new = rows[column].fillna("")
            recordings[column] = [one or other for one, other in zip(new, before, strict=True)]
    known = set(recordings[FILENAME])
    strangers = [name for name in table.index if name not in known]
    if strangers:
        names = counted(len(strangers), "recording")
        notes.append(f"{path}: it describes {names} without a label or a file of annotations: {listed(strangers, 3)}")
    without = int(rows[WHERE].isna().sum())
    if without:
        notes.append(f"{path}: it does not describe {counted(without, 'recording')} of {len(recordings):,}")
    columns = [name for name in table.columns if name not in _OF_THE_READER]
    understood.said += f"; the table {path.name} describes them: {', '.join(columns)}"
    understood.notes += notes
    understood.tables.append(path)


def _read(path: Path, folder: Path, source: Source) -> tuple["pd.DataFrame", list[str]]:
    """The table by ``filename``, with the names of this program for its columns, and notes for the log."""
    table = read_table(path)
    found = find_columns(table.columns, named_columns(source.columns, "[data] columns"), path)
    if FILENAME not in found:
        raise DataError(
            f"{path}: no column that names files; it has {', '.join(table.columns)}. Name it with [data] columns = "
            "filename: NAME"
        )
    where = [f"{path}: line {line}" for line in table.index]
    for name, place in zip(table[found[FILENAME]], where, strict=True):
        check_filename(name, place)
    finder = Finder([folder, path.parent], folder)
    names = [finder.find(name.strip())[0] for name in table[found[FILENAME]]]
    table = table.rename(columns={found[key]: key for key in FOR_RECORDINGS if key in found})
    table = table.drop(columns=found[FILENAME], errors="ignore").assign(**{WHERE: where})
    table.index = names
    notes = []
    if (again := table.index.duplicated()).any():
        places = table[WHERE][again].tolist()
        rows = counted(len(places), "row describes", "rows describe")
        notes.append(f"{path}: {rows} a recording again; the first is kept: {listed(places, 3)}")
    return table[~again], notes
