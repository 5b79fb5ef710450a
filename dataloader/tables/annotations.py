"""How are annotations beside long recordings read? Raven selection tables, Audacity label tracks, and crowsetta's."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from dataloader.tables.columns import find_columns, named_columns
from dataloader.tables.raven import BEGIN, names_others, read_raven
from dataloader.tables.reading import decode, number, read_header, read_table, row_locations, seconds
from dataloader.tables.rows import Labeller, annotations_of_rows, read_cell
from dataloader.tables.schema import ANNOTATION_COLUMNS, Understood, listed, table_of_recordings
from dataloader.tables.sounds import SoundNames, composed, describe, find_files, find_sounds
from utils.errors import DataError, counted
from utils.settings import Source

if TYPE_CHECKING:
    import pandas as pd

_TEXT = (".txt", ".tsv", ".csv")
_CROWSETTA = {".textgrid": "textgrid", ".not.mat": "notmat", ".phn": "timit", ".wrd": "timit"}  # ending -> its name
_AUDACITY = re.compile(r"\s*-?\d+([.,]\d+)?\t-?\d+([.,]\d+)?(\t.*)?")


class Track(NamedTuple):
    """A file with annotations, and its recording (None: its rows name their recordings)."""

    name: str  # relative path
    kind: str
    sound: str | None


class Reading(NamedTuple):
    """What the readers of all kinds of files need."""

    folder: Path
    source: Source
    labeller: Labeller
    names: SoundNames


def find_tracks(folder: Path) -> tuple[list[Track], list[str], list[str]]:
    """The files with annotations below ``folder``.

    A file belongs to the recording in the same folder whose name its own begins with (``x.flac``: ``x.txt``,
    ``x.flac.txt``, ``x.Table.1.selections.txt``). If there is none, to the only recording with that name anywhere.

    Returns:
        The files; files of annotations whose recording is missing; and the sound files.
    """
    files, sounds = find_files(folder), find_sounds(folder)
    known = set(sounds)
    by_stem: dict[tuple[str, str], str] = {}
    anywhere: dict[str, list[str]] = {}
    for sound in sounds:
        parent, name = _parent(sound), composed(PurePosixPath(sound).name)
        stem = name[: name.rindex(".")]
        by_stem.setdefault((parent, stem), sound)
        by_stem.setdefault((parent, name), sound)
        anywhere.setdefault(stem, []).append(sound)
    tracks, lonely = [], []
    for file in files:
        if file in known or (kind := _kind(folder, file)) is None:
            continue
        sound = _owner(file, by_stem, anywhere)
        if kind == "raven" and names_others(folder / file, sound):
            tracks.append(Track(file, kind, None))
        elif sound is None:
            lonely.append(file)
        else:
            tracks.append(Track(file, kind, sound))
    return tracks, lonely, sounds


def read_annotations(folder: Path, source: Source) -> Understood:
    """Read the annotations beside recordings.

    Raises:
        DataError: there is none, or one cannot be read.
    """
    import pandas as pd

    tracks, lonely, sounds = find_tracks(folder)
    if not tracks:
        raise DataError(
            f"{folder}: no file with annotations beside a recording (Raven selection tables, Audacity label tracks); "
            f"the folder holds {describe(folder)}"
        )
    reading, tables, annotated = Reading(folder, source, Labeller(source), SoundNames(sounds)), [], set()
    for track in tracks:
        rows = _READERS[track.kind](track, reading)
        tables.append(rows)
        annotated |= {track.sound} if track.sound else set(rows["filename"])
    annotations = pd.concat(tables, ignore_index=True)
    names = sorted(annotated)
    where = {track.sound: str(folder / track.name) for track in tracks}
    recordings = table_of_recordings(folder, names, [where.get(name, str(folder / name)) for name in names])
    used = Counter(track.kind for track in tracks)
    kinds = ", ".join(f"{_NAMES[kind]} ({count:,})" for kind, count in used.items())
    summary = f"{counted(len(annotations), 'annotation')} of {counted(len(names), 'recording')}: {kinds}"
    understood = Understood("annotations", summary, recordings, annotations, annotated)
    understood.tables = [folder / track.name for track in tracks]
    understood.notes = _notes(folder, tracks, lonely, sorted(set(sounds) - annotated))
    return understood


def _notes(folder: Path, tracks: list[Track], lonely: list[str], without: list[str]) -> list[str]:
    notes = []
    if lonely:
        notes.append(
            f"{folder}: {counted(len(lonely), 'file')} of annotations without their recording; left out: "
            f"{listed(lonely, 3)}"
        )
    if without:
        notes.append(
            f"{folder}: {counted(len(without), 'recording')} without annotations; left out: {listed(without, 3)}"
        )
    owners: dict[str, list[str]] = {}
    for track in tracks:
        if track.sound:
            owners.setdefault(track.sound, []).append(track.name)
    for sound, names in owners.items():
        if len(names) > 1:
            notes.append(f"{folder / sound}: {len(names)} files annotate this recording, all are used: {listed(names)}")
    return notes


def _parent(name: str) -> str:
    return composed(str(PurePosixPath(name).parent))


def _owner(file: str, by_stem: dict[tuple[str, str], str], anywhere: dict[str, list[str]]) -> str | None:
    """The sound file of a file of annotations: the one with the longest name that its own begins with."""
    parent, name = _parent(file), composed(PurePosixPath(file).name)
    candidates = [name[:end] for end in range(len(name), 0, -1) if end == len(name) or name[end] in "._ "]
    for candidate in candidates:
        if (parent, candidate) in by_stem:
            return by_stem[parent, candidate]
    for candidate in candidates:
        if len(anywhere.get(candidate, ())) == 1:
            return anywhere[candidate][0]
    return None


def _kind(folder: Path, file: str) -> str | None:
    """The kind of annotations in a file; None if it has none."""
    lower = file.lower()
    if any(lower.endswith(ending) for ending in _CROWSETTA):
        return "crowsetta"
    if not lower.endswith(_TEXT):
        return None
    lines = [line for line in decode(folder / file)[0].splitlines() if line.strip()]
    if not lines:
        return "audacity" if lower.endswith(".txt") else None
    if BEGIN in lines[0]:
        return "raven"
    if _AUDACITY.fullmatch(lines[0]):
        return "audacity"
    found = find_columns(read_header(folder / file), {}, folder / file)
    return "csv" if "start" in found and "end" in found and "filename" not in found else None


def _read_raven(track: Track, reading: Reading) -> "pd.DataFrame":
    path = reading.folder / track.name
    return read_raven(path, track.sound, reading.names, reading.source, reading.labeller)


def _read_audacity(track: Track, reading: Reading) -> "pd.DataFrame":
    r"""A label track of Audacity: start, end, label; a line that begins with ``\`` has the frequencies of the box."""
    import pandas as pd

    path, rows = reading.folder / track.name, []
    for line_number, line in enumerate(re.split("\r\n|\r|\n", decode(path)[0]), start=1):
        where, cells = f"{path}: line {line_number}", line.split("\t")
        if not line.strip():
            continue
        if cells[0].strip() == "\\":
            if not rows or len(cells) < 3:
                raise DataError(f"{where}: frequencies without a label before them; correct it")
            low, high = (read_cell(number, text, "frequency", where) for text in cells[1:3])
            limits = [limit if limit >= 0 else float("nan") for limit in (low, high)]  # -1: unknown
            rows[-1][4:6] = limits
            continue
        if len(cells) < 2:
            raise DataError(
                f"{where}: {line.strip()[:60]!r} is not a label; expected start, end and label, separated by tabs"
            )
        times = [read_cell(seconds, text, "time", where) for text in cells[:2]]
        label = cells[2] if len(cells) > 2 else ""
        rows.append([track.sound, *times, label, float("nan"), float("nan"), where])
    found = [
        (sound, start, end, label, low, high, where)
        for sound, start, end, cell, low, high, where in rows
        for label in reading.labeller.labels(cell, sound, where)
    ]
    return pd.DataFrame(found, columns=ANNOTATION_COLUMNS)


def _read_csv(track: Track, reading: Reading) -> "pd.DataFrame":
    """A table of start, end and label beside its recording."""
    path = reading.folder / track.name
    table = read_table(path, usual=False)
    found = find_columns(table.columns, named_columns(reading.source.columns), path)
    return annotations_of_rows([track.sound] * len(table), table, found, row_locations(path, table), reading.labeller)


def _read_crowsetta(track: Track, reading: Reading) -> "pd.DataFrame":
    """Files that the package crowsetta reads: TextGrid of Praat, .not.mat of evsonganaly, .phn and .wrd of TIMIT."""
    import pandas as pd

    path = reading.folder / track.name
    try:
        import crowsetta
    except ImportError:
        raise DataError(f"{path}: reading it needs the package crowsetta: pip install crowsetta") from None
    kind = next(name for ending, name in _CROWSETTA.items() if track.name.lower().endswith(ending))
    try:
        annotation = crowsetta.Transcriber(format=kind).from_file(path).to_annot()
        tiers = annotation if isinstance(annotation, list) else [annotation]
        sequences = [seq for tier in tiers for seq in (tier.seq if isinstance(tier.seq, list) else [tier.seq])]
        segments = [segment for sequence in sequences for segment in sequence.segments]
    except Exception as error:  # a reader of many formats has many kinds of errors
        raise DataError(f"{path}: crowsetta cannot read it as {kind}: {str(error).splitlines()[0]}") from None
    rows = [
        (track.sound, segment.onset_s, segment.offset_s, label, float("nan"), float("nan"), f"{path}: segment {index}")
        for index, segment in enumerate(segments, start=1)
        if segment.label.strip()
        for label in reading.labeller.labels(segment.label, track.sound, str(path))
    ]
    return pd.DataFrame(rows, columns=ANNOTATION_COLUMNS)


_NAMES = {
    "raven": "selection tables of Raven",
    "audacity": "label tracks of Audacity",
    "csv": "tables of start and end",
    "crowsetta": "files that crowsetta reads",
}
_READERS: dict[str, Callable[[Track, Reading], "pd.DataFrame"]] = {
    "raven": _read_raven,
    "audacity": _read_audacity,
    "csv": _read_csv,
    "crowsetta": _read_crowsetta,
}
