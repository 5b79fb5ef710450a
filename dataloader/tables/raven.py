"""How are selection tables of Raven read, of one recording, or of several that Raven opened as one sound?"""

import logging
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from dataloader.tables.columns import find_columns, named_columns
from dataloader.tables.reading import read_table, row_locations, seconds
from dataloader.tables.rows import Labeller, annotations_of_rows, read_cell
from dataloader.tables.schema import listed
from dataloader.tables.sounds import SoundNames, composed
from utils.errors import DataError
from utils.settings import Source

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

BEGIN = "Begin Time (s)"  # the column that identifies a selection table
_MEASURES = re.compile(
    r"selection|view|channel|begin.*|end.*|low freq.*|high freq.*|file offset.*|delta .*|.*\(.*\)|confidence|score|"
    r"rank|occupancy|species code list|date.*|file|path",
    re.IGNORECASE,
)


def is_raven(header: list[str]) -> bool:
    """Whether a table with these columns is a selection table."""
    return BEGIN in header and bool({"Selection", "View"} & set(header))


def names_others(path: Path, sound: str | None) -> bool:
    """Whether a selection table belongs to other recordings than the one beside it, or to several.

    Raven opens the files of a folder as one sound, and names the table after the first of them.
    """
    table = read_table(path, usual=False)
    column = next((name for name in ("Begin Path", "Begin File") if name in table), None)
    if column is None:
        return False
    stems = {PurePosixPath(re.split(r"[\\/]", composed(text.strip()))[-1]).stem for text in table[column]} - {""}
    return sound is None or len(stems) > 1


def read_raven(path: Path, sound: str | None, names: SoundNames, source: Source, labeller: Labeller) -> "pd.DataFrame":
    """Read a selection table of Raven, in which a box has a row for each view and channel but is one annotation.

    If the table has several recordings (Begin File), times are counted from the beginning of each file (File Offset).
    """
    table = read_table(path, usual=False)
    columns = {"start": BEGIN, "end": "End Time (s)", "low_hz": "Low Freq (Hz)", "high_hz": "High Freq (Hz)"}
    columns = {key: name for key, name in columns.items() if name in table}
    if "end" not in columns:
        raise DataError(f"{path}: no column End Time (s); it has {', '.join(table.columns)}")
    if label := named_columns(source.columns).get("label") or _raven_label(list(table.columns)):
        if label not in table:
            raise DataError(f"{path}: no column {label!r} for label; it has {', '.join(table.columns)}")
        columns["label"] = label
    if "View" in table:  # the row of the spectrogram has the frequencies
        table = table.sort_values("View", key=lambda views: views.str.startswith("Waveform"), kind="stable")
    same = [name for name in ("Selection", "Begin File", "Begin Path", BEGIN, "End Time (s)") if name in table]
    table = table.drop_duplicates(same).sort_index()
    filenames = [sound] * len(table)
    if sound is None:
        table, filenames = _rows_of_files(path, table, names)
    return annotations_of_rows(filenames, table, columns, row_locations(path, table), labeller)


def _raven_label(columns: list[str]) -> str | None:
    """The column of labels: one with a common name, else the only one that is not a measurement."""
    usual = find_columns([name for name in columns if name != "Begin File"], {}, Path()).get("label")
    others = [name for name in columns if not _MEASURES.fullmatch(name)]
    return usual or (others[0] if len(others) == 1 else None)


def _rows_of_files(path: Path, table: "pd.DataFrame", names: SoundNames) -> tuple["pd.DataFrame", list[str]]:
    """Rows of a table of several recordings, with times from the beginning of each file, and their recordings.

    Raises:
        DataError: the recording of a row is missing, or several have its name.
    """
    column = "Begin Path" if "Begin Path" in table else "Begin File"
    meant: dict[str, list[str]] = {text: names.find(text) for text in dict.fromkeys(table[column])}
    for row, text in zip(row_locations(path, table), table[column], strict=True):
        if not meant[text]:
            raise DataError(f"{row}: {column} {text.strip()!r} is not in the data; add it, or remove the row")
        if len(meant[text]) > 1:
            raise DataError(f"{row}: {column} {text.strip()!r} may be {listed(meant[text])}; rename all but one")
    if "File Offset (s)" in table:
        where = row_locations(path, table)
        begins, ends, offsets = (
            [read_cell(seconds, cell, name, row) for cell, row in zip(table[name], where, strict=True)]
            for name in (BEGIN, "End Time (s)", "File Offset (s)")
        )
        stops = [offset + end - begin for begin, end, offset in zip(begins, ends, offsets, strict=True)]
        table = table.assign(**{BEGIN: list(map(str, offsets)), "End Time (s)": list(map(str, stops))})
    elif len(set(table[column])) > 1:
        log.warning("%s: no column File Offset (s); times are taken from the beginning of each recording", path)
    return table, [meant[text][0] for text in table[column]]
