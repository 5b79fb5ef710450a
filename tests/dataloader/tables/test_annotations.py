"""Are annotations beside recordings read: Raven, Audacity, and what crowsetta reads?"""

# ruff: noqa: E501 - a table's row is on one line

import logging

import pytest

from dataloader.metadata import class_labels
from tests.dataloader.tables.conftest import SOUNDS, labels, make, read, times
from utils.errors import DataError

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


def test_one_setting_names_what_all_recordings_were_annotated_for(tmp_path):
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


def test_tables_without_a_recording_and_recordings_without_a_table_are_reported(tmp_path, caplog):
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
