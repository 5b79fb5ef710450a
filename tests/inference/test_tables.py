"""Are the tables what Kaggle, Raven and Audacity read?"""

import csv
import io
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from factory.model_card import ModelCard
from inference import tables
from inference.tables import DetectionFilter, Result, detections
from inference.window_plan import Grid
from utils.errors import DataError
from utils.settings import DataProcess, Model

GRID = Grid(5.0, 5.0)
CARD = ModelCard(Model(), ("b", "a", "c"), ("Bb", "Aa", "Cc"), ("Blue Bird", "", "Crow"), DataProcess(), "window")
SCORES = [[0.1, 0.9, 0.2], [0.3, 0.8, 0.3], [0.5, 0.1, 0.4]]


def result(name="n/r1.ogg", scores=SCORES, window=5.0, step=5.0, sample_rate=32_000):
    start = np.arange(len(scores)) * step
    return Result(Path(name), start, start + window, np.array(scores, np.float32), start[-1] + window, sample_rate)


def as_tuples(found):
    return [(one.start_s, one.end_s, CARD.labels[one.label], round(one.score, 3)) for one in found]


def table(path):
    return list(csv.reader(io.StringIO(path.read_text())))


# what is kept


def test_without_a_filter_every_score_is_kept_by_time_and_label():
    found = as_tuples(detections(result(), DetectionFilter()))
    assert found[:4] == [(0, 5, "b", 0.1), (0, 5, "a", 0.9), (0, 5, "c", 0.2), (5, 10, "b", 0.3)]
    assert len(found) == 9


def test_the_threshold_itself_is_kept():
    assert as_tuples(detections(result(scores=[[0.5, 0.25, 0.75]]), DetectionFilter(threshold=0.5))) == [
        (0, 5, "b", 0.5),
        (0, 5, "c", 0.75),
    ]


def test_top_k_keeps_so_many_of_each_row_and_of_equal_ones_the_first():
    assert as_tuples(detections(result(), DetectionFilter(top_k=1))) == [
        (0, 5, "a", 0.9),
        (5, 10, "a", 0.8),
        (10, 15, "b", 0.5),
    ]
    assert as_tuples(detections(result(scores=[[0.3, 0.3, 0.3]]), DetectionFilter(top_k=2))) == [
        (0, 5, "b", 0.3),
        (0, 5, "a", 0.3),
    ]


def test_merging_joins_consecutive_detections_of_a_label_with_the_highest_score():
    scores = [[0.6, 0.1, 0.9], [0.1, 0.1, 0.7], [0.8, 0.1, 0.95], [0.7, 0.6, 0.1]]
    assert as_tuples(detections(result(scores=scores), DetectionFilter(threshold=0.5, merge=True))) == [
        (0, 5, "b", 0.6),
        (0, 15, "c", 0.95),
        (10, 20, "b", 0.8),
        (15, 20, "a", 0.6),
    ]


def test_merging_joins_overlapping_rows_and_not_those_with_a_gap():
    one = [[0.9, 0, 0], [0.9, 0, 0]]
    assert as_tuples(detections(result(scores=one, step=2.0), DetectionFilter(0.5, None, True))) == [(0, 7, "b", 0.9)]
    assert len(as_tuples(detections(result(scores=one, step=6.0), DetectionFilter(0.5, None, True)))) == 2


def test_a_default_threshold_holds_where_no_other_filter_is_given():
    assert DetectionFilter().or_default() == DetectionFilter(threshold=0.25)
    assert DetectionFilter(top_k=2).or_default() == DetectionFilter(top_k=2)
    assert DetectionFilter(threshold=0.0).or_default() == DetectionFilter(threshold=0.0)


# csv


def test_csv_has_a_row_for_every_label_of_every_window(tmp_path):
    tables.write_csv(tmp_path / "out.csv", [result(), result("s,1.ogg", SCORES[:1])], CARD, DetectionFilter())
    rows = table(tmp_path / "out.csv")
    assert rows[0] == ["file", "start_s", "end_s", "label", "score"]
    assert rows[1] == ["n/r1.ogg", "0", "5", "b", "0.1"]
    assert rows[-1] == ["s,1.ogg", "0", "5", "c", "0.2"]
    assert len(rows) == 1 + 9 + 3


def test_a_long_recording_is_written_without_all_its_detections_in_memory(tmp_path):
    card = replace(CARD, labels=tuple(map(str, range(50))))
    long = result(scores=np.ones((1000, 50), np.float32))
    tracemalloc.start()
    tables.write_csv(tmp_path / "out.csv", [long], card, DetectionFilter())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(table(tmp_path / "out.csv")) == 1 + 50_000
    assert peak < 1_000_000  # bytes; 50,000 detections are 9 million


def test_file_names_that_are_not_utf_8_can_be_written_and_stay_two(tmp_path):
    name, other = os.fsdecode(b"n/\xffr.ogg"), os.fsdecode(b"n/\xfer.ogg")
    tables.write_csv(tmp_path / "out.csv", [result(name), result(other)], CARD, DetectionFilter())
    assert {row[0] for row in table(tmp_path / "out.csv")[1:]} == {r"n/\xffr.ogg", r"n/\xfer.ogg"}
    tables.write_tables(tmp_path / "raven", [result(name)], CARD, DetectionFilter(), "raven", [Path(name)])
    tables.write_submission(tmp_path / "s.csv", [result(name)], CARD, GRID, None)


@pytest.mark.parametrize("kind", list(tables.TABLES))
def test_nocall_is_no_detection_of_a_table(tmp_path, kind):
    card = replace(CARD, labels=("a", tables.NOCALL, "c"))
    tables.write_tables(tmp_path / "t.txt", [result("r.ogg")], card, DetectionFilter(0.0), kind, [Path("r.ogg")])
    text = (tmp_path / "t.txt").read_text()
    assert tables.NOCALL not in text
    assert len(text.splitlines()) == 2 * len(result("r.ogg").scores) + (kind == "raven")  # and its header


# submission


def sample_file(tmp_path, header="row_id,a,b,c", rows=("r1_5", "r1_10", "r1_15")):
    path = tmp_path / "sample.csv"
    path.write_text("\n".join([header, *(f"{row},0,0,0" for row in rows)]) + "\n")
    return path


def test_a_submission_has_sorted_columns_and_end_seconds(tmp_path):
    tables.write_submission(tmp_path / "s.csv", [result()], CARD, GRID, None)
    assert (tmp_path / "s.csv").read_bytes() == (
        b"row_id,a,b,c\nr1_5,0.9,0.1,0.2\nr1_10,0.8,0.3,0.3\nr1_15,0.1,0.5,0.4\n"
    )


def test_row_ids_follow_the_grid_where_the_last_row_is_pushed_back_or_short(tmp_path):
    start = np.array([0.0, 4.8])
    pushed = Result(Path("r2.ogg"), start, start + 5, np.array(SCORES[:2], np.float32), 9.8, 32_000)
    short = Result(Path("r3.ogg"), np.zeros(1), np.array([2.0]), np.array(SCORES[:1], np.float32), 2.0, 32_000)
    tables.write_submission(tmp_path / "s.csv", [pushed, short], CARD, GRID, None)
    assert [row[0] for row in table(tmp_path / "s.csv")[1:]] == ["r2_5", "r2_10", "r3_5"]


def test_a_sample_decides_columns_rows_and_order(tmp_path, caplog):
    rows = ("r1_10", "r0_5", "r1_5")
    sample = tables.read_sample(sample_file(tmp_path, "row_id,c,new1,a,new2", rows), CARD.labels)
    assert "the run does not know 2 species, which get the prior: new1, new2" in caplog.text
    assert "no column for 1 of the run's species: b" in caplog.text
    tables.write_submission(tmp_path / "s.csv", [result()], CARD, GRID, sample)
    assert table(tmp_path / "s.csv") == [
        ["row_id", "c", "new1", "a", "new2"],
        ["r1_10", "0.3", "0.25", "0.8", "0.25"],
        ["r0_5", "0.25", "0.25", "0.25", "0.25"],  # a recording that could not be read
        ["r1_5", "0.2", "0.25", "0.9", "0.25"],
    ]
    assert "1 row got the prior, because these recordings could not be read that far: r0" in caplog.text
    assert "1 row not listed in" in caplog.text  # r1_15 is scored and not asked for


def test_rows_behind_the_end_of_a_truncated_recording_get_the_prior(tmp_path, caplog):
    sample = tables.read_sample(sample_file(tmp_path, rows=("r1_5", "r1_10", "r1_15", "r1_20")), CARD.labels)
    tables.must_fit(sample, GRID)
    tables.write_submission(tmp_path / "s.csv", [result()], CARD, GRID, sample)
    assert table(tmp_path / "s.csv")[-1] == ["r1_20", "0.333333", "0.333333", "0.333333"]
    assert "could not be read that far: r1" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("row_id,x,y\nr1_5,0,0\n", "none of its 2 species is among the 3 of the run"),
        ("id,a,b\nr1_5,0,0\n", r"its columns must be row_id .* begins with \['id', 'a', 'b'\]"),
        ("row_id,a,a\nr1_5,0,0\n", "its columns must be"),
        ("row_id,birds\nr1_5,nocall\n", r"a submission of BirdCLEF 2021 or 2022 \(row_id, birds\); predict\.py writes"),
        ("row_id\nr1_5\n", "its columns must be"),
        ("", "its columns must be"),
        ("row_id,a,b,c\n", "it has no rows"),
        (b"\xff\xfe\x00row", "this is not a CSV table"),
        (None, "no such file"),
    ],
)
def test_a_sample_that_cannot_be_used_is_reported(tmp_path, content, message):
    path = tmp_path / "sample.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        tables.read_sample(path, CARD.labels)


def test_a_sample_saved_by_excel_is_read(tmp_path):
    path = sample_file(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert tables.read_sample(path, CARD.labels).labels == ("a", "b", "c")


def test_recordings_that_the_sample_names_must_be_there(tmp_path):
    sample = tables.read_sample(sample_file(tmp_path, rows=("r1_5", "soundscape_2_5", "soundscape_2_10")), CARD.labels)
    with pytest.raises(DataError, match=r"1 of its 2 recordings are missing from the inputs, .* soundscape_2;"):
        tables.must_have_all(sample, [Path("r1.ogg"), Path("r3.ogg")])
    tables.must_have_all(sample, [Path("r1.ogg"), Path("deep/soundscape_2.ogg")])


@pytest.mark.parametrize("row_id", ["r1_7", "r1_0", "r1_5.0", "r1_", "r1", "r1_nan"])
def test_rows_that_end_where_no_window_does_are_reported_before_scoring(tmp_path, row_id):
    sample = tables.read_sample(sample_file(tmp_path, rows=("r1_5", row_id)), CARD.labels)
    with pytest.raises(DataError, match=f"1 of its 2 rows end where no window ends, the first is {row_id};"):
        tables.must_fit(sample, GRID)


def test_two_recordings_of_one_name_are_an_error():
    with pytest.raises(DataError, match=r"a/r1\.ogg and b/r1\.wav have the same name"):
        tables.must_differ_in_name([Path("a/r1.ogg"), Path("a/r2.ogg"), Path("b/r1.wav")])


# Raven and Audacity


def test_a_raven_table_has_its_columns_and_names(tmp_path):
    lines = tables.raven_table(result(), CARD, DetectionFilter(0.5)).splitlines()
    assert lines[0] == (
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\t"
        "Common Name\tSpecies Code\tConfidence\tBegin Path\tFile Offset (s)"
    )
    path = os.path.abspath("n/r1.ogg")
    assert lines[1:] == [
        # a species without a common name goes by its label
        f"1\tSpectrogram 1\t1\t0.000\t5.000\t40.0\t15000.0\ta\ta\t0.9000\t{path}\t0.000",
        f"2\tSpectrogram 1\t1\t5.000\t10.000\t40.0\t15000.0\ta\ta\t0.8000\t{path}\t5.000",
        f"3\tSpectrogram 1\t1\t10.000\t15.000\t40.0\t15000.0\tBlue Bird\tb\t0.5000\t{path}\t10.000",
    ]


@pytest.mark.parametrize("sample_rate", [8_000, 22_050, 48_000])
def test_no_selection_reaches_above_nyquist(sample_rate):
    text = tables.raven_table(result(sample_rate=sample_rate), CARD, DetectionFilter())
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t"))
    assert {float(row["High Freq (Hz)"]) for row in rows} == {min(15_000, sample_rate / 2)}


def test_a_tab_in_a_name_does_not_shift_the_columns():
    lines = tables.raven_table(result("n/a\tb.ogg"), CARD, DetectionFilter(0.5)).splitlines()
    assert {line.count("\t") for line in lines} == {11}


def test_a_label_with_tabs_and_line_breaks_is_one_line_of_a_label_track():
    card = replace(CARD, labels=("b\tb", "a\na", "c\r\nc"))
    lines = tables.audacity_table(result(), card, DetectionFilter(0.4)).split("\n")
    assert [line.split("\t")[2:] for line in lines] == [["a a"], ["a a"], ["b b"], ["c c"], []]


@pytest.mark.parametrize("name", ["a\rb.wav", "a\nb.wav", "a,b.wav", 'a"b.wav', "a\r"])
def test_whatever_is_in_a_name_is_one_field_of_a_csv(tmp_path, name):
    tables.write_csv(tmp_path / "out.csv", [result(name)], CARD, DetectionFilter(0.85))
    tables.write_submission(tmp_path / "s.csv", [result(name)], CARD, GRID, None)
    for written in (tmp_path / "out.csv", tmp_path / "s.csv"):
        assert written.read_bytes().endswith(b"\n")
        assert b"\r\n" not in written.read_bytes()
    with open(tmp_path / "out.csv", newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["file", name]
    with open(tmp_path / "s.csv", newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["row_id", *(f"{Path(name).stem}_{end}" for end in (5, 10, 15))]


def test_a_raven_table_without_detections_is_its_header():
    assert len(tables.raven_table(result(), CARD, DetectionFilter(0.99)).splitlines()) == 1


def test_an_audacity_label_track():
    assert tables.audacity_table(result(), CARD, DetectionFilter(0.5)) == (
        "0.000000\t5.000000\ta\n5.000000\t10.000000\ta\n10.000000\t15.000000\tb\n"
    )
    assert tables.audacity_table(result(), CARD, DetectionFilter().or_default()).count("\n") == 6  # at least 0.25


def test_one_recording_gives_a_file_and_several_a_folder_where_none_overwrites_another(tmp_path):
    one = [result(tmp_path / "in/a/r.ogg")]
    tables.write_tables(tmp_path / "one.txt", one, CARD, DetectionFilter(), "raven", [one[0].path])
    assert (tmp_path / "one.txt").is_file()
    several = [result(tmp_path / "in" / name) for name in ("a/r.ogg", "b/r.ogg", "b/r.wav", "r.ogg")]
    tables.write_tables(tmp_path / "out", several, CARD, DetectionFilter(), "audacity", [its.path for its in several])
    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.txt"))
    assert written == ["a/r.ogg.labels.txt", "b/r.ogg.labels.txt", "b/r.wav.labels.txt", "r.ogg.labels.txt"]


def test_names_too_long_for_a_file_are_shortened_and_stay_different(tmp_path):
    long = [tmp_path / "in" / ("Ä" * 110 + f"{number}.ogg") for number in range(2)] + [tmp_path / "in/short.ogg"]
    results = [result(path) for path in long]
    tables.write_tables(tmp_path / "out", results, CARD, DetectionFilter(), "raven", long)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert len(written) == 3
    assert "short.ogg.selections.txt" in written
    assert all(name.endswith(".selections.txt") and len(os.fsencode(name)) <= 240 for name in written)


@pytest.mark.parametrize("write", [tables.write_csv, tables.write_submission])
def test_a_table_is_written_completely_or_not_at_all(tmp_path, write):
    (tmp_path / "out").write_text("the one before")

    def results():
        yield result()
        raise OSError("no room")

    rest = (CARD, DetectionFilter()) if write is tables.write_csv else (CARD, GRID, None)
    with pytest.raises(OSError, match="no room"):
        write(tmp_path / "out", results(), *rest)
    assert (tmp_path / "out").read_text() == "the one before"
    assert len(list(tmp_path.iterdir())) == 1


def test_nocall_is_no_species_and_has_no_column(tmp_path):
    card = ModelCard(Model(), ("a", "nocall"), ("Aa", ""), ("A", ""), DataProcess(), "window")
    tables.write_submission(tmp_path / "s.csv", [result(scores=[[0.1, 0.9]])], card, Grid(5.0, 5.0), None)
    assert (tmp_path / "s.csv").read_text() == "row_id,a\nr1_5,0.1\n"
