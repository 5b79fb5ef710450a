"""How is the table written as the program understood it? The user can edit it, and read it with layout = table."""

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataloader.tables import schema
from utils.files import keep_text

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

UNDERSTOOD = "understood.csv"
_COLUMNS = [
    *("author", "latitude", "longitude", "place", "group", "unannotated", "time_expansion"),
    *("scientific_name", "common_name", schema.RECORDED_AT, schema.SITE, schema.DEVICE),
]


def write_understood(table: "pd.DataFrame", folder: Path) -> Path | None:
    """Write a row for each recording, or for each of its annotations; None if the folder cannot be written to."""
    import pandas as pd

    own = [name for name in _COLUMNS if name in table]
    rows = [written for row in table.to_dict("records") for written in _rows_of(row, own)]
    path = folder / UNDERSTOOD
    try:
        folder.mkdir(parents=True, exist_ok=True)
        keep_text(path, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    except OSError as error:
        log.warning("%s: not written: %s", path, error.strerror)
        return None
    log.info("the table as the program understood it: %s (edit it, and read it with [data] layout = table)", path)
    return path


def _rows_of(row: dict[str, Any], own: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of one recording.

    Args:
        own: the columns that are written as they are.
    """
    rest = {name: row[name] for name in own}
    for name, column in ((schema.KNOWN_FOR, "annotated_for"), ("secondary_labels", "secondary_labels")):
        if isinstance(row.get(name), tuple):
            rest[column] = schema.SEPARATOR.join(row[name])
    if schema.KNOWN_SPLIT in row:
        rest["split"] = row[schema.KNOWN_SPLIT]
    rest["path"] = row["path"]
    first = {"filename": row["filename"]}
    annotations = row.get(schema.ANNOTATIONS)
    if not annotations:  # its labels have no times, or somebody searched it and found nothing
        labels = [*row["labels"], *(row.get("not_these") or ())] or [row["primary_label"]]
        if annotations is None or row[schema.UNANNOTATED] == "absent":
            yield {**first, "label": schema.SEPARATOR.join(labels), **rest}
        return
    factor = row[schema.TIME_EXPANSION]  # times and frequencies of the file as it plays, as in a table
    for annotation in annotations:
        if annotation.end_s == math.inf:  # a label without times, beside those with times
            yield {**first, "label": annotation.label, **rest}
            continue
        times = {"start": f"{annotation.start_s * factor:.9g}", "end": f"{annotation.end_s * factor:.9g}"}
        box = {"low_hz": annotation.low_hz / factor, "high_hz": annotation.high_hz / factor}
        yield {**first, "label": annotation.label, **times, **box, **rest}
