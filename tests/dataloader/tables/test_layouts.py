"""Is each layout detected and read, and is what is wrong with it reported in one line?"""

# ruff: noqa: E501 - a table's row stands on one line

import logging
import re
import time

import pytest

from dataloader.metadata import class_labels, class_names, load_table, read_sources
from utils import config as settings
from utils.config import load_config
from utils.errors import DataError
from utils.settings import Config, Data, Paths


def make(folder, files):
    """Files by name; None: an empty file, as a sound that is not read here."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if text is None else text if isinstance(text, bytes) else text.encode())
    return folder


def read(folder, **data):
    data = {"output_dir": folder.parent / "cache"} | data
    return read_sources(Config(paths=Paths(data_dir=folder), data=Data(**data)))


def labels(table):
    return dict(zip(table["filename"], table["labels"], strict=True))


def times(table):
    return {
        name: None if found is None else [(one.start_s, one.end_s, one.label) for one in found]
        for name, found in zip(table["filename"], table["annotations"], strict=True)
    }


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
    message = r"up to 2 folders deep, such as north/robin/1.wav; say .* folder:1 \(north, south: 2 labels\) or folder:2"
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


def test_the_names_of_files_say_what_belongs_together(tmp_path):
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


# Tables

SOUNDS = {"a.wav": None, "b/c.flac": None}


def test_a_table_of_whole_labels_and_of_times(tmp_path, caplog):
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


def test_a_workbook_is_no_table_and_says_what_to_do(tmp_path):
    folder = make(tmp_path / "data", {"a.wav": None, "birds.xlsx": b"PK\x03\x04...."})
    with pytest.raises(DataError, match=r"1 recording, and birds\.xlsx, which is read only when it is saved as CSV"):
        read(folder)
    with pytest.raises(
        DataError, match=r"birds\.xlsx: a workbook and no text; open it in Excel or LibreOffice and save"
    ):
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


def test_a_split_and_what_is_annotated_stand_in_columns(tmp_path):
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


def test_an_encoding_is_warned_of_once_however_often_a_table_is_looked_at(tmp_path, caplog):
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


# Annotations beside recordings

RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)"


def test_raven_tables_count_a_box_once_and_take_the_label_of_a_folder(tmp_path):
    rows = "1\tWaveform 1\t1\t1.5\t2.5\t0\t0\n1\tSpectrogram 1\t1\t1.5\t2.5\t100\t900\n"
    files = {
        "owl/pos/x.y..flac": None, "owl/pos/x.y..Table.1.selections.txt": f"{RAVEN}\n{rows}",
        "owl/negative/n.wav": None, "owl/negative/n.Table.1.selections.txt": f"{RAVEN}\tAnnotation\n1\tSpectrogram 1\t1\t0\t1\t1\t2\t\n",
        "owl/pos/nothing.wav": None, "owl/pos/nothing.selections.txt": RAVEN + "\n",
    }  # fmt: skip
    folder = make(tmp_path / "data", files)
    with pytest.raises(DataError, match=r"line 2: no label; .* label_from = folder:1"):
        read(folder)
    table = read(folder, label_from="folder:1")
    assert times(table) == {
        "owl/negative/n.wav": [(0.0, 1.0, "-owl")],
        "owl/pos/nothing.wav": [],
        "owl/pos/x.y..flac": [(1.5, 2.5, "owl")],
    }
    assert table["annotations"].iloc[2][0].low_hz == 100.0  # of the spectrogram's row
    assert class_labels(table) == ["owl"]


def test_a_raven_table_may_have_any_column_of_labels_and_many_files(tmp_path):
    rows = "1\tSpectrogram 1\t1\t61\t62\t1\t2\tb.wav\t1.0\ttowit\n"
    files = {"a.wav": None, "b.wav": None, "all.txt": f"{RAVEN}\tBegin File\tFile Offset (s)\tWhat\n{rows}"}
    assert times(read(make(tmp_path / "data", files))) == {"b.wav": [(1.0, 2.0, "towit")]}


def test_a_raven_table_named_after_the_first_of_its_recordings_is_of_all_of_them(tmp_path):
    """Raven opens several files as one sound: times run on, and File Offset counts from each file's beginning."""
    rows = "1\tS\t1\t1\t2\t1\t2\tC:\\x\\a.wav\t1.0\ttowit\n2\tS\t1\t61\t62.5\t1\t2\tC:\\x\\b.wav\t3.0\ttowoo\n"
    table = f"{RAVEN}\tBegin Path\tFile Offset (s)\tWhat\n{rows}"
    files = {"a.flac": None, "b.flac": None, "a.Table.1.selections.txt": table}  # converted since
    assert times(read(make(tmp_path / "data", files))) == {
        "a.flac": [(1.0, 2.0, "towit")],
        "b.flac": [(3.0, 4.5, "towoo")],
    }


def test_of_recordings_of_one_name_a_raven_table_means_the_one_in_its_folder(tmp_path):
    row = "1\tS\t1\t1\t2\t1\t2\tD:\\night\\{}x.wav\ttowit\n"
    head = f"{RAVEN}\tBegin Path\tWhat\n"
    files = {"night/1/x.wav": None, "night/2/x.wav": None, "all.txt": head + row.format("2\\")}
    folder = make(tmp_path / "data", files)
    assert times(read(folder)) == {"night/2/x.wav": [(1.0, 2.0, "towit")]}
    make(folder, {"all.txt": head + row.format("")})
    with pytest.raises(DataError, match=r"line 2: Begin Path .* may be night/1/x\.wav, night/2/x\.wav; rename all but"):
        read(folder)


def test_a_raven_table_of_several_recordings_without_offsets_is_warned_of(tmp_path, caplog):
    rows = "1\tS\t1\t1\t2\t1\t2\ta.wav\ttowit\n2\tS\t1\t5\t6\t1\t2\tb.wav\ttowit\n"
    files = {"a.wav": None, "b.wav": None, "all.txt": f"{RAVEN}\tBegin File\tWhat\n{rows}"}
    assert times(read(make(tmp_path / "data", files)))["b.wav"] == [(5.0, 6.0, "towit")]
    assert "no column File Offset (s); times are taken from the beginning of each recording" in caplog.text


def test_a_table_of_annotations_finds_its_recording_however_accents_are_composed(tmp_path):
    files = {"\u00e9t\u00e9.wav": None, "e\u0301te\u0301.txt": "0.5\t1\tRobin\n"}
    assert list(times(read(make(tmp_path / "data", files))).values()) == [[(0.5, 1.0, "Robin")]]


def test_a_table_beside_annotations_describes_the_recordings(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    track = "0.5\t1\tRobin\n"
    about = "Datei,recordist,annotated_for,unannotated,split,Kamera\na.wav,Ann,Robin;Wren,unknown,train,x\ngone.wav,Bo,,,,\n"
    files = {"a.wav": None, "a.txt": track, "b.wav": None, "b.txt": track, "about.csv": about}
    folder = make(tmp_path / "data", files)
    table = read(folder, columns="filename: Datei").set_index("filename")
    assert "layout annotations (detected" in caplog.text
    assert "the table about.csv describes them: author, annotated_for, unannotated, split, Kamera" in caplog.text
    assert "it describes 1 recording without a label or a file of annotations: gone.wav" in caplog.text
    assert "it does not describe 1 recording of 2" in caplog.text
    assert table.loc["a.wav", "known_for"] == ("Robin", "Wren")
    assert table.loc["b.wav", "known_for"] is None
    assert table["unannotated"].tolist() == ["unknown", "absent"]
    assert table["author"].tolist() == ["Ann", ""]
    make(folder, {"about.csv": "file,unannotated\na.wav,no\n"})
    with pytest.raises(DataError, match=r"about\.csv: line 2: unannotated 'no' is not one of absent, unknown"):
        read(folder)


def test_a_table_beside_folders_describes_the_recordings_and_one_by_name_too(tmp_path):
    files = {"robin/1.wav": None, "wren/2.wav": None, "t.csv": "file,place\nrobin/1.wav,lake\nwren/2.wav,lake\n"}
    folder = make(tmp_path / "data", files)
    table = read(folder)
    assert labels(table) == {"robin/1.wav": ("robin",), "wren/2.wav": ("wren",)}
    assert table["group"].nunique() == 1
    assert read(folder, table=folder / "t.csv", layout="folders")["place"].tolist() == ["lake", "lake"]


def test_one_setting_says_what_all_recordings_were_annotated_for(tmp_path):
    make(tmp_path, {"map.csv": "old,new\nRotkehlchen,robin\nLaut,\n"})
    text = "file,label,start,end,annotated_for\na.wav,Rotkehlchen,0,1,\nb/c.flac,Wren,0,1,Laut\n"
    folder = make(tmp_path / "data", SOUNDS | {"t.csv": text})
    how = {"annotated_for": "Rotkehlchen;owl", "label_map": tmp_path / "map.csv"}
    assert read(folder, **how)["known_for"].tolist() == [("robin", "owl"), ("?",)]  # none of our classes
    assert "known_for" not in read(make(tmp_path / "other", {"t.csv": "file,label\na.wav,x\n", "a.wav": None}))


def test_audacity_tracks_have_lines_of_frequencies(tmp_path):
    track = "0.5\t1.25\tRobin\n\\\t1000\t2000\n2,5\t3\tWren\n\\\t-1\t-1\n"
    table = read(make(tmp_path / "data", {"x#1.mp3": None, "x#1.txt": track}))
    assert times(table) == {"x#1.mp3": [(0.5, 1.25, "Robin"), (2.5, 3.0, "Wren")]}
    low = [one.low_hz for one in table["annotations"][0]]
    assert low[0] == 1000.0
    assert low[1] != low[1]  # not known


def test_the_same_annotation_in_two_tables_counts_once(tmp_path, caplog):
    table = f"{RAVEN}\tSpecies\n1\tS\t1\t0.5\t1.25\t\t\tRobin\n"
    files = {"a.wav": None, "a.txt": "0.5\t1.25\tRobin\n3\t4\tWren\n", "a.Table.1.selections.txt": table}
    found = times(read(make(tmp_path / "data", files)))
    assert found == {"a.wav": [(0.5, 1.25, "Robin"), (3.0, 4.0, "Wren")]}
    assert "1 annotation: it is there a second time; counted once; " in caplog.text


@pytest.mark.parametrize(
    ("files", "hint"),
    [
        (
            {"t.csv": "wo,was\na.wav,x\n"},
            r"t\.csv has the columns wo, was: name those of files and labels with \[data\] c",
        ),
        ({"z.txt": "0\t1\tx\n"}, r"z\.txt annotates a recording that is missing"),
        (
            {"a.txt": "0 1 x\n"},
            r"a\.txt is neither a selection table of Raven nor a label track of Audacity \(start, end",
        ),
    ],
)
def test_what_is_nearly_a_layout_gets_a_hint(tmp_path, files, hint):
    with pytest.raises(DataError, match=hint):
        read(make(tmp_path / "data", files | {"a.wav": None}))


def test_a_track_may_have_a_header(tmp_path):
    files = {"a.wav": None, "a.txt": "start\tend\tlabel\n0.5\t1\tRobin\n"}
    assert times(read(make(tmp_path / "data", files))) == {"a.wav": [(0.5, 1.0, "Robin")]}


def test_a_selection_table_at_the_top_is_never_taken_for_a_plain_table(tmp_path):
    """Its times run on over the recordings; only File Offset counts from the beginning of each."""
    rows = "1\tS\t1\t61\t62\t1\t2\tb.wav\t1.0\tRobin\n"
    table = f"{RAVEN}\tBegin File\tFile Offset (s)\tSpecies\n{rows}"
    folder = make(tmp_path / "data", {"a.wav": None, "b.wav": None, "all.txt": table})
    assert times(read(folder)) == {"b.wav": [(1.0, 2.0, "Robin")]}
    with pytest.raises(
        DataError, match=r"all\.txt: a selection table of Raven, which \[data\] layout = annotations reads"
    ):
        read(folder, layout="table", table=folder / "all.txt")


def test_tables_without_a_recording_and_recordings_without_a_table_are_said(tmp_path, caplog):
    track = "0.5\t1.25\tRobin\n"
    files = {"a.wav": None, "a.txt": track, "a.wav.txt": "2\t3\tWren\n", "gone.txt": track, "b.wav": None}
    assert times(read(make(tmp_path / "data", files))) == {"a.wav": [(0.5, 1.25, "Robin"), (2.0, 3.0, "Wren")]}
    assert "1 file of annotations without their recording; left out: gone.txt" in caplog.text
    assert "1 recording without annotations; left out: b.wav" in caplog.text
    assert "a.wav: 2 files annotate this recording, all are used: a.txt, a.wav.txt" in caplog.text


def test_a_track_may_have_line_ends_of_any_system(tmp_path):
    files = {f"{number}.wav": None for number in range(3)}
    files |= {f"{number}.txt": end.join(["0\t1\ta", "2\t3\tb", ""]) for number, end in enumerate(("\n", "\r\n", "\r"))}
    found = times(read(make(tmp_path / "data", files)))
    assert list(found.values()) == [[(0.0, 1.0, "a"), (2.0, 3.0, "b")]] * 3


def test_what_is_no_label_in_a_track_is_reported_with_its_line(tmp_path):
    with pytest.raises(DataError, match=r"a\.txt: line 2: 'seen' is not a label; expected start, end and label"):
        read(make(tmp_path / "data", {"a.wav": None, "a.txt": "0.5\t1.25\tRobin\nseen\n"}))


def test_other_formats_are_read_by_crowsetta(tmp_path):
    pytest.importorskip("crowsetta", reason="an optional extra")
    words = '0\n0.5\n""\n0.5\n1.25\n"robin"\n1.25\n2\n""\n'
    grid = f'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n2\n<exists>\n1\n"IntervalTier"\n"birds"\n0\n2\n3\n{words}'
    assert times(read(make(tmp_path / "data", {"a.wav": None, "a.TextGrid": grid}))) == {
        "a.wav": [(0.5, 1.25, "robin")]
    }


# BirdCLEF, year by year

HEADER = "primary_label,secondary_labels,type,latitude,longitude,scientific_name,common_name,author"
ROW = "['song'],1,2,Avis una,First Bird,Ann"
YEARS = {
    2021: {
        "train_metadata.csv": f"{HEADER},date,filename\nacafly,[],{ROW},2020-01-01,XC1.ogg\nastfly,\"['acafly']\",{ROW},,XC2.ogg\n",
        "train_short_audio/acafly/XC1.ogg": None, "train_short_audio/astfly/XC2.ogg": None,
        "train_soundscapes/7019_COR_20190904.ogg": None,
        "train_soundscape_labels.csv": "row_id,site,audio_id,seconds,birds\n7019_COR_5,COR,7019,5,nocall\n"
        "7019_COR_10,COR,7019,10,acafly rucwar\n",
    },
    2024: {
        "train_metadata.csv": f"{HEADER},license,rating,url,filename\nasbfly,[],{ROW},x,5,u,asbfly/XC1.ogg\n",
        "train_audio/asbfly/XC1.ogg": None,
        "eBird_Taxonomy_v2021.csv": "\ufeffTAXON_ORDER,SPECIES_CODE,PRIMARY_COM_NAME,SCI_NAME\n1,lorlor1,Loris,Loris loris\n",
        "sample_submission.csv": "row_id,asbfly,lorlor1\nsoundscape_1_5,0,0\n",
    },
    2025: {
        "train.csv": "primary_label,secondary_labels,type,filename,collection,rating,author,latitude,longitude\n"
        "1139490,[''],[''],1139490/CSA1.ogg,CSA,0,Ann,,\n",
        "train_audio/1139490/CSA1.ogg": None,
        "taxonomy.csv": "primary_label,inat_taxon_id,scientific_name,common_name,class_name\n1139490,1139490,Ragoniella pulchella,Katydid,Insecta\n",
    },
    2026: {
        "train.csv": "primary_label,secondary_labels,filename,author,latitude,longitude\n47158son01,[''],47158son01/iNat1.ogg,Ann,,\n",
        "train_audio/47158son01/iNat1.ogg": None,
        "train_soundscapes/s1.ogg": None,
        "train_soundscapes_labels.csv": "filename,start,end,primary_label\n"
        + 2 * "s1.ogg,00:00:05,00:00:10,1161364;toctou1\n",
    },
}  # fmt: skip


@pytest.mark.parametrize("year", YEARS)
def test_every_year_of_birdclef_is_found_out(tmp_path, caplog, year):
    caplog.set_level(logging.INFO)
    table = read(make(tmp_path / "data", YEARS[year]))
    assert "layout birdclef (detected" in caplog.text
    if year == 2021:
        assert labels(table)["astfly/XC2.ogg"] == ("astfly",)
        assert table.set_index("filename")["secondary_labels"]["astfly/XC2.ogg"] == ("acafly",)
        spans = times(table)["train_soundscapes/7019_COR_20190904.ogg"]
        assert spans == [(0.0, 5.0, "nocall"), (5.0, 10.0, "acafly"), (5.0, 10.0, "rucwar")]
        assert class_labels(load_table(Config(paths=Paths(data_dir=tmp_path / "data"), testing=settings.Testing(testing=False)))) == [
            "acafly", "astfly", "rucwar",
        ]  # fmt: skip
    if year == 2024:
        assert class_labels(table) == ["asbfly", "lorlor1"]  # a species without a recording keeps a column
        assert class_names(table, ["lorlor1"])["common_name"].tolist() == ["Loris"]
    if year == 2025:
        assert labels(table) == {"1139490/CSA1.ogg": ("1139490",)}
        assert table["secondary_labels"].tolist() == [()]
        assert class_names(table, ["1139490"])["scientific_name"].tolist() == ["Ragoniella pulchella"]
        assert table["class_name"].tolist() == ["Insecta"]
    if year == 2026:
        assert times(table)["train_soundscapes/s1.ogg"] == [(5.0, 10.0, "1161364"), (5.0, 10.0, "toctou1")]


@pytest.mark.parametrize("header", ["row_id,birds", "row_id,target"])
def test_the_columns_of_old_sample_submissions_are_no_species(tmp_path, header):
    files = YEARS[2021] | {"sample_submission.csv": f"{header}\n7019_COR_5,nocall\n"}
    table = read(make(tmp_path / "data", files))
    assert table.attrs["classes"] == []
    assert class_labels(table) == ["acafly", "astfly", "rucwar"]


def test_a_sample_submission_of_other_species_is_not_used(tmp_path, caplog):
    files = YEARS[2024] | {"sample_submission.csv": "row_id,x,y\ns_5,0,0\n"}
    assert class_labels(read(make(tmp_path / "data", files))) == ["asbfly"]
    assert "none of its columns is a species of these data (x, y); it is not used" in caplog.text


def test_a_trial_does_not_keep_columns_for_all_species(tmp_path):
    folder = make(tmp_path / "data", YEARS[2024])
    config = Config(paths=Paths(data_dir=folder), testing=settings.Testing(testing=True, data_samples_for_testing=1))
    assert class_labels(load_table(config)) == ["asbfly", "lorlor1"]  # nothing was left out
    rows = "".join(f"c{number},[],{ROW},x,5,u,c{number}/XC1.ogg\n" for number in range(9))
    make(folder, {"train_metadata.csv": f"{HEADER},license,rating,url,filename\n{rows}"})
    assert len(class_labels(load_table(config))) == 2


# Sources, label maps, filters


def sources(tmp_path, text):
    (tmp_path / "config.ini").write_text(f"[data]\noutput_dir = cache\n{text}")
    return read_sources(load_config(tmp_path / "config.ini"))


def test_two_sources_with_a_label_map_are_one_data_set(tmp_path):
    make(tmp_path / "x", {"robin/1.wav": None, "bat/2.wav": None})
    make(
        tmp_path / "y",
        {"1.wav": None, "t.csv": "file,label,start,end,group\n1.wav,Rotkehlchen,0,1,g\n1.wav,Geräusch,2,3,g\n"},
    )
    make(tmp_path, {"map.csv": "old,new\nRotkehlchen,robin\nbat,\nGeräusch,\n"})
    text = "[source.x]\ndata_dir = x\nlabel_map = map.csv\n[source.y]\ndata_dir = y\nlabel_map = map.csv\nweight = 2\n"
    table = sources(tmp_path, text)
    assert labels(table) == {"x/robin/1.wav": ("robin",), "y/1.wav": ("robin",)}
    assert times(table) == {"x/robin/1.wav": None, "y/1.wav": [(0.0, 1.0, "robin"), (2.0, 3.0, "?")]}
    assert table["sampling_weight"].tolist() == [1.0, 2.0]
    assert table["group"].tolist() == ["x/robin/1.wav", "y/g"]
    assert table["path"].tolist() == [str(tmp_path / "x/robin/1.wav"), str(tmp_path / "y/1.wav")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("old,new\na,b\nb,c\nc,a\n", r"map\.csv: a -> b -> c -> a is a circle; remove"),
        ("old,new\na,b\na,c\n", r"map\.csv: line 3: 'a' becomes 'c' here and 'b' above; keep one"),
        ("old\na\n", r"map\.csv: it has one column; a label map needs two, old and new"),
    ],
)
def test_a_label_map_that_cannot_be_is_reported(tmp_path, text, message):
    folder = make(tmp_path / "data", {"a/1.wav": None, "b/2.wav": None})
    make(tmp_path, {"map.csv": text})
    with pytest.raises(DataError, match=message):
        read(folder, label_map=tmp_path / "map.csv")


def test_a_label_map_finds_a_label_however_its_accents_are_composed(tmp_path):
    make(tmp_path, {"map.csv": "old,new\n\u00e9tourneau,starling\n"})
    folder = make(tmp_path / "data", {"e\u0301tourneau/1.wav": None})
    assert class_labels(read(folder, label_map=tmp_path / "map.csv")) == ["starling"]


def test_filters_leave_out_by_column(tmp_path):
    text = "file,label,rating,collection\na.wav,x,4.5,XC\nb.wav,x,2,XC\nc.wav,x,,iNat\nd.wav,x,5,CSA\n"
    folder = make(tmp_path / "data", {"t.csv": text})
    assert read(folder, filter="rating >= 3")["filename"].tolist() == ["a.wav", "d.wav"]
    assert read(folder, filter="rating > 3, collection = XC|iNat")["filename"].tolist() == ["a.wav"]
    assert read(folder, filter="collection != XC")["filename"].tolist() == ["c.wav", "d.wav"]
    with pytest.raises(DataError, match="filter names column 'ratng', but the columns are"):
        read(folder, filter="ratng > 3")
    with pytest.raises(DataError, match="'rating' is not a condition such as rating >= 3"):
        read(folder, filter="rating")
    with pytest.raises(DataError, match="the label map and the filter leave no recording"):
        read(folder, filter="rating > 9")


def test_times_of_a_time_expanded_recording_are_those_that_were_recorded(tmp_path):
    text = "file,label,start,end,low_hz,high_hz,time_expansion\na.wav,bat,10,20,2000,5000,10\nb/c.flac,bat,1,2,,,\n"
    table = read(make(tmp_path / "data", SOUNDS | {"t.csv": text}))
    assert table["time_expansion"].tolist() == [10.0, 1.0]
    assert table["annotations"][0][0] == (1.0, 2.0, "bat", 20_000.0, 50_000.0)
    assert times(table)["b/c.flac"] == [(1.0, 2.0, "bat")]
    assert read(tmp_path / "data", time_expansion=5.0)["time_expansion"].tolist() == [10.0, 5.0]
