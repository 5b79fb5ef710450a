"""Are folders and tables of users read as they mean them?"""

# ruff: noqa: E501 - a table's row is on one line

import logging
import re
import time

import pytest

from dataloader.metadata import class_labels, class_names
from tests.dataloader.tables.conftest import SOUNDS, labels, make, read, times
from utils.errors import DataError

# Folders
FOLDERS = {
    "robin/1.wav": None,
    "robin/2.WAV": None,
    "wren/3.ogg": None,
    "Noise/4.wav": None,
    "wren/notes.txt": "heard at dawn",
}


def test_a_sub_folder_is_a_species_and_noise_is_nocall(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    found = labels(read(make(tmp_path / "data", FOLDERS)))
    assert found == {
        "robin/1.wav": ("robin",),
        "robin/2.WAV": ("robin",),
        "wren/3.ogg": ("wren",),
        "Noise/4.wav": ("nocall",),
    }
    assert "layout folders (detected; [data] layout sets another): 4 recordings in folders" in caplog.text
    assert "groups, which are kept in one subset: the recording alone" in caplog.text


def test_names_of_folders_hold_several_labels_and_not_this_one(tmp_path):
    table = read(
        make(
            tmp_path / "data", {"robin, wren/1.wav": None, "-robin/2.wav": None, "Erithacus rubecula_Robin/3.wav": None}
        )
    )
    assert labels(table) == {
        "robin, wren/1.wav": ("robin", "wren"),
        "-robin/2.wav": (),
        "Erithacus rubecula_Robin/3.wav": ("Erithacus rubecula_Robin",),
    }
    assert table.set_index("filename")["known_for"]["-robin/2.wav"] == ("robin",)  # of the others nothing is known
    names = class_names(table, ["Erithacus rubecula_Robin"]).iloc[0]
    assert (names["scientific_name"], names["common_name"]) == ("Erithacus rubecula", "Robin")


def test_folders_of_a_split_and_a_folder_that_holds_all_are_gone_through(tmp_path):
    table = read(
        make(tmp_path / "a", {"train/robin/1.wav": None, "Validation/robin/2.wav": None, "test/wren/3.wav": None})
    )
    assert table["known_split"].tolist() == ["val", "test", "train"]
    assert labels(table)["test/wren/3.wav"] == ("wren",)
    table = read(make(tmp_path / "b", {"sounds/robin/1.wav": None, "sounds/wren/3.wav": None}))
    assert class_labels(table) == ["robin", "wren"]


def test_folders_of_folders_of_folders_ask_which_is_the_species(tmp_path):
    folder = make(tmp_path / "data", {"north/robin/1.wav": None, "south/wren/2.wav": None})
    message = (
        r"up to 2 folders deep, such as north/robin/1.wav; name .* folder:1 \(north, south: 2 labels\) or folder:2"
    )
    with pytest.raises(DataError, match=message):
        read(folder)
    assert class_labels(read(folder, label_from="folder:2")) == ["robin", "wren"]
    assert class_labels(read(folder, label_from="folder:1")) == ["north", "south"]


def test_a_folder_read_in_the_wrong_layout_names_the_one_that_fits(tmp_path):
    folder = make(tmp_path / "data", FOLDERS)
    with pytest.raises(
        DataError, match=r"4 recordings in 3 sub-folders, and no table: layout = folders would read this"
    ):
        read(folder, layout="birdclef")


def test_the_names_of_files_give_groups(tmp_path):
    names = [
        "XC123456_1.wav",
        "XC123456_2.wav",
        "S4A03895_20190522_043000.wav",
        "S4A03895_20190522_053000.wav",
        "x.wav",
    ]
    folder = make(tmp_path / "data", {f"robin/{name}": None for name in names})
    groups = dict(zip(*(read(folder)[column] for column in ("filename", "group")), strict=True))
    assert groups["robin/XC123456_1.wav"] == groups["robin/XC123456_2.wav"] == "XC123456"
    assert groups["robin/S4A03895_20190522_043000.wav"] == groups["robin/S4A03895_20190522_053000.wav"]
    assert len(set(groups.values())) == 3
    assert read(folder, group_by="file")["group"].nunique() == 5
    assert read(folder, group_by="folder")["group"].nunique() == 1


def test_a_table_has_labels_with_and_without_times(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    text = "File Path;Species;Begin Time (s);End Time (s);Recordist\na.wav;Robin;0,5;1:02,25;Ann\na.wav;Wren;3;4;Ann\nb/c.flac;Wren;;;Bo\n"
    table = read(make(tmp_path / "data", SOUNDS | {"labels.csv": text}))
    assert times(table) == {"a.wav": [(0.5, 62.25, "Robin"), (3.0, 4.0, "Wren")], "b/c.flac": None}
    assert labels(table) == {"a.wav": ("Robin", "Wren"), "b/c.flac": ("Wren",)}
    assert table["group"].tolist() == ["Ann||", "Bo||"]
    assert "columns filename: File Path, label: Species, start: Begin Time (s)" in caplog.text


def test_a_table_of_another_machine_finds_its_recordings_by_their_names(tmp_path, caplog):
    rows = "C:\\me\\2\\x.wav,Robin\n/mnt/1/x.wav,Wren\nY.WAV,Robin\nz,Wren\nq.mp3,Wren\ngone.wav,Wren\n"
    files = {"1/x.wav": None, "2/x.wav": None, "y.wav": None, "z.flac": None, "q.flac": None}
    table = read(make(tmp_path / "data", files | {"t.csv": "file,label\n" + rows}))
    assert labels(table) == {
        "1/x.wav": ("Wren",), "2/x.wav": ("Robin",), "gone.wav": ("Wren",), "q.flac": ("Wren",), "y.wav": ("Robin",),
        "z.flac": ("Wren",),
    }  # fmt: skip
    assert r"5 recordings not at the path in the table, and found by name: C:\me\2\x.wav is 2/x.wav" in caplog.text


def test_a_workbook_is_an_error_with_a_remedy(tmp_path):
    folder = make(tmp_path / "data", {"a.wav": None, "birds.xlsx": b"PK\x03\x04...."})
    with pytest.raises(DataError, match=r"1 recording, and birds\.xlsx, which is read only when it is saved as CSV"):
        read(folder)
    with pytest.raises(DataError, match=r"birds\.xlsx: a workbook, not text; open it in Excel or LibreOffice and save"):
        read(folder, layout="table", table=folder / "birds.xlsx")


def test_columns_are_named_by_the_setting_and_a_table_anywhere(tmp_path):
    folder = make(tmp_path / "data", SOUNDS)
    make(tmp_path, {"else/mine.tsv": "wo\twas\na.wav\tRobin;Wren\nb/c.flac\t['Wren']\n"})
    how = {"columns": "filename: wo, label: was", "table": tmp_path / "else/mine.tsv"}
    assert labels(read(folder, **how)) == {"a.wav": ("Robin", "Wren"), "b/c.flac": ("Wren",)}
    with pytest.raises(DataError, match=r"no column 'wie' for label; it has wo, was"):
        read(folder, **how | {"columns": "label: wie"})
    with pytest.raises(DataError, match=r"\[data\] columns: 'labl' is unknown; did you mean 'label'"):
        read(folder, **how | {"columns": "labl: was"})


def test_a_split_and_what_is_annotated_are_read_from_columns(tmp_path):
    text = "file,label,start,end,split,annotated_for,unannotated\na.wav,Robin,0,1,train,Robin;Wren,unknown\nb/c.flac,Wren,0,1,test,,\n"
    table = read(make(tmp_path / "data", SOUNDS | {"t.csv": text}))
    assert table["known_split"].tolist() == ["train", "test"]
    assert table["unannotated"].tolist() == ["unknown", "absent"]
    assert table["known_for"].tolist() == [("Robin", "Wren"), None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label,start,end\na.wav,Robin,soon,1\n", r"t\.csv: line 2: start 'soon' is not a time or number"),
        ("file,label,start,end\na.wav,Robin,1,\n", r"t\.csv: line 2: only one of start and end is given"),
        ("file,label,start\na.wav,Robin,1\n", r"a column of start times but none of end times"),
        ("file,label\n,Robin\n", r"t\.csv: line 2: file is empty; name the file"),
        (
            "file,label\na.wav,#NAME?\n",
            r"line 2: label '#NAME\?' is an error of a spreadsheet, .* such as -robin for a for",
        ),
        ("file,label\na.wav,\n", r"t\.csv: line 2: no label; name one for all such rows with \[data\] label = NAME"),
        (
            "file,label,split\na.wav,Robin,both\n",
            r"line 2: split 'both' is not train, val, test or the number of a fold",
        ),
        ("file,label,time_expansion\na.wav,Robin,ten\n", r"line 2: time_expansion 'ten' is not a number above 0"),
        (
            "file,label,start,end,unannotated\na.wav,Robin,0,1,no\n",
            r"line 2: unannotated 'no' is not one of absent, unknown",
        ),
    ],
)
def test_a_cell_that_cannot_be_read_is_reported_with_file_and_row(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(make(tmp_path / "data", SOUNDS | {"t.csv": text}))


def test_times_that_cannot_be_are_left_out_and_reported(tmp_path, caplog):
    rows = "a.wav,Robin,-1,2\na.wav,Robin,5,5\na.wav,Robin,7,6\na.wav,Wren,1,2\n"
    table = read(make(tmp_path / "data", SOUNDS | {"t.csv": "file,label,start,end\n" + rows}))
    assert times(table)["a.wav"] == [(1.0, 2.0, "Wren")]
    assert re.search(r"1 annotation: it begins before 0 s; left out; .*t\.csv: line 2", caplog.text)
    assert re.search(
        r"2 annotations: it ends before it begins, or has no length; left out; .*line 3, .*line 4", caplog.text
    )


def test_an_annotation_of_an_unknown_species_is_no_class(tmp_path, caplog):
    table = read(
        make(tmp_path / "data", SOUNDS | {"t.csv": "file,label,start,end\na.wav,Unknown,0,1\na.wav,Wren,1,2\n"})
    )
    assert times(table)["a.wav"] == [(0.0, 1.0, "?"), (1.0, 2.0, "Wren")]
    assert class_labels(table) == ["Wren"]
    assert (
        "1 annotation: labelled Unknown; its windows are used neither as examples without species nor for a class"
        in caplog.text
    )


def test_two_tables_that_fit_ask_for_one(tmp_path):
    text = "file,label\na.wav,Robin\n"
    with pytest.raises(
        DataError, match=r"several tables name recordings and labels: t\.csv, u\.csv; name one with \[data\] table"
    ):
        read(make(tmp_path / "data", SOUNDS | {"t.csv": text, "u.csv": text}))


def test_an_encoding_is_reported_once_however_often_a_table_is_opened(tmp_path, caplog):
    read(make(tmp_path / "data", SOUNDS | {"t.csv": "file,label\na.wav,M\u00fcller\n".encode("cp1252")}))
    assert caplog.text.count("not UTF-8 at line 2, so it is read as Windows-1252") == 1


def test_twenty_thousand_rows_are_read_in_seconds(tmp_path):
    rows = "".join(
        f"s{number % 2000}.wav,species {number % 300},{number % 60},{number % 60 + 1}\n" for number in range(20_000)
    )
    folder = make(tmp_path / "data", {"t.csv": "file,label,start,end\n" + rows})
    began = time.process_time()
    assert len(read(folder)) == 2000
    assert time.process_time() - began < 5.0


def test_what_was_understood_is_written_for_editing_and_read_again(tmp_path):
    text = "file,label,start,end,low_hz,high_hz,time_expansion\na.wav,Robin,0.5,1,100,200,10\nb/c.flac,Wren,,,,,\n"
    folder = make(tmp_path / "data", SOUNDS | {"t.csv": text})
    first = read(folder)
    again = read(folder, layout="table", table=tmp_path / "cache/understood.csv")
    assert times(again) == times(first)
    assert labels(again) == labels(first)
    assert again["annotations"][0][0].high_hz == 2000.0


def test_nothing_that_was_understood_is_lost_in_writing_it(tmp_path):
    files = {
        "a.wav": None, "a.txt": "0.5\t1\tRobin\n", "b.wav": None, "b.txt": "",  # somebody looked and found nothing
        "t.csv": "file,annotated_for,split,time_expansion\na.wav,Robin;Wren,train,10\n",
    }  # fmt: skip
    first = read(make(tmp_path / "data", files))
    again = read(tmp_path / "data", layout="table", table=tmp_path / "cache/understood.csv")
    columns = ["filename", "known_for", "known_split", "time_expansion", "unannotated"]
    assert again[columns].to_dict("records") == first[columns].to_dict("records")
    assert labels(again) == {"a.wav": ("Robin",), "b.wav": ("nocall",)}
    assert times(again) == times(first) | {"b.wav": None}  # of the whole recording: no bird calls
    assert again["primary_label"].tolist() == ["Robin", "nocall"]
    mixed = {"c/-robin, wren/1.wav": None, "c/robin/2.wav": None}
    first = read(make(tmp_path / "mixed", mixed))
    again = read(tmp_path / "mixed", layout="table", table=tmp_path / "cache/understood.csv")
    assert again[["labels", "not_these"]].to_dict("list") == first[["labels", "not_these"]].to_dict("list")
