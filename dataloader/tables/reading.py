"""How is any table on disk read into a DataFrame of text? CSV of many programs, TSV, tables of Excel and R, Parquet.

The index of the DataFrame is the line of the file at which each row begins, so that messages can name it.
"""

import contextlib
import csv
import io
import logging
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import DataError, first_line

if TYPE_CHECKING:  # pandas takes a second to import
    from collections.abc import Iterator
    from types import ModuleType

    import pandas as pd

log = logging.getLogger(__name__)

ENDINGS = (".csv", ".tsv", ".txt", ".parquet")  # of the tables that can be read
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
WORKBOOKS = (
    ".xlsx",
    ".xlsm",
    ".xls",
    ".ods",
)  # endings of what Excel and LibreOffice save, which are not tables as text
_WORKBOOK = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # the first bytes of such a file: a zip, or an old Office document
_LONGEST_CELL = 1_000_000  # characters; a longer cell comes from a missing closing quotation mark

_warned_of: set[Path] = set()  # files whose encoding was reported


def read_table(path: Path, *, usual: bool = True) -> "pd.DataFrame":
    """Read a table whose first line that is not blank names the columns.

    Encoding and separator are detected. Every cell is text, so that a label ``nan`` or ``007`` does not change. Blank
    lines are left out, and so is a column without a name (R writes its row names into one).

    Args:
        usual: report a table that is not UTF-8 with commas or tabs.

    Returns:
        One row for each row of the table; the index is the line that it begins at.

    Raises:
        DataError: there is no such file, it is empty, its encoding is unknown, or a row has too many values.
    """
    import pandas as pd

    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    text, encoding = decode(path)
    separator, text, skipped = _separator(text)
    lines, rows = _rows(path, text, separator, skipped)
    if not rows:
        raise DataError(f"{path}: the file is empty; it needs a header and a row for each recording")
    header, rows, lines = [cell.strip() for cell in rows[0]], rows[1:], lines[1:]
    _check_quotation_marks(path, header, rows, lines, separator)
    header, rows = _aligned(path, header, rows, lines, separator)
    if usual and (encoding != "UTF-8" or separator in ";|"):
        log.info("%s: read as a table in %s, separated by %s", path, encoding, SEPARATORS[separator])
    table = pd.DataFrame(rows, columns=_unique(header), index=pd.Index(lines, dtype="int64"), dtype=object)
    return table[[name for name in table.columns if name]]


def row_locations(path: Path, table: "pd.DataFrame") -> list[str]:
    """The file and line of each row of a table of ``read_table``, for messages."""
    return [f"{path}: line {line}" for line in table.index]


def read_header(path: Path) -> list[str]:
    """The names of a table's columns; the rows are not read.

    Raises:
        DataError: see ``read_table``.
    """
    if path.suffix.lower() == ".parquet":
        with _parquet(path) as parquet:
            return [name.strip() for name in parquet.read_schema(path).names]
    separator, text, _ = _separator(decode(path)[0])
    first = next(csv.reader(io.StringIO(text.lstrip("\r\n "), newline=""), delimiter=separator), [])
    return [name for name in _unique([cell.strip() for cell in first]) if name]


def decode(path: Path) -> tuple[str, str]:
    """The text of a file, and the name of its encoding.

    It may be UTF-8 with or without a byte order mark, or UTF-16. Everything else is read as Windows-1252 with a
    warning.

    Raises:
        DataError: the file cannot be read, or is a workbook.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if data.startswith(_WORKBOOK):
        raise DataError(f"{path}: a workbook, not text; open it in Excel or LibreOffice and save it as CSV (UTF-8)")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _decoded(path, data, "utf-16"), "UTF-16"
    zeros = data[:1000].count(0)
    if zeros > len(data[:1000]) // 4:  # UTF-16 without a mark: every other byte of plain letters is 0
        return _decoded(path, data, "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"), "UTF-16"
    try:
        return data.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
    if path not in _warned_of:  # a table is opened several times until its layout is known
        _warned_of.add(path)
        text = "%s: not UTF-8 at line %d, so it is read as Windows-1252; if names are wrong, save it as UTF-8"
        log.warning(text, path, line)
    return data.decode("cp1252", errors="replace"), "Windows-1252"


def number(text: str) -> float:
    """A number as text; a decimal comma is read too.

    Raises:
        ValueError: it is not a number, or not finite.
    """
    value = float(text.strip().replace(",", ".") if text.count(",") == 1 and "." not in text else text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not finite")
    return value


def seconds(text: str) -> float:
    """A time as text, in seconds: ``12.5``, ``12,5``, ``1:02.5`` (minutes) or ``0:01:02`` (hours).

    Raises:
        ValueError: it is not a time.
    """
    *larger, last = text.strip().split(":")
    if len(larger) > 2 or not all(part.isdecimal() for part in larger):
        raise ValueError(f"{text!r} is not a time")
    total = 0.0
    for part in larger:
        total = 60 * (total + int(part))
    value = number(last)
    if larger and not 0 <= value < 60:
        raise ValueError(f"{text!r} is not a time")
    return total + value


def _read_parquet(path: Path) -> "pd.DataFrame":
    import pandas as pd

    with _parquet(path) as parquet:
        columns = parquet.read_table(path).to_pydict()
    table = pd.DataFrame(
        {str(name).strip(): list(map(_as_text, cells)) for name, cells in columns.items()}, dtype=object
    )
    return table.set_index(pd.RangeIndex(1, len(table) + 1))


@contextlib.contextmanager
def _parquet(path: Path) -> "Iterator[ModuleType]":
    """The package that reads Parquet.

    Raises:
        DataError: it is not installed, or cannot read ``path``.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError(f"{path}: reading Parquet needs the package pyarrow: pip install pyarrow") from None
    try:
        yield parquet
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet table: {first_line(error)}") from None


def _as_text(cell: object) -> str:
    """A cell as text, as in a CSV: empty if its value is missing; several labels as a list."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    return str(cell)


def _decoded(path: Path, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise DataError(f"{path}: begins like UTF-16 but is not; save it as UTF-8") from None


def _separator(text: str) -> tuple[str, str, int]:
    """The separator, the text without Excel's line ``sep=;``, and how many lines were removed."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    if match := re.fullmatch(r'"?sep=(.)"?', first.strip()):
        before, _, rest = text.partition(first)
        return (
            (match[1] if match[1] in SEPARATORS else ","),
            rest.lstrip("\r").removeprefix("\n"),
            before.count("\n") + 1,
        )
    outside = re.sub(r'"[^"]*"', "", first)
    return max(SEPARATORS, key=lambda separator: outside.count(separator)), text, 0


def _rows(path: Path, text: str, separator: str, skipped: int) -> tuple[list[int], list[list[str]]]:
    """The line at which each row begins, and its cells; without the blank ones."""
    lines, rows = [], []
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    begins = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                lines.append(begins + skipped)
                rows.append(row)
            begins = reader.line_num + 1
    except csv.Error as error:
        why = "a quotation mark that is not closed" if "field larger" in str(error) else str(error)
        raise DataError(f"{path}: line {begins + skipped}: {why}; correct it") from None
    return lines, rows


def _check_quotation_marks(
    path: Path, header: list[str], rows: list[list[str]], lines: list[int], separator: str
) -> None:
    """Report a missing closing quotation mark, which makes the following rows part of one cell."""
    for line, row in zip(lines, rows, strict=True):
        if not any("\n" in text or "\r" in text for text in row):
            continue
        for index, text in enumerate(row):
            further = re.split("[\r\n]+", text)[1:]
            if any(_is_row(text_of_line, separator, len(header) - 1) for text_of_line in further):
                column = header[index] if index < len(header) else f"column {index + 1}"
                shown = text if len(text) < 80 else f"{text[:80]}..."
                why = "a quotation mark is not closed, so that the cell contains the following rows; close it"
                raise DataError(f"{path}: line {line}: {column} {shown!r} has several lines; {why}")


def _is_row(text: str, separator: str, n_separators: int) -> bool:
    """Whether a line is probably a row of the table, and not a line of a remark with several lines."""
    mark = re.escape(separator)
    return text.count(separator) >= n_separators and bool(re.search(rf"{mark}[^{mark}]+\.\w{{2,5}}({mark}|$)", text))


def _aligned(
    path: Path, header: list[str], rows: list[list[str]], lines: list[int], separator: str
) -> tuple[list[str], list[list[str]]]:
    """The header and the rows, each with as many values as there are columns.

    Missing values at the end of a row become empty, and additional empty values are left out. If every row has one
    value more than the header, the first ones are row names, as R's write.table writes them.

    Raises:
        DataError: a row has more values than there are columns.
    """
    n = len(header)
    # Columns at the end that have neither a name nor a value are left out.
    while rows and n > 1 and not header[n - 1] and not any(row[n - 1 :] and row[n - 1].strip() for row in rows):
        n -= 1
    header = header[:n]
    row_names = all(len(row) == n + 1 and row[n].strip() for row in rows)
    if row_names and (len(rows) > 1 or (rows and rows[0][0].strip().isdecimal())):
        return header, [row[1:] for row in rows]
    for line, row in zip(lines, rows, strict=True):
        if any(cell.strip() for cell in row[n:]):
            mark = SEPARATORS[separator].removesuffix("s")
            raise DataError(
                f"{path}: line {line}: {len(row)} values, but the header names {n} columns: there is a {mark} too "
                "many; put the value that contains it in quotation marks"
            )
    return header, [row[:n] + [""] * (n - len(row)) for row in rows]


def _unique(header: list[str]) -> list[str]:
    """The names of the columns; a repeated name gets a number, as in pandas."""
    seen: dict[str, int] = {}
    names = []
    for name in header:
        count = seen[name] = seen.get(name, -1) + 1
        names.append(f"{name}.{count}" if count and name else name)
    return names
