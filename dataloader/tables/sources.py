"""How do one or several sources become one table? By layout, label map, filter, and a name before each filename."""

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from dataloader.audio.endings import sound_files_not_used
from dataloader.audio.recorder import recorder_columns
from dataloader.tables import schema
from dataloader.tables.annotations import find_tracks, read_annotations
from dataloader.tables.birdclef import AUDIO, find_table, read_birdclef
from dataloader.tables.checks import checked
from dataloader.tables.folders import labels_of_folder, read_folders
from dataloader.tables.own_table import find_own_table, read_own_table
from dataloader.tables.reading import number, read_header, read_table
from dataloader.tables.recordings import add_recordings_table, describes_recordings
from dataloader.tables.rows import Labeller, list_or_labels
from dataloader.tables.schema import NEGATIVE, NOCALL, SEPARATOR, UNKNOWN, Annotation, Understood, listed
from dataloader.tables.sounds import composed, describe, find_files
from utils.errors import DataError, counted
from utils.settings import Config, Source

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

LAYOUTS: Mapping[str, Callable[[Path, Source], Understood]] = {
    "birdclef": read_birdclef,
    "folders": read_folders,
    "table": read_own_table,
    "annotations": read_annotations,
}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, "<": lambda a, b: a < b,
}  # fmt: skip
_CONDITION = re.compile(r"\s*(?P<column>.+?)\s*(?P<sign>>=|<=|!=|=|>|<)\s*(?P<value>.+?)\s*")


def sources_of(config: Config) -> dict[str, Source]:
    """The sources by name; data_dir of [paths] with the settings of [data] has the name ``""``."""
    if config.sources:
        return dict(config.sources)
    data = config.data
    same = {key: getattr(data, key) for key in vars(Source()) if key not in ("data_dir", "weight")}
    return {"": Source(data_dir=config.paths.data_dir, **same)}


def read_source(name: str, source: Source) -> tuple["pd.DataFrame", Understood]:
    """The recordings of a source, checked, mapped and filtered, and how they were understood, which is logged.

    Raises:
        DataError: the folder is missing, its layout is unknown, or something in it cannot be used.
    """
    folder = source.data_dir
    if folder is None or not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; correct {f'[source.{name}] data_dir' if name else '[paths] data_dir'}"
        )
    layout = find_layout(folder, source) if source.layout == "auto" else source.layout
    try:
        understood = LAYOUTS[layout](folder, source)
    except DataError as error:
        raise _with_a_fitting_layout(error, layout, folder, source) from None
    if layout in ("folders", "annotations"):
        add_recordings_table(understood, folder, source)
    how = " (detected; [data] layout sets another)" if source.layout == "auto" else ""
    log.info("%s: layout %s%s: %s", folder, layout, how, understood.summary)
    if layout in ("folders", "annotations") and (unused := sound_files_not_used(find_files(folder))):
        log.warning("%s: %s", folder, unused)
    for note in understood.notes:
        log.warning("%s", note)
    annotated_for = source.annotated_for
    if source.label_map:
        renamed = read_label_map(source.label_map)
        _map_labels(understood, renamed, source.label_map)
        annotated_for = _renamed_cell(annotated_for, renamed)
    table = checked(understood, source.unannotated, annotated_for)
    table = _filtered(table, source.filter, folder)
    if table.empty:
        raise DataError(f"{folder}: the label map and the filter leave no recording; correct them")
    _add_what_the_recorder_wrote(table, source)
    _add_expansion(table, source)
    _compress_annotations(table)
    _add_known_split(table)
    if name:
        table = table.assign(filename=[f"{name}/{filename}" for filename in table["filename"]], **{schema.SOURCE: name})
        if "group" in table:
            table["group"] = [f"{name}/{group.strip()}" if group.strip() else "" for group in table["group"].fillna("")]
        table[schema.WEIGHT] = source.weight
    return table, understood


def find_layout(folder: Path, source: Source) -> str:
    """Detect the layout of a folder.

    Raises:
        DataError: none fits; the message states what the folder contains.
    """
    if find_table(folder):
        return "birdclef"
    own = find_own_table(folder, source)
    labelled = Labeller(source).is_set
    describes = own is not None and describes_recordings(own, source)
    if own is not None and not describes:
        return "table"
    audio = next((folder / name for name in AUDIO if (folder / name).is_dir()), None)
    tracks, lonely, sounds = find_tracks(folder)
    if tracks:
        return "annotations"
    if describes and (labelled or not any("/" in name for name in sounds)):
        return "table"
    if audio is None and any("/" in name for name in sounds):
        return "folders"
    if audio is not None and any("/" in name for name in sounds):
        raise DataError(
            f"{folder}: {audio.name} without a table (train_metadata.csv or train.csv with primary_label and "
            f"filename); the folder holds {describe(folder)}. Add the table, or read the folders of {audio.name} as "
            "species with [data] layout = folders"
        )
    raise DataError(
        f"{folder}: not understood; the folder holds {describe(folder)}.{_hint(folder, lonely, sounds)} Expected is "
        "one of: train_metadata.csv or train.csv with train_audio/ (birdclef), a sub-folder for each species "
        "(folders), a table with columns for files and labels (table), or Raven or Audacity files beside recordings "
        "(annotations); docs/data.md shows each"
    )


def _hint(folder: Path, lonely: list[str], sounds: list[str]) -> str:
    """What is almost a layout: a table with other columns, or annotations that are not beside a recording."""
    tables = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".csv", ".tsv", ".parquet")]
    if tables:
        columns = ", ".join(read_header(tables[0]))
        return (
            f" {tables[0].name} has the columns {columns}: name those of files and labels with [data] columns = "
            "filename: NAME, label: NAME."
        )
    if lonely:
        return f" {listed(lonely, 3)} annotates a recording that is missing."
    stems = {PurePosixPath(name).with_suffix("").as_posix() for name in sounds}
    texts = [name for name in find_files(folder) if name.lower().endswith(".txt") and name[:-4] in stems]
    if texts:
        return (
            f" {texts[0]} is neither a selection table of Raven nor a label track of Audacity (start, end and label "
            "separated by tabs)."
        )
    return ""


def _with_a_fitting_layout(error: DataError, layout: str, folder: Path, source: Source) -> DataError:
    """The error, and the layout that would fit."""
    if source.layout == "auto":
        return error
    try:
        fits = find_layout(folder, source)
    except DataError:
        return error
    if fits == layout:
        return error
    return DataError(f"{error}. [data] layout = {layout} is set; {describe(folder)}: layout = {fits} would read this")


def _map_labels(understood: Understood, renamed: dict[str, str], path: Path) -> None:
    """Rename labels with the label map in ``path``.

    An empty new name drops the label, and also a recording that has no other label.
    """
    table, rows = understood.recordings, understood.annotations
    had = table["labels"].map(len) > 0
    for column in ("labels", "secondary_labels"):
        table[column] = [_renamed(labels, renamed) for labels in table[column]]
    if "annotated_for" in table:
        table["annotated_for"] = [_renamed_cell(text, renamed) for text in table["annotated_for"]]
    dropped = had & (table["labels"].map(len) == 0) & ~table["filename"].isin(understood.annotated)
    understood.recordings = table[~dropped].reset_index(drop=True)
    if rows is not None and len(rows):
        new = [_renamed((label,), renamed) for label in rows["label"]]
        understood.annotations = rows.assign(label=[labels[0] if labels else UNKNOWN for labels in new])
    understood.classes = _renamed(understood.classes, renamed)
    understood.names = {renamed.get(label, label): names for label, names in understood.names.items()}
    if dropped.any():
        log.info("%s: %s left out, because it drops their labels", path, counted(int(dropped.sum()), "recording"))


def _renamed(labels: tuple[str, ...], renamed: dict[str, str]) -> tuple[str, ...]:
    new = []
    for label in labels:
        label = composed(label).strip()
        sign = NEGATIVE if label.startswith(NEGATIVE) and label not in renamed else ""
        plain = label.removeprefix(sign)
        if to := renamed.get(plain, plain):
            new.append(sign + to)
    return tuple(dict.fromkeys(new))


def _renamed_cell(text: str, renamed: dict[str, str]) -> str:
    """The labels of ``annotated_for`` renamed; if all are dropped, one that is not a class is left."""
    labels = list_or_labels(text)
    return SEPARATOR.join(_renamed(labels, renamed) or (labels and (UNKNOWN,)))


def read_label_map(path: Path) -> dict[str, str]:
    """Read a CSV of old,new; if a new name is renamed again, its last name is used.

    Raises:
        DataError: there are not two columns, a label has two new names, or names form a circle.
    """
    table = read_table(path)
    if len(table.columns) < 2:
        raise DataError(f"{path}: it has one column; a label map needs two, old and new")
    old, new = (table[name] for name in (("old", "new") if {"old", "new"} <= set(table.columns) else table.columns[:2]))
    renamed: dict[str, str] = {}
    for line, *names in zip(table.index, old, new, strict=True):
        before, after = (composed(name).strip() for name in names)
        if (above := renamed.setdefault(before, after)) != after:
            raise DataError(f"{path}: line {line}: {before!r} becomes {after!r} here and {above!r} above; keep one")
    last = {}
    for label in renamed:
        chain = [label]
        while (after := renamed.get(chain[-1])) and after != chain[-1]:
            if after in chain:
                raise DataError(f"{path}: {' -> '.join([*chain, after])} is a circle; remove one of these lines")
            chain.append(after)
        last[label] = after if after is not None else chain[-1]
    return {label: NOCALL if labels_of_folder(after) == (NOCALL,) else after for label, after in last.items()}


def _filtered(table: "pd.DataFrame", conditions: str, folder: Path) -> "pd.DataFrame":
    """The recordings for which all conditions hold, such as ``rating >= 3, collection = XC|iNat``."""
    for text in filter(None, map(str.strip, conditions.split(","))):
        match = _CONDITION.fullmatch(text)
        if not match:
            raise DataError(f"[data] filter: {text!r} is not a condition such as rating >= 3 or collection = XC|iNat")
        column, sign, value = match["column"], match["sign"], match["value"]
        if column not in table:
            known = [name for name in table.columns if name not in ("where", "labels", "annotations", "path")]
            raise DataError(f"{folder}: [data] filter names column {column!r}, but the columns are {', '.join(known)}")
        kept = [_holds(cell, sign, value, text) for cell in table[column]]
        left_out = len(kept) - sum(kept)
        table = table[kept].reset_index(drop=True)
        log.info("%s: filter %s: %s left out, %d kept", folder, text, counted(left_out, "recording"), len(table))
    return table


def _holds(cell: object, sign: str, value: str, condition: str) -> bool:
    text = cell.strip() if isinstance(cell, str) else ""
    if sign in ("=", "!="):
        return (text in [allowed.strip() for allowed in value.split("|")]) == (sign == "=")
    try:
        limit = number(value)
    except ValueError:
        raise DataError(f"[data] filter: {condition!r} compares with {value!r}, which is not a number") from None
    try:
        return _COMPARISONS[sign](number(text), limit)
    except ValueError:  # an empty cell, or text: the condition is not known to be true
        return False


def _add_what_the_recorder_wrote(table: "pd.DataFrame", source: Source) -> None:
    """Add the columns ``recorded_at``, ``site`` and ``device`` from the recordings, if the table does not have them.

    If a recording states its time expansion, this fills an empty cell of ``time_expansion``, unless the setting has
    another value.
    """
    written = recorder_columns(table["path"].tolist())
    for column in (schema.RECORDED_AT, schema.SITE, schema.DEVICE):
        if column not in table and any(written[column]):
            table[column] = written[column]
    stated = [str(factor) if factor != 1.0 else "" for factor in written[schema.TIME_EXPANSION]]
    if source.time_expansion != 1.0 or not any(stated):
        return
    own = table[schema.TIME_EXPANSION].fillna("") if schema.TIME_EXPANSION in table else [""] * len(table)
    table[schema.TIME_EXPANSION] = [cell if cell.strip() else factor for cell, factor in zip(own, stated, strict=True)]
    if count := sum(bool(factor) and not cell.strip() for cell, factor in zip(own, stated, strict=True)):
        plays = counted(count, "recording states that it plays", "recordings state that they play")
        log.info(
            "%s: %s slower than the original sound; a column time_expansion would have priority", source.data_dir, plays
        )


def _add_expansion(table: "pd.DataFrame", source: Source) -> None:
    """Set the column ``time_expansion`` as numbers: those of the table, else the setting."""
    own = table["time_expansion"] if "time_expansion" in table else [""] * len(table)
    factors = []
    for text, where in zip(own, table["where"], strict=True):
        try:
            factor = number(text) if isinstance(text, str) and text.strip() else source.time_expansion
        except ValueError:
            factor = 0.0
        if factor <= 0:
            raise DataError(f"{where}: time_expansion {text!r} is not a number above 0 such as 10; correct it")
        factors.append(float(factor))
    table[schema.TIME_EXPANSION] = factors


def _compress_annotations(table: "pd.DataFrame") -> None:
    """Convert times and frequencies to those of the original sound; people annotate the file as it plays."""
    if schema.ANNOTATIONS in table:
        pairs = zip(table[schema.ANNOTATIONS], table[schema.TIME_EXPANSION], strict=True)
        table[schema.ANNOTATIONS] = [
            found and tuple(_compressed(annotation, factor) for annotation in found) for found, factor in pairs
        ]


def _compressed(annotation: Annotation, factor: float) -> Annotation:
    return Annotation(
        annotation.start_s / factor,
        annotation.end_s / factor,
        annotation.label,
        annotation.low_hz * factor,
        annotation.high_hz * factor,
    )


_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "dev", "development"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"), **dict.fromkeys(("test", "testing", "eval"), "test"),
}  # fmt: skip


def _add_known_split(table: "pd.DataFrame") -> None:
    """Add the column ``known_split`` from ``split``: train, val, test or the number of a fold; empty: unknown."""
    if "split" not in table:
        return
    known, strange = [], {}
    for text, where in zip(table["split"].fillna(""), table["where"], strict=True):
        text = text.strip().lower().removeprefix("fold").strip("_ -")
        text = text.removesuffix(".0")
        split = _SPLIT_NAMES.get(text, text if text.isdecimal() else "")
        if text and not split:
            strange.setdefault(text, where)
        known.append(split)
    if strange:
        name, where = next(iter(strange.items()))
        raise DataError(
            f"{where}: split {name!r} is not train, val, test or the number of a fold; correct or rename the column"
        )
    if any(known):
        table[schema.KNOWN_SPLIT] = known
    del table["split"]


def join_sources(tables: Mapping[str, tuple["pd.DataFrame", Understood]]) -> "pd.DataFrame":
    """One table of all sources; ``attrs`` has the labels that are always classes, and the names of species."""
    import pandas as pd

    table = pd.concat([recordings for recordings, _ in tables.values()], ignore_index=True)
    for column in table.columns:  # columns that one source has and another has not
        empty = table[column].isna()
        if column in (schema.ANNOTATIONS, schema.KNOWN_FOR):
            table[column] = [None if not isinstance(value, tuple) else value for value in table[column]]
        elif empty.any() and column == schema.UNANNOTATED:
            table[column] = table[column].fillna("absent")
        elif empty.any() and column not in (schema.WEIGHT, schema.TIME_EXPANSION):
            table[column] = [() if blank and column == "not_these" else "" if blank else value
                             for blank, value in zip(empty, table[column], strict=True)]  # fmt: skip
    used = {label for labels in table["labels"] for label in labels}
    classes = dict.fromkeys(label for _, understood in tables.values() for label in understood.classes)
    names = {label: both for _, understood in tables.values() for label, both in understood.names.items()}
    table.attrs = {
        schema.CLASSES: list(classes),
        schema.NAMES: {label: names[label] for label in sorted(used | set(classes)) if label in names},
    }
    return table
