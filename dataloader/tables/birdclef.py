"""How are the tables of the BirdCLEF competitions read, 2021 to 2026, as ``download_data.sh`` unpacks them?

=====  ====================  ==================  ===================================================
year   table                 recordings          labels with times
=====  ====================  ==================  ===================================================
2021   train_metadata.csv    train_short_audio   train_soundscape_labels.csv, train_soundscapes/
2022   train_metadata.csv    train_audio
2023   train_metadata.csv    train_audio
2024   train_metadata.csv    train_audio
2025   train.csv             train_audio
2026   train.csv             train_audio         train_soundscapes_labels.csv, train_soundscapes/
=====  ====================  ==================  ===================================================
"""

import ast
import functools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from dataloader.tables.reading import read_header, read_table, row_locations, seconds
from dataloader.tables.schema import ANNOTATION_COLUMNS, NOCALL, Understood, listed, split_labels, table_of_recordings
from dataloader.tables.sounds import Finder, check_filename, describe, odd_names
from utils.errors import DataError, counted
from utils.settings import Source

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("train_metadata.csv", "train.csv")
AUDIO = ("train_audio", "train_short_audio")
REQUIRED = ("primary_label", "filename")
SOUNDSCAPES = "train_soundscapes"
SOUNDSCAPE_LABELS = ("train_soundscape_labels.csv", "train_soundscapes_labels.csv")
OLD_SUBMISSIONS = (("row_id", "birds"), ("row_id", "target"))  # of 2021 and 2022: columns that are no species
_ROW_S = 5.0  # seconds of a row of the soundscape labels of 2021


def find_table(folder: Path) -> Path | None:
    """The table of a competition in ``folder``; None if there is none."""
    for name in TABLES:
        if (folder / name).is_file():
            header = read_header(folder / name) if name == "train.csv" else REQUIRED
            if all(column in header for column in REQUIRED):
                return folder / name
    return None


def read_birdclef(folder: Path, source: Source) -> Understood:
    """Read the tables of a competition.

    ``taxonomy.csv`` (or ``eBird_Taxonomy_v2021.csv``) gives names, ``sample_submission.csv`` the classes.

    Raises:
        DataError: there is no table, it is empty, a column is missing, a cell cannot be read, or there is no folder of
            recordings.
    """
    path = find_table(folder)
    if path is None:
        raise DataError(
            f"{folder / TABLES[0]}: no such file, nor {TABLES[1]} with {' and '.join(REQUIRED)}; the folder holds "
            f"{describe(folder) if folder.is_dir() else 'nothing'}"
        )
    table = read_table(path)
    if missing := [name for name in REQUIRED if name not in table]:
        raise DataError(f"{path}: no column {', '.join(missing)}; it has {', '.join(table.columns)}")
    if table.empty:
        raise DataError(f"{path}: the table is empty; it needs a row for each recording")
    audio = next((folder / name for name in AUDIO if (folder / name).is_dir()), None)
    if audio is None:
        first = table["filename"].iloc[0]
        raise DataError(f"{folder / AUDIO[0]}: no such folder; put the recordings there, such as {first}")
    recordings, finder = _recordings(table, path, audio)
    understood = Understood("birdclef", "", recordings, tables=[path])
    _check_folder(audio, recordings, understood)
    understood.notes += odd_names(finder, path)
    _add_names(folder, understood)
    _add_classes(folder, understood)
    _add_soundscapes(folder, understood)
    with_times = f" and {counted(len(understood.annotated), 'soundscape')} of {SOUNDSCAPES} with times"
    understood.summary = (
        f"the table {path.name} of BirdCLEF, {counted(len(table), 'recording')} in {audio.name}"
        f"{with_times if understood.annotated else ''}"
    )
    return understood


def _recordings(table: "pd.DataFrame", path: Path, audio: Path) -> tuple["pd.DataFrame", Finder]:
    finder, found = Finder([audio], audio), []
    where = row_locations(path, table)
    for row, label, name in zip(where, table["primary_label"], table["filename"], strict=True):
        if not label.strip():
            raise DataError(f"{row}: primary_label is empty; name a species, or {NOCALL} if no bird calls")
        check_filename(name, row)
        named = finder.find(name)
        if "/" not in named[0] and not os.path.exists(named[1]):  # the names of 2021 have no folder
            inside = finder.find(f"{label.strip()}/{name}")
            named = inside if os.path.exists(inside[1]) else named
        found.append(named)
    recordings = table.assign(
        where=where, filename=[name for name, _ in found], path=[path for _, path in found],
        labels=[(label.strip(),) for label in table["primary_label"]],
    ).reset_index(drop=True)  # fmt: skip
    background = table["secondary_labels"] if "secondary_labels" in table else [""] * len(table)
    recordings["secondary_labels"] = [label_list(text, row) for text, row in zip(background, where, strict=True)]
    if "group_id" in recordings:
        recordings["group"] = recordings["group_id"]
    return recordings, finder


def label_list(text: str, where: str) -> tuple[str, ...]:
    """A Python list of strings, as text, read without running it; empty names are left out.

    Raises:
        DataError: it is not a list.
    """
    try:
        return _parsed(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise DataError(
            f"{where}: secondary_labels {text!r} is not a list such as [] or ['asbfly', 'comtai1']; correct it"
        ) from None


@functools.lru_cache(maxsize=10_000)  # most cells of a table are alike
def _parsed(text: str) -> tuple[str, ...]:
    labels = ast.literal_eval(text.strip() or "[]")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError
    return tuple(dict.fromkeys(label.strip() for label in labels if label.strip()))


def _check_folder(audio: Path, recordings: "pd.DataFrame", understood: Understood) -> None:
    used = {name.partition("/")[0] for name in recordings["filename"]}
    without = sorted(entry.name for entry in audio.iterdir() if entry.is_dir() and entry.name not in used)
    if without:
        understood.notes.append(f"{audio}: no row of the table names a recording of {listed(without)}; not used")


def _add_names(folder: Path, understood: Understood) -> None:
    """Add the names of species from a taxonomy that is there; names in the table itself have priority."""
    columns = {"taxonomy.csv": ("primary_label", "scientific_name", "common_name")}
    columns["eBird_Taxonomy_v2021.csv"] = ("SPECIES_CODE", "SCI_NAME", "PRIMARY_COM_NAME")
    for name, (label, scientific, common) in columns.items():
        path = folder / name
        if not path.is_file():
            continue
        table = read_table(path, usual=False)
        if {label, scientific, common} <= set(table.columns):
            for species, *names in zip(table[label], table[scientific], table[common], strict=True):
                understood.names.setdefault(species, tuple(names))
            understood.tables.append(path)
        if "class_name" in table and label in table:
            of_label = dict(zip(table[label], table["class_name"], strict=True))
            known = understood.recordings["primary_label"].map(of_label).fillna("")
            understood.recordings = understood.recordings.assign(class_name=known)


def _add_classes(folder: Path, understood: Understood) -> None:
    """The classes of a sample submission; those of 2021 and 2022 name none in their header."""
    path = folder / "sample_submission.csv"
    if not path.is_file():
        return
    header = read_header(path)
    if header[:1] != ["row_id"] or tuple(header) in OLD_SUBMISSIONS:
        return
    known = set(understood.recordings["primary_label"]) | set(understood.names)
    if known.isdisjoint(header[1:]):
        understood.notes.append(
            f"{path}: none of its columns is a species of these data ({listed(header[1:], 3)}); it is not used"
        )
        return
    understood.classes = tuple(header[1:])
    understood.tables.append(path)


def _add_soundscapes(folder: Path, understood: Understood) -> None:
    import pandas as pd

    path = next((folder / name for name in SOUNDSCAPE_LABELS if (folder / name).is_file()), None)
    if path is None:
        return
    if not (folder / SOUNDSCAPES).is_dir():
        understood.notes.append(f"{path}: there is no folder {SOUNDSCAPES} beside it, so its labels are not used")
        return
    table = read_table(path)
    by_row = "birds" in table and "seconds" in table
    needed = ("audio_id", "site", "seconds", "birds") if by_row else ("filename", "start", "end", "primary_label")
    if missing := [name for name in needed if name not in table]:
        raise DataError(f"{path}: no column {', '.join(missing)}; it has {', '.join(table.columns)}")
    rows, absent = (_rows_of_2021 if by_row else _rows_of_2026)(folder / SOUNDSCAPES, path, table)
    if absent:
        understood.notes.append(
            f"{path}: {counted(len(absent), 'recording')} of {SOUNDSCAPES} missing and left out: {listed(absent)}"
        )
    if not rows:
        return
    annotations = pd.DataFrame(rows, columns=ANNOTATION_COLUMNS).drop_duplicates(ANNOTATION_COLUMNS[:4])
    names = annotations.drop_duplicates("filename")
    recordings = table_of_recordings(folder, names["filename"].tolist(), names["where"].tolist())
    understood.annotations, understood.annotated = annotations, set(names["filename"])
    understood.recordings = pd.concat([understood.recordings, recordings], ignore_index=True)
    understood.tables.append(path)


def _rows_of_2021(soundscapes: Path, path: Path, table: "pd.DataFrame") -> tuple[list[tuple], list[str]]:
    """``row_id, site, audio_id, seconds, birds``: a row ends at ``seconds``; birds are separated by blanks."""
    files: dict[str, str] = {}
    for sound in sorted(soundscapes.iterdir()):
        if match := re.match(r"(\d+_[A-Za-z0-9]+)_", sound.name):
            files.setdefault(match[1], sound.name)
    rows, absent = [], {}
    columns = (table[name] for name in ("audio_id", "site", "seconds", "birds"))
    for where, number, site, end, birds in zip(row_locations(path, table), *columns, strict=True):
        name = files.get(f"{number}_{site}")
        if name is None:
            absent[f"{number}_{site}"] = None
            continue
        end_s = _time(end, "seconds", where)
        for label in birds.split() or [NOCALL]:
            rows.append((f"{SOUNDSCAPES}/{name}", end_s - _ROW_S, end_s, label, float("nan"), float("nan"), where))
    return rows, list(absent)


def _rows_of_2026(soundscapes: Path, path: Path, table: "pd.DataFrame") -> tuple[list[tuple], list[str]]:
    """``filename, start, end, primary_label``: times as ``HH:MM:SS``, labels joined by ``;``."""
    there = {entry.name for entry in soundscapes.iterdir()}
    rows, absent = [], {}
    columns = (table[name] for name in ("filename", "start", "end", "primary_label"))
    for where, name, start, end, labels in zip(row_locations(path, table), *columns, strict=True):
        if name not in there:
            absent[name] = None
            continue
        times = _time(start, "start", where), _time(end, "end", where)
        for label in split_labels(labels) or (NOCALL,):
            rows.append((f"{SOUNDSCAPES}/{name}", *times, label, float("nan"), float("nan"), where))
    return rows, list(absent)


def _time(text: str, column: str, where: str) -> float:
    try:
        return seconds(text)
    except ValueError:
        raise DataError(f"{where}: {column} {text!r} is not a time such as 5, 1:05 or 00:01:05; correct it") from None
