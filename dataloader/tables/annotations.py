"""Annotations beside long recordings: Raven selection tables, Audacity label tracks, and what crowsetta reads."""

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from dataloader.tables.columns import find_columns, named_columns
from dataloader.tables.reading import decode, number, read_table, seconds
from dataloader.tables.rows import Labeller, annotations_of_rows, read_cell
from dataloader.tables.schema import ANNOTATION_COLUMNS, Understood, counted, listed
from dataloader.tables.sounds import describe, find_files, find_sounds
from utils.config import Source
from utils.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_TEXT = (".txt", ".tsv", ".csv")
_CROWSETTA = {".textgrid": "textgrid", ".not.mat": "notmat", ".phn": "timit", ".wrd": "timit"}  # ending -> its name
_RAVEN = "Begin Time (s)"
_RAVEN_MEASURES = re.compile(
    r"selection|view|channel|begin.*|end.*|low freq.*|high freq.*|file offset.*|delta .*|.*\(.*\)|confidence|score|"
    r"rank|occupancy|species code list|date.*|file|path",
    re.IGNORECASE,
)
_AUDACITY = re.compile(r"\s*-?\d+([.,]\d+)?\t-?\d+([.,]\d+)?(\t.*)?")


class Track(NamedTuple):
    """A file with annotations, and the recording that it belongs to (None: its rows name theirs)."""

    name: str  # relative path
    kind: str
    sound: str | None


def find_tracks(folder: Path) -> tuple[list[Track], list[str], list[str]]:
    """The files with annotations below ``folder``.

    A file belongs to the recording beside it whose name it begins with (``x.flac``: ``x.txt``, ``x.flac.txt``,
    ``x.Table.1.selections.txt``); where there is none, to the only one of that name anywhere.

    Returns:
        The files; files of annotations whose recording is not there; and the sounds.
    """
    files, sounds = find_files(folder), find_sounds(folder)
    known = set(sounds)
    by_stem: dict[tuple[str, str], str] = {}
    anywhere: dict[str, list[str]] = {}
    for sound in sounds:
        place, name = _place(sound), PurePosixPath(sound).name
        stem = name[: name.rindex(".")]
        by_stem.setdefault((place, stem), sound)
        by_stem.setdefault((place, name), sound)
        anywhere.setdefault(stem, []).append(sound)
    tracks, lonely = [], []
    for file in files:
        if file in known or (kind := _kind(folder, file)) is None:
            continue
        sound = _owner(file, by_stem, anywhere)
        if sound is None and not (kind == "raven" and _names_files(folder / file)):
            lonely.append(file)
        else:
            tracks.append(Track(file, kind, sound))
    return tracks, lonely, sounds


def read_annotations(folder: Path, source: Source) -> Understood:
    """Read the annotations beside recordings.

    Raises:
        DataError: none is there, or one cannot be read.
    """
    import pandas as pd

    tracks, lonely, sounds = find_tracks(folder)
    if not tracks:
        raise DataError(
            f"{folder}: no file with annotations beside a recording (Raven selection tables, Audacity label tracks); "
            f"the folder holds {describe(folder)}"
        )
    labeller, tables, annotated = Labeller(source), [], set()
    for track in tracks:
        read = _READERS[track.kind]
        rows = read(folder, track, source, labeller)
        tables.append(rows)
        annotated |= {track.sound} if track.sound else set(rows["filename"])
    annotations = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=ANNOTATION_COLUMNS)
    names = sorted(annotated)
    where = {track.sound: str(folder / track.name) for track in tracks}
    recordings = pd.DataFrame(
        {
            "filename": names,
            "path": [str(folder / name) for name in names],
            "labels": pd.Series([()] * len(names), dtype=object),
            "secondary_labels": pd.Series([()] * len(names), dtype=object),
            "where": [where.get(name, str(folder / name)) for name in names],
        }
    )
    kinds = ", ".join(f"{_NAMES[kind]} ({sum(one.kind == kind for one in tracks):,})" for kind in _used(tracks))
    said = f"{counted(len(annotations), 'annotation')} of {counted(len(names), 'recording')}: {kinds}"
    understood = Understood("annotations", said, recordings, annotations, annotated)
    understood.tables = [folder / track.name for track in tracks]
    understood.notes = _notes(folder, tracks, lonely, sorted(set(sounds) - annotated))
    return understood


def _used(tracks: list[Track]) -> list[str]:
    return list(dict.fromkeys(track.kind for track in tracks))


def _notes(folder: Path, tracks: list[Track], lonely: list[str], without: list[str]) -> list[str]:
    notes = []
    if lonely:
        notes.append(
            f"{folder}: {counted(len(lonely), 'file')} of annotations without the recording that is meant; left out: "
            f"{listed(lonely, 3)}"
        )
    if without:
        notes.append(
            f"{folder}: {counted(len(without), 'recording')} without annotations beside; left out: {listed(without, 3)}"
        )
    owners: dict[str, list[str]] = {}
    for track in tracks:
        if track.sound:
            owners.setdefault(track.sound, []).append(track.name)
    for sound, names in owners.items():
        if len(names) > 1:
            notes.append(f"{folder / sound}: {len(names)} files annotate this recording, all are used: {listed(names)}")
    return notes


def _place(name: str) -> str:
    return str(PurePosixPath(name).parent)


def _owner(file: str, by_stem: dict[tuple[str, str], str], anywhere: dict[str, list[str]]) -> str | None:
    """The sound that a file of annotations belongs to: the longest name that it begins with."""
    place, name = _place(file), PurePosixPath(file).name
    candidates = [name[:end] for end in range(len(name), 0, -1) if end == len(name) or name[end] in "._ "]
    for candidate in candidates:
        if (place, candidate) in by_stem:
            return by_stem[place, candidate]
    for candidate in candidates:
        if len(anywhere.get(candidate, ())) == 1:
            return anywhere[candidate][0]
    return None


def _kind(folder: Path, file: str) -> str | None:
    """Which kind of annotations a file holds; None where it holds none."""
    lower = file.lower()
    if any(lower.endswith(ending) for ending in _CROWSETTA):
        return "crowsetta"
    if not lower.endswith(_TEXT):
        return None
    with open(folder / file, "rb") as opened:
        if b"\0" in opened.read(4) and not lower.endswith(_TEXT):
            return None
    lines = [line for line in decode(folder / file)[0].splitlines() if line.strip()]
    if not lines:
        return "audacity" if lower.endswith(".txt") else None
    if _RAVEN in lines[0]:
        return "raven"
    if _AUDACITY.fullmatch(lines[0]):
        return "audacity"
    if lower.endswith((".csv", ".tsv")):
        found = find_columns(read_table(folder / file, usual=False).columns, {}, folder / file)
        return "csv" if "start" in found and "end" in found and "filename" not in found else None
    return None


def _names_files(path: Path) -> bool:
    return bool({"Begin File", "Begin Path"} & set(read_table(path, usual=False).columns))


def _read_raven(folder: Path, track: Track, source: Source, labeller: Labeller) -> "pd.DataFrame":
    """A selection table of Raven: a box stands there once for each view and channel, and is one annotation.

    Where the table is of several recordings (Begin File), times are counted from the file's beginning (File Offset).
    """
    path = folder / track.name
    table = read_table(path, usual=False)
    columns = {
        "start": _RAVEN,
        "end": "End Time (s)",
        "low_hz": "Low Freq (Hz)",
        "high_hz": "High Freq (Hz)",
    }
    columns = {key: name for key, name in columns.items() if name in table}
    if "end" not in columns:
        raise DataError(f"{path}: no column End Time (s); it has {', '.join(table.columns)}")
    given = named_columns(source.columns, "[data] columns")
    if label := given.get("label") or _raven_label(list(table.columns)):
        if label not in table:
            raise DataError(f"{path}: no column {label!r} for label; it has {', '.join(table.columns)}")
        columns["label"] = label
    if "View" in table:  # the spectrogram's row has the frequencies
        table = table.sort_values("View", key=lambda views: views.str.startswith("Waveform"), kind="stable")
    same = [name for name in ("Selection", "Begin File", "Begin Path", _RAVEN, "End Time (s)") if name in table]
    table = table.drop_duplicates(same).sort_index()
    filenames = [track.sound] * len(table)
    if track.sound is None:
        table, filenames = _rows_of_files(folder, path, table)
    where = [f"{path}: line {line}" for line in table.index]
    return annotations_of_rows(filenames, table, columns, where, labeller)


def _raven_label(columns: list[str]) -> str | None:
    """The column of labels: one of a usual name, else the only one that is no measurement."""
    usual = find_columns([name for name in columns if name != "Begin File"], {}, Path()).get("label")
    others = [name for name in columns if not _RAVEN_MEASURES.fullmatch(name)]
    return usual or (others[0] if len(others) == 1 else None)


def _rows_of_files(folder: Path, path: Path, table: "pd.DataFrame") -> tuple["pd.DataFrame", list[str]]:
    """Rows of a table of several recordings, with times from each file's beginning, and their recordings."""
    sounds: dict[str, str] = {}
    for sound in find_sounds(folder):
        sounds.setdefault(PurePosixPath(sound).name, sound)
    column = "Begin File" if "Begin File" in table else "Begin Path"
    names = [re.split(r"[\\/]", text.strip())[-1] for text in table[column]]
    for line, name in zip(table.index, names, strict=True):
        if name not in sounds:
            raise DataError(
                f"{path}: line {line}: {column} {name!r} is not below {folder}; bring it, or remove the row"
            )
    if "File Offset (s)" in table:
        table = table.copy()
        for line in table.index:
            where = f"{path}: line {line}"
            begin, end = (read_cell(seconds, table.at[line, name], name, where) for name in (_RAVEN, "End Time (s)"))
            offset = read_cell(seconds, table.at[line, "File Offset (s)"], "File Offset (s)", where)
            table.at[line, _RAVEN], table.at[line, "End Time (s)"] = str(offset), str(offset + end - begin)
    return table, [sounds[name] for name in names]


def _read_audacity(folder: Path, track: Track, source: Source, labeller: Labeller) -> "pd.DataFrame":
    r"""A label track of Audacity: start, end, label; a line that begins with ``\`` holds the box's frequencies."""
    import pandas as pd

    path, rows = folder / track.name, []
    for line_number, line in enumerate(decode(path)[0].split("\n"), start=1):
        where, cells = f"{path}: line {line_number}", line.rstrip("\r").split("\t")
        if not line.strip():
            continue
        if cells[0].strip() == "\\":
            if not rows or len(cells) < 3:
                raise DataError(f"{where}: frequencies without a label before them; correct it")
            low, high = (read_cell(number, text, "frequency", where) for text in cells[1:3])
            limits = [limit if limit >= 0 else float("nan") for limit in (low, high)]  # -1: not known
            rows[-1][4:6] = limits
            continue
        if len(cells) < 2:
            raise DataError(
                f"{where}: {line.strip()[:60]!r} is no label: expected start, end and label with tabs between"
            )
        times = [read_cell(seconds, text, "time", where) for text in cells[:2]]
        label = cells[2] if len(cells) > 2 else ""
        rows.append([track.sound, *times, label, float("nan"), float("nan"), where])
    found = [
        (sound, start, end, one, low, high, where)
        for sound, start, end, label, low, high, where in rows
        for one in labeller.labels(label, sound, where)
    ]
    return pd.DataFrame(found, columns=ANNOTATION_COLUMNS)


def _read_csv(folder: Path, track: Track, source: Source, labeller: Labeller) -> "pd.DataFrame":
    """A table of start, end and label beside its recording."""
    path = folder / track.name
    table = read_table(path, usual=False)
    found = find_columns(table.columns, named_columns(source.columns, "[data] columns"), path)
    where = [f"{path}: line {line}" for line in table.index]
    return annotations_of_rows([track.sound] * len(table), table, found, where, labeller)


def _read_crowsetta(folder: Path, track: Track, source: Source, labeller: Labeller) -> "pd.DataFrame":
    """What the package crowsetta reads beside: TextGrid of Praat, .not.mat of evsonganaly, .phn and .wrd of TIMIT."""
    import pandas as pd

    path = folder / track.name
    try:
        import crowsetta
    except ImportError:
        raise DataError(f"{path}: reading it needs the package crowsetta: pip install crowsetta") from None
    kind = next(name for ending, name in _CROWSETTA.items() if track.name.lower().endswith(ending))
    try:
        annotation = crowsetta.Transcriber(format=kind).from_file(path).to_annot()
        parts = annotation if isinstance(annotation, list) else [annotation]
        sequences = [one for part in parts for one in (part.seq if isinstance(part.seq, list) else [part.seq])]
        segments = [segment for sequence in sequences for segment in sequence.segments]
    except Exception as error:  # a reader of many formats has many kinds
        raise DataError(f"{path}: crowsetta cannot read it as {kind}: {str(error).splitlines()[0]}") from None
    rows = [
        (track.sound, segment.onset_s, segment.offset_s, one, float("nan"), float("nan"), f"{path}: segment {number_}")
        for number_, segment in enumerate(segments, start=1)
        if segment.label.strip()
        for one in labeller.labels(segment.label, track.sound, str(path))
    ]
    return pd.DataFrame(rows, columns=ANNOTATION_COLUMNS)


_NAMES = {
    "raven": "selection tables of Raven",
    "audacity": "label tracks of Audacity",
    "csv": "tables of start and end",
    "crowsetta": "files that crowsetta reads",
}
_READERS: dict[str, Callable[[Path, Track, Source, Labeller], "pd.DataFrame"]] = {
    "raven": _read_raven,
    "audacity": _read_audacity,
    "csv": _read_csv,
    "crowsetta": _read_crowsetta,
}
