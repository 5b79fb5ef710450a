"""How do the scores and the labels of different tables become those of the same rows?"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from evaluation.reading import Long, Wide
from evaluation.table import ScoreTable
from utils.errors import DataError, counted, unknown

if TYPE_CHECKING:  # it takes a second to import
    import pandas as pd

NOT_DETECTED = "rows without a detection have a score of 0, so AUC and average precision are those of a cut-off list"


@dataclass(frozen=True)
class Truth:
    """The rows that are scored, and their true labels.

    Attributes:
        source: the table or folder that the labels come from, for messages.
        labels, targets: see ``ScoreTable``.
        stems: the recording of each row, without its ending.
        start_s, end_s: ``(rows,)``; a whole recording begins at 0 and ends with it.
        groups: the group of each recording, by stem; a stem that is missing here is a group of its own.
        names: other names of the labels (scientific, common), normalised -> label.
        timed: see ``ScoreTable``.
        keys: the row_id of each row, if it has one.
        seconds: the length of each recording, by stem, if it is known; else it ends with its last row.
    """

    source: str
    labels: tuple[str, ...]
    targets: np.ndarray
    stems: tuple[str, ...]
    start_s: np.ndarray
    end_s: np.ndarray
    groups: Mapping[str, str]
    names: Mapping[str, str]
    timed: bool
    keys: tuple[str, ...] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


def truth_of(wide: Wide) -> Truth:
    """The labels in a table of ``row_id`` and a column of 0 and 1 for each class.

    Raises:
        DataError: a value is neither 0 nor 1, or a row_id has no end second.
    """
    if (wrong := ~np.isin(wide.values, (0, 1))).any():
        row, column = np.argwhere(wrong)[0]
        value = wide.values[row, column]
        raise DataError(f"{wide.path}: {wide.labels[column]} of {wide.keys[row]} is {value:g}; labels are 0 or 1")
    ends, stems, timed = wide.ends(), wide.stems(), wide.key == "row_id"
    return Truth(
        source=str(wide.path),
        labels=wide.labels,
        targets=wide.values.astype(np.int8),
        stems=tuple(stems),
        start_s=ends - _row_length(stems, ends) if timed else np.zeros(len(stems)),
        end_s=ends if timed else np.full(len(stems), np.inf),
        groups={},
        names={normal(label): label for label in wide.labels},
        timed=timed,
        keys=wide.keys,
    )


def _row_length(stems: Sequence[str], ends: np.ndarray) -> float:
    """Seconds of a row: the least step between rows of a recording, or the least end where each has one row."""
    order = np.lexsort((ends, np.asarray(stems)))
    same = np.asarray(stems)[order][1:] == np.asarray(stems)[order][:-1]
    steps = np.diff(ends[order])[same]
    return float(steps[steps > 0].min() if (steps > 0).any() else ends.min())


def normal(name: str) -> str:
    """A name in the form in which names are compared: lower case, with blanks between its words."""
    return " ".join(re.split(r"[\W_]+", name.casefold())).strip()


def match(truth: Truth, predictions: Wide | Long) -> tuple[ScoreTable, list[str]]:
    """The scores of the rows of ``truth``, and remarks about differences.

    Raises:
        DataError: the rows or classes differ.
    """
    if isinstance(predictions, Wide):
        scores, remarks = _match_wide(truth, predictions), []
    else:
        scores, remarks = _match_long(truth, predictions)
    if (wrong := (scores < 0) | (scores > 1)).any():
        row, column = np.argwhere(wrong)[0]
        raise DataError(
            f"{predictions.path}: the score of {truth.labels[column]} in {truth.stems[row]} is "
            f"{scores[row, column]:g}; scores are between 0 and 1 (the sigmoid of logits)"
        )
    recordings = tuple(dict.fromkeys(truth.stems))
    index = {stem: number for number, stem in enumerate(recordings)}
    recording = np.array([index[stem] for stem in truth.stems])
    group = tuple(truth.groups.get(stem, stem) for stem in recordings)
    length = np.where(np.isfinite(truth.end_s), truth.end_s - truth.start_s, 0.0)
    source = str(predictions.path)
    table = ScoreTable(truth.labels, scores, truth.targets, recordings, recording, group, length, truth.timed, source)
    return table, remarks


# Wide tables


def _match_wide(truth: Truth, wide: Wide) -> np.ndarray:
    """The values of the table in the order of the rows and classes of ``truth``."""
    keys, wanted = _keys_of(truth, wide)
    rows = {key: number for number, key in enumerate(keys)}
    if missing := [key for key in wanted if key not in rows]:
        raise DataError(
            f"{wide.path}: {counted(len(missing), 'row')} of {truth.source} {_are(missing)} missing, the first is "
            f"{missing[0]}; every row needs a score"
        )
    known = set(wanted)
    if beyond := [key for key in keys if key not in known]:
        raise DataError(
            f"{wide.path}: {counted(len(beyond), 'row')} {_are(beyond)} not in {truth.source}, the first is "
            f"{beyond[0]}{_end_of_recording(truth, beyond[0])}; remove {'it' if len(beyond) == 1 else 'them'}"
        )
    columns = {label: number for number, label in enumerate(wide.labels)}
    if missing := [label for label in truth.labels if label not in columns]:
        raise DataError(
            f"{wide.path}: no column for {counted(len(missing), 'class', 'classes')}, the first is {missing[0]}"
        )
    if foreign := [label for label in wide.labels if label not in set(truth.labels)]:
        why = unknown(foreign[0], truth.labels, list_known=False)
        raise DataError(f"{wide.path}: column {foreign[0]!r} is not a class of {truth.source}: {why}; remove it")
    if keys == wanted and wide.labels == truth.labels:
        return wide.values
    return wide.values[[rows[key] for key in wanted]][:, [columns[label] for label in truth.labels]]


def _keys_of(truth: Truth, wide: Wide) -> tuple[list[str], list[str]]:
    """The keys of the rows of both tables in one form: names of recordings where ``wide`` has them, else row_ids."""
    if wide.key == "filename":
        return wide.stems(), list(truth.stems)
    if truth.keys is None:
        return list(wide.keys), [f"{stem}_{end:g}" for stem, end in zip(truth.stems, truth.end_s, strict=True)]
    return list(wide.keys), list(truth.keys)


def _end_of_recording(truth: Truth, key: str) -> str:
    """The end of the recording of a row, for a message."""
    stem = key.rpartition("_")[0]
    ends = [end for name, end in zip(truth.stems, truth.end_s, strict=True) if name == stem]
    return f" (that recording ends at {max(ends):g} s)" if ends else ""


# Long tables


def _match_long(truth: Truth, long: Long) -> tuple[np.ndarray, list[str]]:
    """A row has the highest score of the detections that overlap it by at least half of the shorter of the two."""
    label, remarks = _labels_in(truth, long)
    rows_of: dict[str, list[int]] = {}
    for number, stem in enumerate(truth.stems):
        rows_of.setdefault(stem, []).append(number)
    recording = _recordings_in(long, rows_of, truth.source)
    scores = np.zeros((len(truth.stems), len(truth.labels)), dtype=np.float32)
    column = label.map({name: number for number, name in enumerate(truth.labels)})
    for stem, detections in long.table.assign(column=column).groupby(recording, sort=False):
        rows = np.array(rows_of[stem])
        start, end = truth.start_s[rows], truth.end_s[rows]
        length = max(truth.seconds.get(stem, 0.0), end.max())
        if (beyond := detections["start"] >= length).any():
            raise DataError(
                f"{long.path}: a detection in {stem} begins at {detections['start'][beyond].iloc[0]:g} s, after the "
                f"end of the recording at {length:g} s; correct or remove it"
            )
        detections = detections[detections["column"].notna()]
        begin, stop = detections["start"].to_numpy()[:, None], detections["end"].to_numpy()[:, None]
        overlap = np.minimum(stop, end) - np.maximum(begin, start)  # (detections, rows)
        needed = np.minimum(stop - begin, end - start) / 2
        detection, row = np.nonzero((overlap >= needed - 1e-6) & (overlap > 0))
        columns, values = detections["column"].to_numpy(dtype=int), detections["score"].to_numpy()
        np.maximum.at(scores, (rows[row], columns[detection]), values[detection])
    never = [name for number, name in enumerate(truth.labels) if not scores[:, number].any()]
    if never:
        remarks.append(f"{counted(len(never), 'class', 'classes')} never detected: {_some(never)}")
    return scores, [*remarks, NOT_DETECTED]


def _labels_in(truth: Truth, long: Long) -> tuple["pd.Series", list[str]]:
    """The class of each detection, by the column that names most of them; NaN, with a remark, for other species."""
    candidates = {name: long.names[name].map(normal).map(dict(truth.names)) for name in long.names}
    name = max(candidates, key=lambda column: candidates[column].notna().sum())
    labels = candidates[name]
    others = labels.isna()
    if not len(labels) or not others.any():
        return labels, []
    if others.all():
        raise DataError(
            f"{long.path}: no detection has a class of {truth.source}, such as {truth.labels[0]}; its labels are "
            f"{_some(dict.fromkeys(long.names.iloc[:, 0]))}"
        )
    foreign = sorted(set(long.names[name][others]))
    return labels, [f"{counted(int(others.sum()), 'detection')} of other species left out: {_some(foreign)}"]


def _recordings_in(long: Long, rows_of: Mapping[str, list[int]], source: str) -> "pd.Series":
    """The recording of each detection, whose name is the stem of the recording, or that stem, a dot and more."""
    known = {}
    for name in dict.fromkeys(long.table["recording"]):
        begins = [stem for stem in rows_of if name == stem or name.startswith(f"{stem}.")]
        if not begins:
            raise DataError(f"{long.path}: {name} is not a recording of {source}; remove its rows, or its table")
        known[name] = max(begins, key=len)
    return long.table["recording"].map(known)


def _are(things: Sequence[object]) -> str:
    return "is" if len(things) == 1 else "are"


def _some(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
