"""How do the rows of any table become labels and annotations, for the readers of ``table`` and ``annotations``?"""

import math
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from dataloader.tables.folders import labels_of_folder
from dataloader.tables.reading import number, seconds
from dataloader.tables.schema import ANNOTATION_COLUMNS, NEGATIVE, split_labels
from utils.config_checks import LABEL_FROM
from utils.errors import DataError
from utils.settings import Source

if TYPE_CHECKING:
    import pandas as pd

FOR_RECORDINGS = [
    *("author", "latitude", "longitude", "place", "group", "split", "scientific_name", "common_name"),
    *("unannotated", "annotated_for", "time_expansion"),
]


class Labeller:
    """Returns the labels of a row: those of its cell, or of [data] ``label`` or ``label_from``."""

    def __init__(self, source: Source):
        self._label, self._negative = source.label.strip(), source.negative_folders.strip().lower()
        self._in_negative: dict[str, bool] = {}  # by filename, because a recording may have thousands of rows
        match = LABEL_FROM.fullmatch(source.label_from)
        self._level = int(match[1]) - 1 if match else None

    @property
    def is_set(self) -> bool:
        """Whether the settings give a label to rows without one."""
        return bool(self._label) or self._level is not None

    def labels(self, cell: str, filename: str, where: str) -> tuple[str, ...]:
        """The labels of a row about ``filename``; those of a folder of false alarms begin with ``-``.

        Raises:
            DataError: there is none.
        """
        labels = list_or_labels(cell) or (split_labels(self._label) if self._label else self._from_folder(filename))
        if not labels:
            raise DataError(
                f"{where}: no label; name one for all such rows with [data] label = NAME, or take it from a folder's "
                "name with label_from = folder:1 (the first below data_dir)"
            )
        if self.is_negative(filename):
            return tuple(label if label.startswith(NEGATIVE) else NEGATIVE + label for label in labels)
        return labels

    def is_negative(self, filename: str) -> bool:
        """Whether the recording is in a folder of false alarms."""
        if filename not in self._in_negative:
            folders = {folder.lower() for folder in PurePosixPath(filename).parts[:-1]}
            self._in_negative[filename] = bool(self._negative) and self._negative in folders
        return self._in_negative[filename]

    def _from_folder(self, filename: str) -> tuple[str, ...]:
        folders = PurePosixPath(filename).parts[:-1]
        if self._level is None or self._level >= len(folders):
            return ()
        return labels_of_folder(folders[self._level])


def list_or_labels(cell: str) -> tuple[str, ...]:
    """The labels in one cell: ``a``, ``a;b`` or a Python list such as ``['a', 'b']``."""
    text = cell.strip()
    if text.startswith("[") and text.endswith("]"):
        labels = [label.strip().strip("'\"").strip() for label in text[1:-1].split(",")]
        return tuple(dict.fromkeys(label for label in labels if label))
    return split_labels(text)


def annotations_of_rows(
    filenames: Sequence[str], table: "pd.DataFrame", found: dict[str, str], where: Sequence[str], labeller: Labeller
) -> "pd.DataFrame":
    """The annotations of the rows of a table that have times.

    Args:
        filenames: of the recording of each row.
        found: the column of each meaning; ``start`` and ``end`` are among them.

    Raises:
        DataError: a time or a frequency that cannot be read, or a row without a label.
    """
    import pandas as pd

    labels = table[found["label"]].tolist() if "label" in found else [""] * len(table)
    low, high = ([*table[found[key]]] if key in found else [""] * len(table) for key in ("low_hz", "high_hz"))
    rows = []
    cells = zip(filenames, table[found["start"]], table[found["end"]], labels, low, high, where, strict=True)
    for filename, start, end, cell, bottom, top, row in cells:
        times = read_cell(seconds, start, found["start"], row), read_cell(seconds, end, found["end"], row)
        box = _hertz(bottom, found.get("low_hz", ""), row), _hertz(top, found.get("high_hz", ""), row)
        for label in labeller.labels(cell, filename, row):
            rows.append((filename, *times, label, *box, row))
    return pd.DataFrame(rows, columns=ANNOTATION_COLUMNS)


def read_cell(convert, text: str, column: str, where: str) -> float:
    """A cell as a number or a time.

    Raises:
        DataError: it is not one; the message names the row.
    """
    try:
        return convert(text)
    except ValueError:
        raise DataError(
            f"{where}: {column} {text!r} is not a time or number such as 62.5 or 1:02.5; correct it"
        ) from None


def _hertz(text: str, column: str, where: str) -> float:
    return read_cell(number, text, column, where) if text.strip() else math.nan
