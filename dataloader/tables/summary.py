"""What does ``python -m dataloader.metadata --check`` print? What the program understood of the data, and warnings."""

import difflib
import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from dataloader.audio.decoding import BadRecording, audio_info
from dataloader.tables import schema
from dataloader.tables.checks import beyond_end
from dataloader.tables.groups import catalogue_number
from dataloader.tables.reading import read_table
from dataloader.tables.schema import NEGATIVE, NOCALL, UNKNOWN, listed
from dataloader.tables.sources import sources_of
from utils.errors import counted
from utils.settings import Config

if TYPE_CHECKING:
    import pandas as pd

_MOST = 10  # classes that are listed
_DOMINATES = 0.5  # share of the hours above which one class dominates
_LONG_NAME, _NEAR = 10, 0.9  # characters of a name, and its similarity to another, from which on one may be misspelt
_OF_A_SPECIES = "of a species"
_OTHER_KINDS = {NEGATIVE: "of false alarms", NOCALL: f"of {NOCALL}", UNKNOWN: "with an unknown label"}
_FIELDS = ("license", "licence", "collection", "class_name")  # columns whose values are counted


def describe_table(table: "pd.DataFrame", config: Config) -> Iterator[str]:
    """The lines of the check.

    Args:
        table: of ``dataloader.metadata.read_sources``.
    """
    if not config.labels.nocall:
        table["labels"] = [tuple(label for label in labels if label != NOCALL) for labels in table["labels"]]
    seconds, bad = _lengths(table)
    table = table.assign(seconds=seconds)
    yield from _size(table)
    yield from _classes(table)
    yield from _annotations(table)
    for column in _FIELDS:
        if column in table:
            counts = Counter(text.strip() or "(empty)" for text in table[column])
            yield f"{column}: " + ", ".join(f"{name} {count:,}" for name, count in counts.most_common(6))
    yield from _groups(table)
    if bad:
        yield f"recordings that cannot be opened: {len(bad):,}; {listed([f'{name} ({why})' for name, why in bad], 3)}"
    problems = [*_warnings(table, config)]
    yield "warnings:" if problems else "warnings: none"
    yield from (f"  - {problem}" for problem in problems)


def _lengths(table: "pd.DataFrame") -> tuple[list[float], list[tuple[str, str]]]:
    """Seconds of each recording by its header, and recordings that cannot be opened; nothing is decoded."""

    def length(path: str) -> float | BadRecording:
        try:
            info = audio_info(path)
        except BadRecording as bad:
            return bad
        return info.frames / info.sample_rate

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(length, table["path"]))
    pairs = list(zip(table["filename"], found, table[schema.TIME_EXPANSION], strict=True))
    bad = [
        (name, f"{length_or_fault.reason}: {length_or_fault.detail}")
        for name, length_or_fault, _ in pairs
        if isinstance(length_or_fault, BadRecording)
    ]
    return [
        0.0 if isinstance(length_or_fault, BadRecording) else length_or_fault / factor
        for _, length_or_fault, factor in pairs
    ], bad


def _size(table: "pd.DataFrame") -> Iterator[str]:
    hours = table["seconds"].sum() / 3600
    longest = table.loc[table["seconds"].idxmax()]
    yield (
        f"recordings: {len(table):,}, {hours:.2f} h; the longest {longest['seconds']:,.1f} s ({longest['filename']}), "
        f"half are shorter than {table['seconds'].median():.1f} s"
    )
    expansions = Counter(factor for factor in table[schema.TIME_EXPANSION] if factor != 1)
    for factor, count in expansions.items():
        yield f"time expansion x {factor:g}: {counted(count, 'recording')}"


def _classes(table: "pd.DataFrame") -> Iterator[str]:
    counts = Counter(label for labels in table["labels"] for label in labels)
    without = [label for label in table.attrs.get(schema.CLASSES, ()) if label not in counts]
    named = ", ".join(f"{label} {count:,}" for label, count in counts.most_common(_MOST))
    more = f" and {len(counts) - _MOST:,} more" if len(counts) > _MOST else ""
    yield f"classes: {len(counts):,}; recordings of each: {named}{more}"
    if without:
        yield f"classes without a recording (they keep a column): {len(without):,}; {listed(without)}"
    background = Counter(label for labels in table["secondary_labels"] for label in labels)
    if background:
        strangers = sorted(set(background) - set(counts))
        more = f"; {len(strangers):,} of these species are not classes: {listed(strangers)}" if strangers else ""
        yield f"labels in the background: {sum(background.values()):,} of {len(background):,} species{more}"
    empty = sum(set(labels) <= {NOCALL} for labels in table["labels"])
    if empty:
        yield f"recordings without a species: {empty:,}"


def _annotations(table: "pd.DataFrame") -> Iterator[str]:
    if schema.ANNOTATIONS not in table:
        return
    rows = [
        (annotation, row.seconds)
        for row in table.itertuples()
        if isinstance(row.annotations, tuple)
        for annotation in row.annotations
    ]
    n_recordings = sum(isinstance(found, tuple) for found in table[schema.ANNOTATIONS])
    total = sum(max(0.0, min(annotation.end_s, seconds) - annotation.start_s) for annotation, seconds in rows)
    kinds = Counter(_kind_of(annotation.label) for annotation, _ in rows)
    kinds["with frequencies"] = sum(not math.isnan(annotation.low_hz) for annotation, _ in rows)
    more = "".join(f", {kinds[kind]:,} {kind}" for kind in (*_OTHER_KINDS.values(), "with frequencies") if kinds[kind])
    yield (
        f"annotations: {len(rows):,} in {counted(n_recordings, 'recording')}, {total:,.1f} s together; "
        f"{kinds[_OF_A_SPECIES]:,} {_OF_A_SPECIES}{more}"
    )
    choices = Counter(table[schema.UNANNOTATED][table[schema.ANNOTATIONS].map(lambda found: isinstance(found, tuple))])
    counts = ", ".join(f"{choice} ({count:,})" for choice, count in choices.items())
    yield f"species without an annotation in an annotated recording are: {counts}"
    if problem := beyond_end(table):
        yield problem


def _kind_of(label: str) -> str:
    return _OTHER_KINDS.get(NEGATIVE if label.startswith(NEGATIVE) else label, _OF_A_SPECIES)


def _groups(table: "pd.DataFrame") -> Iterator[str]:
    sizes = table["group"].value_counts()
    largest = f"{counted(int(sizes.iloc[0]), 'recording')} ({sizes.index[0]})"
    yield f"groups (kept in one subset): {len(sizes):,}; the largest has {largest}"
    if schema.KNOWN_SPLIT in table:
        counts = Counter(name or "(none)" for name in table[schema.KNOWN_SPLIT])
        yield "split of the data: " + ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    sizes_of_files = Counter(Path(path).stat().st_size for path in table["path"] if Path(path).is_file())
    repeated = sum(count for count in sizes_of_files.values() if count > 1)
    numbers = Counter(filter(None, map(catalogue_number, table["filename"])))
    again = sum(count > 1 for count in numbers.values())
    yield (
        f"duplicates: {counted(repeated, 'recording')} with a file size that another has too (content is compared when "
        f"they are prepared); {counted(again, 'archive number')} on more than one recording"
    )


def _warnings(table: "pd.DataFrame", config: Config) -> Iterator[str]:
    least = config.data.min_samples_in_class
    by_class: dict[str, list[int]] = {}
    for index, labels in zip(table.index, table["labels"], strict=True):
        for label in labels:
            by_class.setdefault(label, []).append(index)
    small = sorted(label for label, found in by_class.items() if len(found) < least)
    if small:
        verb = counted(len(small), "class has", "classes have")
        what = f"fewer than {least} recordings ([data] min_samples_in_class)"
        yield f"{verb} {what} and will be left out: {listed(small)}"
    yield from _few_groups(table, {label: found for label, found in by_class.items() if len(found) >= least})
    seconds = {label: float(table.loc[found, "seconds"].sum()) for label, found in by_class.items()}
    total = sum(seconds.values())
    if len(seconds) > 2 and total:
        label = max(seconds, key=seconds.get)
        if seconds[label] / total > _DOMINATES:
            share = f"{seconds[label] / total:.0%}"
            yield f"{label} has {share} of the hours; [data] class_cap or balance_power can balance this"
    for label in sorted(by_class):
        near = [] if len(label) < _LONG_NAME else difflib.get_close_matches(label, set(by_class) - {label}, 1, _NEAR)
        if near and (len(by_class[label]), label) < (len(by_class[near[0]]), near[0]):
            yield f"{label!r} may be another spelling of {near[0]!r}; [data] label_map can join them"
    yield from _strangers_of_label_maps(table, config)


def _few_groups(table: "pd.DataFrame", rows_of: dict[str, list[int]]) -> Iterator[str]:
    """Warnings of classes that are from too few groups, authors or places to be scored.

    Args:
        rows_of: the rows of each class in ``table``.
    """
    n_groups = {label: table["group"].loc[rows].nunique() for label, rows in rows_of.items()}
    if alone := sorted(label for label, count in n_groups.items() if count == 1):
        verb = counted(len(alone), "class is", "classes are")
        yield f"{verb} of one group (one recordist and place), so that no other recording can test it: {listed(alone)}"
    if two := sorted(label for label, count in n_groups.items() if count == 2):
        verb = counted(len(two), "class has", "classes have")
        yield (
            f"{verb} two groups only, which cannot train, validate and test at once (train_classifier.py --folds "
            f"scores every recording): {listed(two)}"
        )
    for column, where in (("author", "by one person"), ("place", "at one place")):
        if column in table:
            names = table[column].fillna("").str.strip()
            if found := sorted(
                label for label, rows in rows_of.items()
                if len(rows) > 2 and names.loc[rows].ne("").all() and names.loc[rows].nunique() == 1
            ):  # fmt: skip
                yield f"{counted(len(found), 'class was', 'classes were')} recorded {where}: {listed(found)}"


def _strangers_of_label_maps(table: "pd.DataFrame", config: Config) -> Iterator[str]:
    """Labels that a label map does not name, while it names others of its source."""
    for name, source in sources_of(config).items():
        if source.label_map is None:
            continue
        rows = read_table(source.label_map, usual=False)
        known = {text.strip() for column in rows.columns[:2] for text in rows[column]}
        of_source = table[table[schema.SOURCE] == name] if name else table
        strangers = sorted({label for labels in of_source["labels"] for label in labels} - known)
        if strangers:
            names = f"{counted(len(strangers), 'label')} of the data that the label map does not name"
            yield f"{source.label_map}: {names}, kept as they are: {listed(strangers)}"
