"""What every reader of a layout gives: a table of recordings, and where labels have times a table of annotations.

All layouts end in these two, and ``checks.py`` looks at them in one way.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

NOCALL = "nocall"  # the label of recordings, and of stretches of one, in which no bird calls
NEGATIVE = "-"  # begins the label of what is not there, as "-asbfly"
UNKNOWN = "?"  # the label of an annotation of which nobody says what it is, such as one that a label map drops
SEPARATOR = ";"  # of several labels in one cell

# Columns of the recordings. A reader gives the first four; the others where the data say so.
FILENAME = "filename"  # identity: a relative path with /, below which the cache keeps the spectrogram
PATH = "path"  # where the sound is
LABELS = "labels"  # tuple of the species in the foreground; of an annotated recording those of its annotations
WHERE = "where"  # file and line that speak of it, for messages

# Columns that load_table adds where the data have them, besides labels, secondary_labels, primary_label, group, path.
ANNOTATIONS = "annotations"  # tuple of Annotation; None: the labels are of the whole recording
UNANNOTATED = "unannotated"  # of an annotated recording: what it does not annotate is absent, unknown or left_out
KNOWN_FOR = "known_for"  # tuple of the labels that somebody looked for; None: all
KNOWN_SPLIT = "known_split"  # train, val, test or the number of a fold, as the table says
WEIGHT = "sampling_weight"  # how often the recording's training windows come
TIME_EXPANSION = "time_expansion"  # how many times slower the file plays than what was recorded
RECORDED_AT, SITE, DEVICE = "recorded_at", "site", "device"  # ISO 8601, names: what the recorder wrote; "" unknown
SOURCE = "source"  # name of the [source.NAME]
CLASSES, NAMES = "classes", "names"  # of ``DataFrame.attrs``: labels that are always classes; their names


class Annotation(NamedTuple):
    """A label with times.

    Attributes:
        start_s, end_s: from the beginning of the recording.
        label: a species; ``nocall`` for a stretch without any; ``-species`` for a false alarm.
        low_hz, high_hz: of the box; NaN where nobody said.
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
        said: how it was understood, in one line, for people.
        recordings: a row a recording; the columns above.
        annotations: rows of ``ANNOTATION_COLUMNS``; None where no label has a time. A recording in ``annotated``
            without a row is one in which somebody looked and found nothing.
        annotated: filenames of the recordings whose labels have times.
        classes: labels that are classes even where no recording has them, such as those of a sample submission.
        names: label -> (scientific name, common name), of a taxonomy.
        notes: what a person should know, a line each.
        tables: files that were read.
    """

    layout: str
    said: str
    recordings: "pd.DataFrame"
    annotations: "pd.DataFrame | None" = None
    annotated: set[str] = field(default_factory=set)
    classes: tuple[str, ...] = ()
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)


def split_labels(text: str) -> tuple[str, ...]:
    """The labels in one cell: ``a;b``; a label may hold a comma or a slash."""
    return tuple(dict.fromkeys(label.strip() for label in text.split(SEPARATOR) if label.strip()))


def counted(number: int, one: str, many: str = "") -> str:
    """``1 class``, ``2 classes``: a number and what it counts."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(names: "list[str] | tuple[str, ...]", most: int = 5) -> str:
    """The first names, and how many there are beyond them."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
