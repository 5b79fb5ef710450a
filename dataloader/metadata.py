"""The tables on disk -> one checked DataFrame, and the classes in it."""

import ast
import itertools
import logging
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dataloader.cache.entries import entry_name
from utils.config import Config
from utils.errors import DataError

if TYPE_CHECKING:  # pandas takes a second to import
    import pandas as pd

log = logging.getLogger(__name__)

TABLE = "train_metadata.csv"
AUDIO = "train_audio"
REQUIRED = ("primary_label", "secondary_labels", "filename")
NOCALL = "nocall"  # the label of recordings in which no bird calls
READ = (*REQUIRED, "author", "latitude", "longitude", "group_id", "scientific_name", "common_name")
PLACE = ("author", "latitude", "longitude")  # who and where, unless the table has group_id


def load_table(config: Config) -> "pd.DataFrame":
    """The table of the recordings that a config asks for, with the columns of ``read_metadata``.

    ``labels`` hold ``nocall`` only where [labels] asks for it, and ``group`` is that of [data] ``group_by``.
    With testing on it is a part of the data, or the demo where there are none.

    Raises:
        DataError: no data and testing off, or a table that cannot be used.
    """
    data_dir = _data_dir(config)
    table = read_metadata(data_dir)
    if not config.labels.nocall:
        table["labels"] = [tuple(label for label in labels if label != NOCALL) for labels in table["labels"]]
    if config.data.group_by == "author":
        table["group"] = author_groups(table, data_dir / TABLE)
    if config.testing.testing:
        whole, table = len(table), choose_for_testing(table, config.testing.data_samples_for_testing)
        if len(table) < whole:
            text = "[testing] testing = true: a trial with the largest classes, %d of %d recordings; false: all of them"
            log.info(text, len(table), whole)
    if config.labels.nocall and NOCALL not in set(table["primary_label"]):
        log.warning(
            "[labels] nocall = true, and no recording of the table is labelled %s: there is no such class", NOCALL
        )
    if not table["labels"].map(len).any():
        raise DataError(f"{data_dir / TABLE}: no recording of a species, all are {NOCALL}; add some")
    return table


def _data_dir(config: Config) -> Path:
    """Where the data are, or in a trial without any the demo, which is made if it is not there."""
    data_dir, demo_dir = config.paths.data_dir, config.paths.demo_dir
    if (data_dir / TABLE).is_file():
        return data_dir
    if not config.testing.testing:
        raise DataError(
            f"{data_dir / TABLE}: no such file; set [paths] data_dir, fetch the data with "
            "'bash download_data.sh', or make a demo with 'python -m dataloader.demo --output DIR'"
        )
    from dataloader import demo

    log.warning("no data at %s: using synthetic birds at %s", data_dir, demo_dir)
    return demo_dir if demo.is_there(demo_dir) else demo.make_demo(demo_dir)  # one made by hand is as good


def read_metadata(data_dir: Path) -> "pd.DataFrame":
    """Read ``train_metadata.csv`` of a data set in the BirdCLEF 2024 layout.

    Returns:
        One row a recording, sorted by ``filename``, the table's own columns and

        * ``path``: of the recording; whether it is there is found out on reading it;
        * ``labels``: tuple of the species in the foreground, usually one; ``nocall`` counts as one;
        * ``secondary_labels``: tuple of those in the background;
        * ``group``: recordings that belong on one side of a split.

    Raises:
        DataError: no table, an empty or undecodable one, a missing column, a cell that cannot be read.
    """
    path = Path(data_dir) / TABLE
    table = _read_csv(path)
    needed = REQUIRED if "group_id" in table else REQUIRED + PLACE
    if missing := [name for name in needed if name not in table]:
        raise DataError(f"{path}: no column {', '.join(missing)}; it has {', '.join(table.columns)}")
    if table.empty:
        raise DataError(f"{path}: the table is empty; it needs a row for each recording")
    _check_cells(table, path)
    table["filename"] = table["filename"].map(os.path.normpath)  # ./a/1.ogg is a/1.ogg
    table = _without_repeats(table, path)
    table["secondary_labels"] = [
        _label_list(text, path, line) for line, text in zip(table["line"], table["secondary_labels"], strict=True)
    ]
    table["labels"] = [(label,) for label in table["primary_label"]]
    table["group"] = _groups(table)
    table["path"] = [str(Path(data_dir) / AUDIO / name) for name in table["filename"]]
    _check_folder(Path(data_dir) / AUDIO, table)
    return table.drop(columns="line").sort_values("filename", ignore_index=True)


def author_groups(table: "pd.DataFrame", path: Path) -> list[str]:
    """For each recording the group that holds all of its author's, and all of its own group.

    A new recordist is what a classifier meets in use; a split by place lets it know the recordists.
    A recording without an author stays with its group. Authors who share a group are one.

    Raises:
        DataError: the table at ``path`` has no authors.
    """
    if "author" not in table or not table["author"].str.strip().any():
        raise DataError(f"{path}: no authors in it; [data] group_by = author needs them, group_by = group does not")
    names = [author.strip() or group for author, group in zip(table["author"], table["group"], strict=True)]
    joined: dict[str, str] = {}  # a name that shares a group with an earlier one -> that one

    def first(name: str) -> str:
        while name in joined:
            name = joined[name]
        return name

    name_of_group: dict[str, str] = {}
    for name, group in zip(names, table["group"], strict=True):
        one, other = first(name_of_group.setdefault(group, name)), first(name)
        if one != other:
            joined[other] = one
    return [first(name) for name in names]


def choose_for_testing(table: "pd.DataFrame", n_recordings: int) -> "pd.DataFrame":
    """Whole classes, largest first, until there are at least ``n_recordings`` recordings and two classes."""
    counts = table["primary_label"].value_counts()
    order = sorted(counts.index, key=lambda label: (-counts[label], label))
    chosen, total = [], 0
    for label in order:
        if total >= n_recordings and len(chosen) > 1:
            break
        chosen.append(label)
        total += counts[label]
    return table[table["primary_label"].isin(chosen)].reset_index(drop=True)


def drop_small_classes(table: "pd.DataFrame", min_samples: int) -> "pd.DataFrame":
    """Leave out the classes with fewer than ``min_samples`` recordings, and log which.

    Raises:
        DataError: no class is left.
    """
    counts = table["labels"].explode().value_counts()
    small = {str(label): int(count) for label, count in counts.items() if count < min_samples}
    if not small:
        return table
    named = ", ".join(f"{label} ({count})" for label, count in sorted(small.items()))
    if len(small) == len(counts):
        raise DataError(
            f"no class has {min_samples} good recordings (the largest has {counts.max()}); "
            "lower [data] min_samples_in_class"
        )
    log.warning("%d classes with fewer than %d good recordings are left out: %s", len(small), min_samples, named)
    left = [tuple(label for label in labels if label not in small) for labels in table["labels"]]
    # What has no label to begin with (nocall) is an example of nothing, and stays.
    kept = [bool(after) or not before for after, before in zip(left, table["labels"], strict=True)]
    return table.assign(labels=left)[kept].reset_index(drop=True)


def check_classes(table: "pd.DataFrame", loss: str) -> None:
    """Refuse to train where there is nothing to tell apart: a network would say the same of every sound.

    Args:
        loss: of [agent].

    Raises:
        DataError: there is no recording, or every one is of the one class that there is; or species are to compete
            where there is one.
    """
    if table.empty:
        raise DataError("no good recording is left; bad_recordings.csv in the cache says what is wrong with each")
    if table["labels"].nunique() == 1:
        (labels,) = table["labels"].unique()
        raise DataError(
            f"all {len(table)} recordings are of one class, {', '.join(labels) or NOCALL}: there is nothing to tell "
            f"apart; add another species or recordings labelled {NOCALL}, or lower [data] min_samples_in_class"
        )
    if loss == "cross_entropy" and len(labels := class_labels(table)) == 1:
        raise DataError(
            f"[agent] loss = cross_entropy lets species compete, and {labels[0]} is the only one; choose bce, or make "
            f"recordings without a bird a class by [labels] nocall = true"
        )


def class_labels(table: "pd.DataFrame") -> list[str]:
    """The classes: the labels of the foreground, sorted. A label's place is its index."""
    return sorted({label for labels in table["labels"] for label in labels})


def class_names(table: "pd.DataFrame", labels: Sequence[str]) -> "pd.DataFrame":
    """``label, scientific_name, common_name`` of each class; a name the table lacks is its label."""
    import pandas as pd

    first = table.drop_duplicates("primary_label").set_index("primary_label")
    names = pd.DataFrame({"label": list(labels)})
    for column in ("scientific_name", "common_name"):
        known = first.get(column, {})
        names[column] = [_text(known.get(label)) or label for label in labels]
    return names


def _read_csv(path: Path) -> "pd.DataFrame":
    import pandas as pd

    # Labels, names and ids are text: a label 'nan' or '007' stays what it is. Blank lines count, as in an editor.
    options = {"dtype": str, "encoding": "utf-8-sig", "keep_default_na": False, "skip_blank_lines": False}
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            header = sum(1 for _ in itertools.takewhile(lambda line: not line.strip(), file))
        table = pd.read_csv(path, header=header, **options)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; set [paths] data_dir to a folder that holds {TABLE}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: {_bad_byte(path)}; save the table as UTF-8") from None
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: the file is empty; it needs a header and a row for each recording") from None
    except pd.errors.ParserError as error:
        raise DataError(f"{path}: not a table: {str(error).strip()}") from None
    table["line"] = range(header + 2, header + 2 + len(table))  # of the file
    return table[table.drop(columns="line").map(str.strip).ne("").any(axis=1)]  # without blank lines


def _bad_byte(path: Path) -> str:
    data = path.read_bytes()
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"not UTF-8 at line {data.count(bytes([10]), 0, error.start) + 1}"
    return "not UTF-8"


def _check_cells(table: "pd.DataFrame", path: Path) -> None:
    for column in ("filename", "primary_label"):
        for line, text in zip(table["line"], table[column], strict=True):
            if not text.strip():
                raise DataError(f"{path}: line {line}: {column} is empty")
            if not Path(text).name or _control(text):
                raise DataError(f"{path}: line {line}: {column} {text!r} is no name of a file; correct it")
            # A label names a folder of the cache; a filename stays below train_audio.
            no_name = column == "primary_label" and Path(text).name != text  # such as "." or "a/b"
            if text.startswith("/") or ".." in Path(text).parts or no_name:
                raise DataError(f"{path}: line {line}: {column} {text!r} leads out of the data folder")
            if column == "primary_label" and text != text.strip():  # it would be a class of its own
                raise DataError(f"{path}: line {line}: {column} {text!r} begins or ends with a blank; remove it")
    _check_quotation_marks(table, path)


def _check_quotation_marks(table: "pd.DataFrame", path: Path) -> None:
    """One that is not closed takes in the rows behind it, up to the next one in the same column."""
    n_commas = len(table.columns) - 2  # of a row; "line" is none of the file
    for column in table.columns.drop("line"):
        for line, text in zip(table["line"], table[column], strict=True):
            behind = re.split("[\r\n]+", text)[1:]
            if behind and (column in READ or any(_is_row(one, n_commas) for one in behind)):
                shown = text if len(text) < 80 else f"{text[:80]}..."
                why = "a quotation mark that is not closed takes in the rows behind it"
                raise DataError(f"{path}: line {line}: {column} {shown!r} goes over lines; {why}")


def _is_row(text: str, n_commas: int) -> bool:
    """Whether a line looks like one of the table, and not like a remark that goes over lines."""
    return text.count(",") >= n_commas and bool(re.search(r",[^,]+\.\w{2,5}(,|$)", text))


def _control(text: str) -> bool:
    """Whether there is a character such as a line break or a tab in it."""
    return any(character < " " for character in text)


def _without_repeats(table: "pd.DataFrame", path: Path) -> "pd.DataFrame":
    """One row a filename; of recordings that differ in their ending only, an error: they would share a cache entry."""
    repeated = table[table.duplicated("filename")]
    if len(repeated):
        first = list(zip(repeated["filename"], repeated["line"], strict=True))[:5]
        named = ", ".join(f"{name} (line {line})" for name, line in first)
        log.warning("%s: %d rows name a recording again; the first is kept: %s", path, len(repeated), named)
        table = table.drop_duplicates("filename")
    stems = table["filename"].map(entry_name)
    if stems.duplicated().any():
        both = table["filename"][stems == stems[stems.duplicated()].iloc[0]].tolist()
        raise DataError(f"{path}: {' and '.join(both)} differ in their ending only; rename one")
    return table.copy()


def _label_list(text: str, path: Path, line: int) -> tuple[str, ...]:
    """A Python list of strings, as text, read without running it."""
    try:
        labels = ast.literal_eval(text.strip() or "[]")
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ValueError
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise DataError(
            f"{path}: line {line}: secondary_labels {text!r} is not a list such as [] or ['asbfly', 'comtai1']"
        ) from None
    return tuple(dict.fromkeys(label.strip() for label in labels))


def _groups(table: "pd.DataFrame") -> list[str]:
    """group_id, or recordist and place (0.01 degree, about 1 km); what nothing is known of is a group of its own."""
    if "group_id" in table:
        return [text.strip() or name for text, name in zip(table["group_id"], table["filename"], strict=True)]
    groups = []
    for name, author, *place in zip(table["filename"], *(table[column] for column in PLACE), strict=True):
        author, rounded = author.strip(), [_degrees(text) for text in place]
        groups.append(f"{author}|{'|'.join(rounded)}" if author or all(rounded) else name)
    return groups


def _degrees(text: str) -> str:
    """Rounded; nothing where it is not known."""
    try:
        degrees = round(float(text), 2) + 0.0  # never -0.0, which is written otherwise than 0.0
    except ValueError:
        return ""
    return f"{degrees:.2f}" if math.isfinite(degrees) else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _check_folder(audio: Path, table: "pd.DataFrame") -> None:
    if not audio.is_dir():
        raise DataError(f"{audio}: no such folder; the recordings belong in it, as {table['filename'].iloc[0]}")
    used = {Path(name).parts[0] for name in table["filename"]}
    without = sorted(entry.name for entry in audio.iterdir() if entry.is_dir() and entry.name not in used)
    if without:
        log.warning("%s: no row of the table names a recording of %s; not used", audio, ", ".join(without))
