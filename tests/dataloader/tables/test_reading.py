"""Is any table read as its author meant it, and is what cannot be read reported with its line?"""

import sys
from datetime import timedelta

import pandas as pd
import pytest

from dataloader.tables.reading import number, read_header, read_table, seconds
from utils.errors import DataError


def table(tmp_path, text, encoding="utf-8", name="t.csv"):
    (tmp_path / name).write_bytes(text.encode(encoding) if isinstance(text, str) else text)
    return read_table(tmp_path / name)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_separator_and_encoding_are_found_out(tmp_path, separator, encoding):
    text = separator.join(["file", "label"]) + "\r\n" + separator.join(["a.wav", "Müller"]) + "\r\n"
    assert table(tmp_path, text, encoding).to_dict("records") == [{"file": "a.wav", "label": "Müller"}]


def test_the_index_is_the_line_of_the_file(tmp_path):
    rows = table(tmp_path, '\nfile,remark\n\na.wav,"over\nlines"\n\nb.wav,x\n')
    assert rows.index.tolist() == [4, 7]


def test_what_excel_writes_first_is_no_row(tmp_path):
    rows = table(tmp_path, "sep=;\nfile;label\na.wav;x\n")
    assert rows.to_dict("index") == {3: {"file": "a.wav", "label": "x"}}


def test_empty_columns_behind_are_left_out_and_short_rows_filled(tmp_path):
    rows = table(tmp_path, "file,label,,\na.wav,x,,\nb.wav\n")
    assert rows.to_dict("records") == [{"file": "a.wav", "label": "x"}, {"file": "b.wav", "label": ""}]


def test_parquet_is_read_as_the_same_table_in_a_csv(tmp_path):
    pytest.importorskip("pyarrow", reason="Parquet needs the package pyarrow")
    columns = {
        "file": ["a.wav", "b.wav"],
        "start": [0.5, None],
        "label": ["007", None],
        "taxon": pd.array([1139490, None], dtype="Int64"),  # a number stays whole beside a missing one
        "also": [["robin", "wren"], []],
        "at": [timedelta(minutes=1, seconds=2.5), None],
    }
    pd.DataFrame(columns).to_parquet(tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet")
    assert found.index.tolist() == [1, 2]
    first = {"file": "a.wav", "start": "0.5", "label": "007", "taxon": "1139490", "also": "['robin', 'wren']"}
    assert found.to_dict("records")[0] == first | {"at": "0:01:02.500000"}
    assert found.to_dict("records")[1] == {
        "file": "b.wav",
        "start": "",
        "label": "",
        "taxon": "",
        "also": "[]",
        "at": "",
    }
    assert seconds(found["at"].iloc[0]) == 62.5
    assert read_header(tmp_path / "t.parquet") == list(columns)


@pytest.mark.parametrize("read", [read_table, read_header])
def test_what_is_no_parquet_is_reported_in_one_line(tmp_path, read, monkeypatch):
    pytest.importorskip("pyarrow", reason="Parquet needs the package pyarrow")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"t\.parquet: not a Parquet table: [^\n]+$"):
        read(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"u\.parquet: no such file"):
        read(tmp_path / "u.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="reading Parquet needs the package pyarrow: pip install pyarrow"):
        read(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("a,b\n1,2\n1,2,3\n", "line 3: 3 values, but the header names 2 columns: there is a comma too many"),
        ("a;b\n1;2\n1;2;3\n", "line 3: 3 values, but the header names 2 columns: there is a semicolon too many"),
        ('a,b\n1,"x\n1,a.wav\n', r"line 2: b 'x\\n1,a.wav\\n' has several lines; a quotation mark is not closed"),
        (b"\xff\xfea", "begins like UTF-16 but is not"),
    ],
)
def test_what_cannot_be_read_is_reported_with_its_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        table(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("12.5", 12.5), ("12,5", 12.5), ("1:02.5", 62.5), ("01:00:02", 3602.0), (" 7 ", 7.0), ("1:02,5", 62.5)],
)
def test_times_are_read_as_people_write_them(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "x", "1:75", "1:2:3:4", "nan", "inf", "1.234,5", "a:1"])
def test_what_is_no_time_is_an_error(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the caller words it
        seconds(text)


def test_a_number_may_have_a_decimal_comma():
    assert number("-1,5") == -1.5
