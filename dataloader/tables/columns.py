"""Which column of a table has which meaning? By common names, and by names that [data] columns gives."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from dataloader.tables.reading import ENDINGS, read_header
from dataloader.tables.schema import listed
from utils.errors import DataError, unknown
from utils.settings import Source

# Meaning -> names that tables use for it, the most likely first; compared in lower case, with _ in place of blanks.
KNOWN = {
    "filename": "filename file file_name filepath file_path path audiofilename audio_file audio recording begin_path "
    "begin_file fname sound wav",
    "label": "label species primary_label label:species class species_code ebird_code common_name scientific_name "
    "annotation tag category label_name",
    "start": "start start_s start_time start_seconds begin begin_s begin_time begin_time_(s) start_(s) onset onset_s "
    "t_start tmin",
    "end": "end end_s end_time end_seconds stop stop_s end_time_(s) end_(s) offset offset_s t_end tmax",
    "low_hz": "low_hz low_freq low_freq_(hz) low_frequency f_low freq_low fmin freq_min min_freq low",
    "high_hz": "high_hz high_freq high_freq_(hz) high_frequency f_high freq_high fmax freq_max max_freq high",
    "author": "author recordist recorder_name rec",
    "latitude": "latitude lat",
    "longitude": "longitude lon lng long",
    "place": "place site location locality station",
    "group": "group group_id",
    "split": "split fold subset",
    "secondary_labels": "secondary_labels background_labels background also",
    "scientific_name": "scientific_name",
    "common_name": "common_name",
    "unannotated": "unannotated",
    "annotated_for": "annotated_for",
    "time_expansion": "time_expansion",
}


def named_columns(text: str) -> dict[str, str]:
    """The column of each meaning that [data] columns names.

    >>> named_columns("label: species, start: begin")
    {'label': 'species', 'start': 'begin'}

    Raises:
        DataError: the text has no pairs, or an unknown meaning.
    """
    named = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        key, colon, column = (part.strip() for part in pair.partition(":"))
        if not colon or not column:
            raise DataError(f"[data] columns = {text!r}: expected pairs such as label: species, start: begin")
        if key not in KNOWN:
            raise DataError(f"[data] columns: {key!r} is {unknown(key, list(KNOWN))}")
        named[key] = column
    return named


def find_columns(columns: Iterable[str], named: dict[str, str], path: Path) -> dict[str, str]:
    """The column of the table for each meaning; meanings without a column are left out.

    Args:
        named: of ``named_columns``; these have priority.

    Raises:
        DataError: a named column is not in the table.
    """
    columns = list(columns)
    for key, column in named.items():
        if column not in columns:
            raise DataError(f"{path}: no column {column!r} for {key}; it has {', '.join(columns)}")
    by_name = {re.sub(r"[\s-]+", "_", column.strip().lower()): column for column in reversed(columns)}
    found = dict(named)
    for key, names in KNOWN.items():
        match = next((by_name[name] for name in names.split() if name in by_name), None)
        if key not in found and match is not None and (key != "label" or match not in named.values()):
            found[key] = match
    return found


def columns_in_file(path: Path, source: Source) -> dict[str, str]:
    """The column for each meaning in the table in a file; empty if it cannot be read as a table with these columns."""
    try:
        return find_columns(read_header(path), named_columns(source.columns), path)
    except DataError:
        return {}


def column_of_files(found: dict[str, str], columns: Iterable[str], path: Path) -> str:
    """The column that names the recordings.

    Raises:
        DataError: there is none.
    """
    if "filename" not in found:
        raise DataError(
            f"{path}: no column that names files; it has {', '.join(columns)}. Name it with [data] columns = "
            "filename: NAME"
        )
    return found["filename"]


def find_only_table(folder: Path, source: Source, fits: Callable[[Path, Source], bool], does: str) -> Path | None:
    """[data] ``table``, or the only table at the top of ``folder`` that fits; None if none does.

    Args:
        does: what such a table does, for the message.

    Raises:
        DataError: several tables fit.
    """
    if source.table:
        return source.table
    tables = (path for path in sorted(folder.iterdir()) if path.suffix.lower() in ENDINGS and path.is_file())
    fitting = [path for path in tables if not path.name.startswith(".") and fits(path, source)]
    if len(fitting) > 1:
        names = listed([path.name for path in fitting])
        raise DataError(f"{folder}: several tables {does}: {names}; name one with [data] table = FILE")
    return fitting[0] if fitting else None
