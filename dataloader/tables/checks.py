"""Is everything that a reader of a layout found usable? One check for all layouts, which returns the table."""

import logging
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from dataloader.cache.entries import entry_name
from dataloader.tables import schema
from dataloader.tables.rows import list_or_labels
from dataloader.tables.schema import NEGATIVE, NOCALL, UNKNOWN, Annotation, Understood, listed
from dataloader.tables.sounds import check_filename
from utils.errors import DataError, counted

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

_A_FRAME_S = 0.01  # an annotation may end this long after the recording, because programs round its end
_UNKNOWN_LABELS = (UNKNOWN, "unknown", "unidentified", "unk")  # labels of annotations that name no species
_SPREADSHEET_ERRORS = ("#NAME?", "#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NULL!", "#NUM!")
_CHOICES = ("absent", "unknown", "left_out")


def checked(understood: Understood, unannotated: str, annotated_for: str) -> "pd.DataFrame":
    """Check every cell, and bring labels and annotations together: one row a recording.

    There is a warning of repeated rows and of annotations that cannot be used, which names the first of them. What
    cannot be read, or would be misunderstood, is an error.

    Args:
        unannotated, annotated_for: of [data]; a column of the table goes before each.

    Returns:
        The recordings with ``labels``, ``secondary_labels``, ``primary_label``, and if some are annotated with
        ``annotations``, ``unannotated`` and ``known_for``.

    Raises:
        DataError: a name or label that cannot be used; the message names the row.
    """
    table = understood.recordings
    for where, name in zip(table["where"], table["filename"], strict=True):
        check_filename(name, where)
    table = _without_repeats(table)
    table["labels"] = [_labels(labels, where) for labels, where in zip(table["labels"], table["where"], strict=True)]
    table["secondary_labels"] = [
        _labels(labels, where) for labels, where in zip(table["secondary_labels"], table["where"], strict=True)
    ]
    _add_annotations(table, understood, unannotated)
    _add_known_for(table, annotated_for)
    return table


def _labels(labels: Iterable[str], where: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(checked_label(label, where) for label in labels))


def checked_label(label: str, where: str) -> str:
    """A label in its usual form: accents composed, no blanks around it. It may contain ``/``, ``:`` and commas.

    Raises:
        DataError: it is empty, or contains a line break or a semicolon.
    """
    clean = unicodedata.normalize("NFC", label).strip()
    if not clean.strip(NEGATIVE):
        raise DataError(f"{where}: a label is empty; name a species, or {NOCALL} if no bird calls")
    if clean in _SPREADSHEET_ERRORS:
        raise DataError(
            f"{where}: label {clean!r} is an error of a spreadsheet, which takes a label such as -robin for a formula; "
            "write the label, with an apostrophe before it in the spreadsheet"
        )
    if any(character < " " for character in clean):
        raise DataError(f"{where}: label {clean!r} has a line break or a tab; correct it")
    if schema.SEPARATOR in clean:
        raise DataError(f"{where}: label {clean!r} has a semicolon, which separates labels; rename it")
    return clean


def _without_repeats(table: "pd.DataFrame") -> "pd.DataFrame":
    """One row for each filename.

    Raises:
        DataError: names differ only in their ending, so that they would share a cache entry.
    """
    repeated = table[table.duplicated("filename")]
    if len(repeated):
        named = [f"{name} ({where})" for name, where in zip(repeated["filename"], repeated["where"], strict=True)]
        first = table["where"].iloc[0].partition(": line ")[0]
        rows = counted(len(repeated), "row names a recording again", "rows name a recording again")
        log.warning("%s: %s; the first is kept: %s", first, rows, listed(named))
        table = table.drop_duplicates("filename")
    stems = table["filename"].map(entry_name)
    if stems.duplicated().any():
        both = table[stems == stems[stems.duplicated()].iloc[0]]
        names, where = both["filename"].tolist(), both["where"].iloc[0]
        raise DataError(f"{where}: {' and '.join(names)} differ in their ending only; rename one")
    return table.reset_index(drop=True)


def _usable_annotations(understood: Understood) -> dict[str, list[Annotation]]:
    """The annotations of each annotated recording, each once; and a warning of those that cannot be used unchanged."""
    of_file: dict[str, list[Annotation]] = {name: [] for name in understood.annotated}
    odd: dict[str, list[str]] = {}
    seen: set[tuple] = set()
    rows = () if understood.annotations is None else understood.annotations.itertuples(index=False, name=None)
    for name, start, end, label, low, high, where in rows:
        if problem := _wrong_times(start, end):
            odd.setdefault(problem, []).append(where)
            continue
        if not (math.isnan(low) or math.isnan(high)) and low > high:
            odd.setdefault("its lowest frequency is above its highest; used without them", []).append(where)
            low = high = math.nan
        label = checked_label(label, where)
        if label.lower() in _UNKNOWN_LABELS and label != UNKNOWN:
            problem = f"labelled {label}; its windows are used neither as examples without species nor for a class"
            odd.setdefault(problem, []).append(where)
            label = UNKNOWN
        if (key := (name, start, end, label, f"{low} {high}")) in seen:
            odd.setdefault("it is there a second time; counted once", []).append(where)
            continue
        seen.add(key)
        of_file[name].append(Annotation(start, end, label, low, high))
    for problem, rows_with_it in odd.items():
        log.warning("%s: %s; %s", counted(len(rows_with_it), "annotation"), problem, listed(rows_with_it, 3))
    return of_file


def _add_annotations(table: "pd.DataFrame", understood: Understood, unannotated: str) -> None:
    """Columns ``annotations`` and ``unannotated``; the labels of annotated recordings; ``primary_label``."""
    of_file = _usable_annotations(understood)
    labels, primary, annotations = [], [], []
    for name, untimed in zip(table["filename"], table["labels"], strict=True):
        found = of_file.get(name)
        counts = Counter(annotation.label for annotation in found or () if annotation.label != UNKNOWN)
        positive = sorted(label for label in counts if not label.startswith(NEGATIVE))
        species = [label for label in positive if label != NOCALL]
        known = dict.fromkeys([*untimed, *(species or positive)])
        present = tuple(label for label in known if not label.startswith(NEGATIVE))
        labels.append(present)
        by_count = sorted(counts, key=lambda label: (-counts[label], label))
        ranked = [label for label in by_count if label in species] or by_count
        primary.append(next(iter(untimed), None) or next(iter(ranked), NOCALL))
        annotations.append(None if found is None else tuple(sorted(found)) + _at_any_time(untimed))
    negative = [tuple(label for label in untimed if label.startswith(NEGATIVE)) for untimed in table["labels"]]
    table["labels"], table["primary_label"] = labels, primary
    if any(negative):
        table["not_these"] = negative
    if understood.annotated:
        table[schema.ANNOTATIONS] = annotations
        own = table["unannotated"] if "unannotated" in table else [""] * len(table)
        table[schema.UNANNOTATED] = [
            _choice(text, unannotated, where) for text, where in zip(own, table["where"], strict=True)
        ]


def beyond_end(table: "pd.DataFrame") -> str:
    """The annotations that end after their recordings, as one line; empty if there are none.

    Args:
        table: with ``seconds`` of each recording, 0 if they are unknown.
    """
    if schema.ANNOTATIONS not in table:
        return ""
    columns = (table[name] for name in ("filename", schema.ANNOTATIONS, "seconds"))
    beyond = [
        f"{name} ({annotation.start_s:g} to {annotation.end_s:g} of {seconds:.2f} s)"
        for name, found, seconds in zip(*columns, strict=True)
        for annotation in found or ()
        if 0 < seconds < annotation.end_s - _A_FRAME_S < math.inf
    ]
    ends = counted(len(beyond), "annotation ends", "annotations end")
    return f"{ends} after the recording; only what is inside it counts: {listed(beyond, 3)}" if beyond else ""


def _at_any_time(labels: tuple[str, ...]) -> tuple[Annotation, ...]:
    """Labels without times of a recording that also has annotations: they may be anywhere in it."""
    return tuple(Annotation(0.0, math.inf, label) for label in labels)


def _wrong_times(start: float, end: float) -> str:
    if start < 0:
        return "it begins before 0 s; left out"
    if end <= start:
        return "it ends before it begins, or has no length; left out"
    return ""


def _choice(text: str, default: str, where: str) -> str:
    choice = text.strip() or default
    if choice not in _CHOICES:
        raise DataError(f"{where}: unannotated {text!r} is not one of {', '.join(_CHOICES)}; correct it")
    return choice


def _add_known_for(table: "pd.DataFrame", annotated_for: str) -> None:
    """Add the column ``known_for``: the labels that were annotated, if not all were.

    A column ``annotated_for`` names them, or the setting. If all that is known about a recording is that it does not
    contain a species, the other species are unknown.
    """
    if "annotated_for" not in table and "not_these" not in table and not annotated_for:
        return
    known, everywhere = [], list_or_labels(annotated_for)
    own = table["annotated_for"] if "annotated_for" in table else [""] * len(table)
    negative = table["not_these"] if "not_these" in table else [()] * len(table)
    for text, labels, nots in zip(own, table["labels"], negative, strict=True):
        named = tuple(unicodedata.normalize("NFC", label) for label in list_or_labels(text) or everywhere)
        only_not = nots and not labels
        known.append(named or (tuple(label.removeprefix(NEGATIVE) for label in nots) if only_not else None))
    if any(labels is not None for labels in known):
        table[schema.KNOWN_FOR] = known
