"""What does every reader of a layout return? A table of recordings and, if labels have times, a table of annotations.

``checks.py`` checks both in the same way for all layouts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

NOCALL = "nocall"  # the label of recordings, and of segments, in which no bird calls
NEGATIVE = "-"  # the label of an absent species begins with it, as in "-asbfly"
UNKNOWN = "?"  # the label of an annotation of an unknown sound, such as one that a label map drops
SEPARATOR = ";"  # of several labels in one cell

# Columns of the recordings. A reader returns the first four always, and the others if the data have them.
FILENAME = "filename"  # identifies the recording: a relative path with /, also of its entry in the cache
PATH = "path"  # the sound file
LABELS = "labels"  # tuple of the species in the foreground; of an annotated recording those of its annotations
WHERE = "where"  # file and line that name it, for messages

# Columns that load_table adds if the data have them, besides labels, secondary_labels, primary_label, group, path.
ANNOTATIONS = "annotations"  # tuple of Annotation; None: the labels have no times
UNANNOTATED = "unannotated"  # in an annotated recording, a species without annotation is absent, unknown or left_out
KNOWN_FOR = "known_for"  # tuple of the labels that were annotated; None: all
KNOWN_SPLIT = "known_split"  # train, val, test or the number of a fold, as in the table
WEIGHT = "sampling_weight"  # how often the recording's training windows are used
TIME_EXPANSION = "time_expansion"  # how many times slower the file plays than the original sound
# ISO 8601 and names, as the recorder wrote them; "" if unknown.
RECORDED_AT, SITE, DEVICE = "recorded_at", "site", "device"
SOURCE = "source"  # name of the [source.NAME]
CLASSES, NAMES = "classes", "names"  # of ``DataFrame.attrs``: labels that are always classes; their names


class Annotation(NamedTuple):
    """A label with times.

    Attributes:
        start_s, end_s: from the beginning of the recording.
        label: a species; ``nocall`` for a segment without any; ``-species`` for a false alarm.
        low_hz, high_hz: of the box; NaN if unknown.
    """

    start_s: float
    end_s: float
    label: str
    low_hz: float = math.nan
    high_hz: float = math.nan


ANNOTATION_COLUMNS = [FILENAME, *Annotation._fields, WHERE]


@dataclass
class Understood:
    """A data set as a reader understood it.

    Attributes:
        layout: its name.
        summary: how it was understood, in one line for the log.
        recordings: a row for each recording, with the columns above.
        annotations: rows of ``ANNOTATION_COLUMNS``; None if no label has a time. If a recording in ``annotated`` has no
            row, nothing was found in it.
        annotated: filenames of the recordings whose labels have times.
        classes: labels that are classes even if no recording has them, such as those of a sample submission.
        names: label -> (scientific name, common name), of a taxonomy.
        notes: what the user should know, a line each.
        tables: files that were read.
    """

    layout: str
    summary: str
    recordings: "pd.DataFrame"
    annotations: "pd.DataFrame | None" = None
    annotated: set[str] = field(default_factory=set)
    classes: tuple[str, ...] = ()
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)


def table_of_recordings(
    folder: Path, filenames: Sequence[str], where: Sequence[str], labels: Sequence[tuple[str, ...]] | None = None
) -> "pd.DataFrame":
    """The table of recordings below ``folder``; without ``labels`` they have none, except those of annotations."""
    import pandas as pd

    none = pd.Series([()] * len(filenames), dtype=object)
    paths = [str(folder / name) for name in filenames]
    columns = {FILENAME: filenames, PATH: paths, LABELS: none if labels is None else labels, "secondary_labels": none}
    return pd.DataFrame(columns | {WHERE: where})


def split_labels(text: str) -> tuple[str, ...]:
    """The labels in one cell: ``a;b``; a label may contain a comma or a slash."""
    return tuple(dict.fromkeys(label.strip() for label in text.split(SEPARATOR) if label.strip()))


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
