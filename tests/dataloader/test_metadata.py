"""Is a table that cannot be used refused with a reason, and one that can be used read unchanged?"""

import json
import logging

import pandas as pd
import pytest

from dataloader import demo
from dataloader.metadata import (
    author_groups,
    check_classes,
    choose_for_testing,
    class_labels,
    class_names,
    drop_small_classes,
    existing_paths,
    load_table,
    read_metadata,
)
from utils import settings  # a name Testing here would look like a test class to pytest
from utils.config import load_config, to_ini
from utils.errors import DataError

HEADER = "primary_label,secondary_labels,author,latitude,longitude,scientific_name,filename\n"


def write(tmp_path, rows, header=HEADER, encoding="utf-8", folders=("a",)):
    for name in folders:
        (tmp_path / "train_audio" / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "train_metadata.csv").write_bytes((header + rows).encode(encoding))
    return tmp_path


def test_a_table_is_read_with_labels_groups_and_paths(tmp_path):
    rows = "nan,\"['b', 'c']\",Ann,52.791,20.0,Avis a,nan/XC2.ogg\n007,[],Ann,52.793,20.001,Avis b,007/XC1.ogg\n"
    table = read_metadata(write(tmp_path, rows))
    assert table["filename"].tolist() == ["007/XC1.ogg", "nan/XC2.ogg"]
    assert class_labels(table) == ["007", "nan"]
    assert table["secondary_labels"].tolist() == [(), ("b", "c")]
    assert table["group"].nunique() == 1  # one recordist at one place
    assert table["path"][0] == str(tmp_path / "train_audio/007/XC1.ogg")
    assert class_names(table, ["007"]).to_dict("records") == [
        {"label": "007", "scientific_name": "Avis b", "common_name": "007"}
    ]


def test_group_id_is_the_group_where_there_is_one(tmp_path):
    header = "primary_label,secondary_labels,filename,group_id\n"
    table = read_metadata(write(tmp_path, "a,[],a/1.ogg,g7\na,[],a/2.ogg,\n", header))
    assert table["group"].tolist() == ["g7", "a/2.ogg"]


@pytest.mark.parametrize(
    ("first", "second"),
    [("bob,-0.001,9", "bob,0.001,9"), ("bob,1,2", "bob ,1,2"), ("bob,1.001,2", "bob,1.0,2.0"), ("bob,nan,2", "bob,,2")],
)
def test_one_recordist_at_one_place_is_one_group_however_it_is_written(tmp_path, first, second):
    table = read_metadata(write(tmp_path, f"a,[],{first},x,a/1.ogg\na,[],{second},x,a/2.ogg\n"))
    assert table["group"].nunique() == 1


def test_a_tab_in_an_author_is_no_line_break(tmp_path):
    assert read_metadata(write(tmp_path, "a,[],Ann\tBee,1,2,x,a/1.ogg\n"))["author"].tolist() == ["Ann\tBee"]


def test_blank_lines_and_remarks_over_lines_are_read(tmp_path):
    header = "\n \n" + HEADER.replace("filename", "filename,remarks")
    remark = '"heard at dawn\nwith robin, wren, tit, finch, crow, jay, and, 7"'
    rows = f"a,[],Jos\u2028e,1,2,s,a/1.ogg,{remark}\n\n   \na,[],x,1,2,s,a/2.ogg,\n \n"
    table = read_metadata(write(tmp_path, rows, header))
    assert table["filename"].tolist() == ["a/1.ogg", "a/2.ogg"]
    with pytest.raises(DataError, match="line 5: primary_label is empty"):
        read_metadata(write(tmp_path, "\n,[],x,1,2,s,a/2.ogg,\n", header))


def test_coordinates_that_are_no_numbers_are_not_one_place(tmp_path):
    assert read_metadata(write(tmp_path, "a,[],,nan,nan,x,a/1.ogg\na,[],,nan,inf,x,a/2.ogg\n"))["group"].nunique() == 2


def test_a_filename_is_the_same_however_its_path_is_written(tmp_path, caplog):
    table = read_metadata(write(tmp_path, "a,[],x,1,2,s,./a//1.ogg\na,[],x,1,2,s,a/1.ogg\n"))
    assert table["filename"].tolist() == ["a/1.ogg"]
    assert "1 row names a recording again" in caplog.text


def test_what_nothing_is_known_of_is_a_group_of_its_own(tmp_path):
    table = read_metadata(write(tmp_path, "a,[],,,,x,a/1.ogg\na,[],,,,x,a/2.ogg\n"))
    assert table["group"].nunique() == 2


WRONG = [
    ("", HEADER, "the table is empty; it needs a row for each recording"),
    ("", "", "the file is empty; it needs a header"),
    ("a,[]\n", "primary_label,secondary_labels\n", "no column filename; it has primary_label, secondary_labels$"),
    ("a,[b,x,1,2,s,a/1.ogg\n", HEADER, r"line 2: secondary_labels '\[b' is not a list such as"),
    ("a,__import__('os'),x,1,2,s,a/1.ogg\n", HEADER, "line 2: secondary_labels .* is not a list"),
    ("a,[1],x,1,2,s,a/1.ogg\n", HEADER, r"line 2: secondary_labels '\[1\]' is not a list"),
    ("a,{[]},x,1,2,s,a/1.ogg\n", HEADER, r"line 2: secondary_labels '\{\[\]\}' is not a list"),
    ("a,'a',x,1,2,s,a/1.ogg\n", HEADER, "line 2: secondary_labels \"'a'\" is not a list"),
    (",[],x,1,2,s,a/1.ogg\n", HEADER, "line 2: primary_label is empty"),
    ("a,[],x,1,2,s,.\n", HEADER, r"line 2: filename '\.' cannot be the name of a file; correct it"),
    ("a,[],x,1,2,s,a/1\0.ogg\n", HEADER, r"line 2: filename 'a/1\\x00\.ogg' cannot be the name of a file; correct it"),
    ('a,[],x,1,2,s,"a/\n1.ogg"\n', HEADER, r"line 2: filename 'a/\\n1\.ogg' cannot be the name of a file; correct it"),
    ("a;b,[],x,1,2,s,a/1.ogg\n", HEADER, "line 2: label 'a;b' has a semicolon, which separates labels; rename it"),
    (
        "a,[],x,1,2,s,a/1.ogg,\na,[],x,1,2,s,t,a/2.ogg\na,[],x,1,2,s,a/3.ogg\n",
        HEADER,
        "line 3: 8 values, but the header names 7 columns: there is a comma too many; put the value",
    ),
    ("a,[],x,1,2,s,t,a/1.ogg\n", HEADER, "line 2: 8 values, but the header names 7 columns: there is a comma too many"),
    (
        'a,[],"x,1,2,s,a/1.ogg\na,[],y,1,2,s,a/2.ogg\na,[],z",1,2,s,a/3.ogg\n',
        HEADER,
        "line 2: author .* has several lines; a quotation mark is not closed",
    ),
    (
        'a,[],x,1,2,"s,a/1.ogg\na,[],y,1,2,s,a/2.ogg\na,[],z,1,2,s",a/3.ogg\n',
        HEADER,
        "line 2: .* has several lines; a quot",
    ),
    ("a,[],x,1,2,s,a/1.ogg\n\n,[],x,1,2,s,a/2.ogg\n", HEADER, "line 4: primary_label is empty"),
    ("a,[],x,1,2,s,../1.ogg\n", HEADER, r"line 2: filename '\.\./1\.ogg' leads out of the data folder"),
    ("a,[],x,1,2,s,a/1.ogg\na,[],x,1,2,s,a/1.wav\n", HEADER, "a/1.ogg and a/1.wav differ in their ending only"),
    ("a,[],x,1,2,s,a/1.ogg\na,[],x,1,2,s,a/1.\n", HEADER, r"a/1.ogg and a/1\. differ in their ending only"),
]


@pytest.mark.parametrize(("rows", "header", "message"), WRONG)
def test_a_table_that_cannot_be_used_is_reported(tmp_path, rows, header, message):
    with pytest.raises(DataError, match=rf"train_metadata\.csv: .*{message}"):
        read_metadata(write(tmp_path, rows, header))


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-16", "read as a table in UTF-16, separated by commas"),
        ("latin-1", "not UTF-8 at line 3, so it is read as Windows-1252"),
        ("utf-8-sig", ""),
    ],
)
def test_another_encoding_is_read_and_reported(tmp_path, caplog, encoding, said):
    caplog.set_level(logging.INFO)
    rows = "a,[],Ann,1,2,s,a/1.ogg\na,[],Jürgen,1,2,s,a/2.ogg\n"
    assert read_metadata(write(tmp_path, rows, encoding=encoding))["author"].tolist() == ["Ann", "Jürgen"]
    assert said in caplog.text


def test_a_table_of_excel_with_semicolons_is_read_and_reported(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    table = read_metadata(write(tmp_path, "a;[];Ann;1;2;s;a/1.ogg\r\n", HEADER.replace(",", ";")))
    assert table["author"].tolist() == ["Ann"]
    assert "read as a table in UTF-8, separated by semicolons" in caplog.text


def test_the_row_names_of_r_are_left_out(tmp_path):
    rows = '"1","a","[]","Ann","1","2","s","a/1.ogg"\n"2","a","[]","Bo","1","2","s","a/2.ogg"\n'
    assert read_metadata(write(tmp_path, rows))["filename"].tolist() == ["a/1.ogg", "a/2.ogg"]
    assert read_metadata(write(tmp_path, rows, '"",' + HEADER))["author"].tolist() == ["Ann", "Bo"]


def test_a_label_may_hold_a_slash_a_colon_and_a_comma_and_is_long(tmp_path):
    names = ["a/b", "c:d", "e, f", "..", "g" * 200]
    rows = "".join(f'"{name}",[],x,1,2,s,a/{number}.ogg\n' for number, name in enumerate(names))
    assert class_labels(read_metadata(write(tmp_path, rows))) == sorted(names)


def test_accents_composed_in_two_ways_are_one_label_and_find_their_file(tmp_path, caplog):
    write(tmp_path, "e\u0301,[],x,1,2,s,a/e\u0301.ogg\n\u00e9 ,[],x,1,2,s,a/2.ogg\n")
    (tmp_path / "train_audio/a/\u00e9.ogg").touch()
    table = read_metadata(tmp_path)
    assert class_labels(table) == ["\u00e9"]
    assert table["path"][1] == str(tmp_path / "train_audio/a/\u00e9.ogg")
    assert "1 filename with accents composed differently (NFC, NFD)" in caplog.text


def test_backslashes_in_a_filename_are_read_and_reported(tmp_path, caplog):
    write(tmp_path, "a,[],x,1,2,s,a\\1.ogg\n")
    (tmp_path / "train_audio/a/1.ogg").touch()
    assert read_metadata(tmp_path)["filename"].tolist() == ["a/1.ogg"]
    assert "1 filename with backslashes in place of /" in caplog.text


def test_no_table_and_no_recordings_are_reported(tmp_path):
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"train_metadata\.csv: no such file, nor train\.csv .* the table notes\.csv"):
        read_metadata(tmp_path)
    with pytest.raises(DataError, match=r"train_audio: no such folder; put the recordings there, such as a/1\.ogg"):
        read_metadata(write(tmp_path, "a,[],x,1,2,s,a/1.ogg\n", folders=()))


def test_repeated_rows_and_folders_without_rows_are_warned_of(tmp_path, caplog):
    rows = "a,[],x,1,2,s,a/1.ogg\na,[],x,1,2,s,a/1.ogg\n"
    with caplog.at_level(logging.WARNING):
        assert len(read_metadata(write(tmp_path, rows, folders=("a", "zebra")))) == 1
    assert "a/1.ogg (" in caplog.text
    assert "line 3)" in caplog.text
    assert "no row of the table names a recording of zebra" in caplog.text


def counted(**counts):
    labels = [label for label, count in counts.items() for _ in range(count)]
    return pd.DataFrame({"primary_label": labels, "labels": [(label,) for label in labels]})


def test_testing_takes_whole_classes_largest_first():
    assert class_labels(choose_for_testing(counted(a=3, b=9, c=5, d=9), 10)) == ["b", "d"]
    assert len(choose_for_testing(counted(a=3), 10)) == 3
    assert class_labels(choose_for_testing(counted(a=3, b=9, c=5), 4)) == ["b", "c"]  # one class cannot be classified


def test_small_classes_are_left_out_by_name(caplog):
    assert class_labels(drop_small_classes(counted(a=3, b=9), 5)) == ["b"]
    assert "left out: 1 class with fewer than 5 good recordings: a (3)" in caplog.text
    with pytest.raises(DataError, match=r"no class has 10 good recordings \(the largest has 9\)"):
        drop_small_classes(counted(a=3, b=9), 10)


def test_recordings_of_one_class_alone_are_nothing_to_train_on():
    alone = counted(b=9)
    with pytest.raises(DataError, match=r"all 9 recordings are of one class, b, so there is nothing to learn; add"):
        check_classes(alone, "bce")
    check_classes(counted(a=1, b=9), "cross_entropy")
    with pytest.raises(DataError, match="no good recording is left"):
        check_classes(counted(), "bce")
    with pytest.raises(DataError, match="of one class, nocall, "):
        check_classes(pd.DataFrame({"labels": [()]}), "bce")
    silent = pd.DataFrame({"labels": [()], "primary_label": ["nocall"]})
    check_classes(pd.concat([alone, silent]), "bce")
    with pytest.raises(DataError, match="loss = cross_entropy lets species compete, but b is the only one; choose bce"):
        check_classes(pd.concat([alone, silent]), "cross_entropy")


def test_a_trial_on_real_recordings_is_reported_as_one(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write(tmp_path, "".join(f"{label},[],x,1,2,s,{label}/{number}.ogg\n" for label in "abc" for number in range(3)))
    paths = settings.Paths(data_dir=tmp_path)
    trial = settings.Testing(testing=True, data_samples_for_testing=6)
    assert len(load_table(settings.Config(paths=paths, testing=trial))) == 6
    assert "a trial with the largest classes, 6 of 9 recordings; false: all of them" in caplog.text
    caplog.clear()
    assert len(load_table(settings.Config(paths=paths))) == 9
    assert "a trial with" not in caplog.text


def config_file(folder, text=""):
    folder.mkdir(exist_ok=True)
    (folder / "config.ini").write_text(text)
    return folder / "config.ini"


def test_without_data_testing_uses_a_demo_in_a_folder_of_its_own(tmp_path, monkeypatch):
    made = []

    def fake(folder):
        made.append(folder)
        return write(tmp_path / "demo", "a,[],x,1,2,s,a/1.ogg\n")

    monkeypatch.setattr(demo, "make_demo", fake)
    path = config_file(tmp_path, "[testing]\ntesting = true\n[paths]\ndata_dir = data\n")
    assert len(load_table(load_config(path))) == 1
    assert made == [tmp_path / "demo"]
    (tmp_path / "demo/demo.json").write_text(json.dumps({"format": demo.FORMAT, "species": 30}))
    assert len(load_table(load_config(path))) == 1
    assert len(made) == 1  # one of other species, made by hand, is used
    assert not (tmp_path / "data").exists()
    run = config_file(tmp_path / "run", to_ini(load_config(path)))
    (tmp_path / "run/split.csv").touch()
    assert len(load_table(load_config(run))) == 1  # a run that began with the demo continues with it
    with pytest.raises(DataError, match=r"download_data\.sh.*python -m dataloader\.demo"):
        load_table(load_config(path, ["testing.testing=false"]))


@pytest.mark.parametrize("name", ["dta", "elsewhere/data"])
def test_a_named_folder_that_is_not_there_never_trains_on_the_demo(tmp_path, name):
    path = config_file(tmp_path, "[testing]\ntesting = true\n")
    with pytest.raises(DataError, match=rf"{name}: no such folder; correct \[paths\] data_dir"):
        load_table(load_config(path, [f"paths.data_dir={tmp_path / name}"]))


def test_the_error_for_an_unknown_layout_names_what_is_in_the_folder(tmp_path):
    path = config_file(tmp_path, "[testing]\ntesting = true\n")
    (tmp_path / "data/train_audio/robin").mkdir(parents=True)
    for number in range(3):
        (tmp_path / f"data/train_audio/robin/{number}.ogg").touch()
    (tmp_path / "data/train.csv").write_text("who,what\n")
    with pytest.raises(DataError, match=r"3 recordings in 1 sub-folder, and the table train\.csv\. Add the table"):
        load_table(load_config(path))
    (tmp_path / "data/train.csv").write_text("primary_label,filename\nrobin,robin/1.ogg\n")
    assert len(load_table(load_config(path))) == 1


def test_authors_who_share_a_group_are_one_and_the_unknown_stay_with_their_group(tmp_path):
    table = pd.DataFrame(
        {
            "author": ["Ann", "Bo", "Bo ", "Cy", "", "", "Dee"],
            "group": ["g1", "g1", "g2", "g3", "g3", "g4", "g5"],
        }
    )
    groups = author_groups(table, tmp_path)
    assert groups[0] == groups[1] == groups[2]
    assert groups[3] == groups[4]
    assert len(set(groups)) == 4


@pytest.mark.parametrize(("group_by", "n_groups"), [("group", 3), ("author", 2)])
def test_group_by_decides_what_is_kept_together(tmp_path, group_by, n_groups):
    rows = "a,[],Ann,1,2,s,a/1.ogg\na,[],Ann,50,60,s,a/2.ogg\na,[],Bo,1,2,s,a/3.ogg\n"
    config = settings.Config(
        paths=settings.Paths(data_dir=write(tmp_path, rows)), data=settings.Data(group_by=group_by)
    )
    assert load_table(config)["group"].nunique() == n_groups


def test_grouping_by_author_needs_authors(tmp_path):
    header = "primary_label,secondary_labels,filename,group_id\n"
    config = settings.Config(
        paths=settings.Paths(data_dir=write(tmp_path, "a,[],a/1.ogg,g\n", header)),
        data=settings.Data(group_by="author"),
    )
    with pytest.raises(DataError, match=r"the data have no authors, which \[data\] group_by"):
        load_table(config)


def test_nocall_is_a_class_or_an_example_of_nothing(tmp_path):
    rows = "a,[],Ann,1,2,s,a/1.ogg\nnocall,[],Ann,5,6,,nocall/2.ogg\n"
    paths = settings.Paths(data_dir=write(tmp_path, rows))
    table = load_table(settings.Config(paths=paths))
    assert table["labels"].tolist() == [("a",), ()]
    assert len(drop_small_classes(table, 1)) == 2
    as_class = load_table(settings.Config(paths=paths, labels=settings.Labels(nocall=True)))
    assert as_class["labels"].tolist() == [("a",), ("nocall",)]


def test_an_example_of_nothing_stays_where_a_small_class_goes():
    table = pd.DataFrame({"labels": [("a",), ("a",), ("b",), ()], "primary_label": ["a", "a", "b", "nocall"]})
    assert drop_small_classes(table, 2)["labels"].tolist() == [("a",), ("a",), ()]


def test_a_nocall_class_without_recordings_is_warned_of(tmp_path, caplog):
    paths = settings.Paths(data_dir=write(tmp_path, "a,[],Ann,1,2,s,a/1.ogg\n"))
    load_table(settings.Config(paths=paths, labels=settings.Labels(nocall=True)))
    assert "no recording is labelled nocall" in caplog.text


def test_recordings_of_nothing_alone_are_an_error(tmp_path):
    config = settings.Config(paths=settings.Paths(data_dir=write(tmp_path, "nocall,[],Ann,5,6,,nocall/2.ogg\n")))
    with pytest.raises(DataError, match="no recording has a species, all are nocall; add some"):
        load_table(config)


def test_the_recordings_of_a_run_are_found_in_any_layout(tmp_path):
    for name in ("x/robin/1.wav", "y/train_audio/wren/2.ogg", "z/3.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = ["robin/1.wav", "wren/2.ogg", "gone.wav"]
    one = settings.Config(paths=settings.Paths(data_dir=tmp_path / "x", demo_dir=tmp_path / "y"))
    assert existing_paths(one, names) == [tmp_path / "x/robin/1.wav", tmp_path / "y/train_audio/wren/2.ogg"]
    several = tuple((name, settings.Source(data_dir=tmp_path / name)) for name in "yz")
    two = settings.Config(sources=several)
    assert existing_paths(two, ["y/wren/2.ogg", "z/3.wav"]) == [
        tmp_path / "y/train_audio/wren/2.ogg",
        tmp_path / "z/3.wav",
    ]
