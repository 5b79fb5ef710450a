"""Are scores and labels of different tables matched by row and class, and is every mistake reported in one line?"""

import numpy as np
import pytest

from evaluation.matching import match, truth_of
from evaluation.reading import Long, read_table
from utils.errors import DataError

LABELS = "row_id,asbfly,comgre\nnight_1_5,1,0\nnight_1_10,0,0\nnight_2_5,0,1\nnight_2_10,1,1\n"
SCORES = "row_id,asbfly,comgre\nnight_1_5,0.9,0.1\nnight_1_10,0.2,0.3\nnight_2_5,0.4,0.8\nnight_2_10,0.7,0.6\n"
RAVEN = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tCommon Name\tSpecies Code\t"
    "Confidence\tBegin Path\tFile Offset (s)\n"
)


@pytest.fixture
def truth(write):
    return truth_of(read_table(write(LABELS, "labels.csv")))


def test_a_submission_is_matched_by_row_and_column_in_any_order(write, truth):
    table, remarks = match(truth, read_table(write(SCORES)))
    assert remarks == []
    assert table.labels == ("asbfly", "comgre")
    assert table.recordings == ("night_1", "night_2")
    assert table.seconds.tolist() == [5.0] * 4
    assert table.timed
    header, *rows = SCORES.splitlines()
    turned = [",".join([cells.split(",")[index] for index in (0, 2, 1)]) for cells in (header, *reversed(rows))]
    other, _ = match(truth, read_table(write("\n".join(turned))))
    np.testing.assert_array_equal(other.scores, table.scores)


def test_semicolons_and_the_file_column_of_birdnet_analyzer_are_read(write, truth):
    table, _ = match(truth, read_table(write(SCORES.replace(",", ";"))))
    np.testing.assert_array_equal(table.scores, match(truth, read_table(write(SCORES)))[0].scores)
    found = read_table(write("filepath,start,end,common_name,confidence\n/x/night_1.wav,0,3,asbfly,0.9\n"))
    assert match(truth, found)[0].scores[0].tolist() == pytest.approx([0.9, 0.0])


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("0.9", "nan", r"line 2: asbfly of night_1_5 is nan, not a finite number"),
        ("0.9", "", r"line 2: asbfly of night_1_5 is nan, not a finite number"),
        ("0.9", "high", r"line 2: asbfly of night_1_5 is 'high', not a number"),
        ("0.9", "0.9,0.1", r"line 2: 4 cells, but the header has 3"),
        ("0.9", "3.5", r"the score of asbfly in night_1 is 3.5; scores are between 0 and 1"),
        ("night_1_10,0.2,0.3\n", "", r"1 row of .*labels.csv is missing, the first is night_1_10"),
        ("night_1_10,0.2,0.3\n", "", "every row needs a score"),
        ("night_2_10", "night_2_15", r"1 row of .* is missing, the first is night_2_10"),
        ("night_2_10,0.7,0.6", "night_2_10,0.7,0.6\nnight_2_15,0.7,0.6", r"1 row is not in .* night_2_15 \(that "
         r"recording ends at 10 s\); remove it"),
        ("night_1_10", "night_1_5", r"row_id night_1_5 is there twice"),
        ("comgre", "comgra", r"no column for 1 class, the first is comgre"),
        ("comgre\n", "comgre,comgra\n", r"line 2: 3 cells, but the header has 4"),
        ("comgre", "asbfly", r"column 'asbfly' is there twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_submission_is_reported(write, truth, before, after, message):
    with pytest.raises(DataError, match=message):
        match(truth, read_table(write(SCORES.replace(before, after, 1))))


def test_a_foreign_column_is_an_error(write, truth):
    lines = SCORES.splitlines()
    wider = "\n".join([lines[0] + ",comgra", *(line + ",0.5" for line in lines[1:])])
    with pytest.raises(
        DataError, match=r"column 'comgra' is not a class of .*: unknown; did you mean 'comgre'\?; remove it"
    ):
        match(truth, read_table(write(wider)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LABELS.replace("1,1", "1,2"), "comgre of night_2_10 is 2; labels are 0 or 1"),
        (LABELS.replace("night_1_5", "night"), r"row_id 'night' must be <recording>_<end second>"),
        ("row_id,asbfly\n", "it has no rows"),
        ("a,b\n1,2\n", "it is neither a table of row_id"),
        ("asbfly\n1\n", "it is neither a table of row_id"),
    ],
)
def test_what_is_wrong_with_a_table_of_labels_is_reported(write, text, message):
    with pytest.raises(DataError, match=message):
        truth_of(read_table(write(text)))


def test_detections_give_the_rows_that_they_overlap_by_half(write, truth):
    csv = write(
        "file,start_s,end_s,label,score\n"
        "a/night_1.ogg,0,3,asbfly,0.9\na/night_1.ogg,3,6,asbfly,0.5\na/night_1.ogg,3,6,comgre,0.25\n"
        "b/night_2.wav,0,10,comgre,0.75\nb/night_2.wav,9,12,asbfly,0.125\n"
    )
    found = read_table(csv)
    assert isinstance(found, Long)
    table, remarks = match(truth, found)
    # 3 to 6 s overlaps the first row by 2 of 3 s, the second by 1; 9 to 12 s no row by half.
    np.testing.assert_allclose(table.scores, [[0.9, 0.25], [0, 0], [0, 0.75], [0, 0.75]])
    assert "a score of 0" in remarks[-1]


def test_raven_tables_of_a_folder_are_one_table_and_their_names_may_name_the_recording(write, truth, tmp_path):
    row = "1\tSpectrogram 1\t1\t{}\t{}\t100\t9000\t{}\t{}\t{}\t{}\t{}\n"
    folder = tmp_path / "tables"
    folder.mkdir()
    # Opened as one by Raven: the time in the file is the File Offset.
    (folder / "night_1.BirdNET.selection.table.txt").write_text(
        RAVEN + row.format(100, 105, "Asian Flycatcher", "asbfly", 0.75, "C:\\night\\night_1.wav", 5)
    )
    without = RAVEN.replace("\tBegin Path\tFile Offset (s)", "")
    (folder / "night_2.Table.1.selections.txt").write_text(
        without + "1\tSpectrogram 1\t1\t0\t5\t100\t9000\tGreat Owl\tcomgre\t0.5\n"
    )
    (folder / "empty.txt").write_text(RAVEN)
    table, remarks = match(truth, read_table(folder))
    np.testing.assert_allclose(table.scores, [[0, 0], [0.75, 0], [0, 0.5], [0, 0]])
    assert len(remarks) == 1


def test_other_species_are_left_out_with_a_remark_and_a_foreign_recording_is_an_error(write, truth):
    head = "file,start_s,end_s,label,score\n"
    table, remarks = match(truth, read_table(write(head + "night_1.ogg,0,5,asbfly,1\nnight_1.ogg,0,5,robin,1\n")))
    assert table.scores[0].tolist() == [1, 0]
    assert remarks[0] == "1 detection of other species left out: robin"
    assert remarks[1] == "1 class never detected: comgre"
    with pytest.raises(DataError, match="night_3 is not a recording of"):
        match(truth, read_table(write(head + "night_3.ogg,0,5,asbfly,1\n")))
    with pytest.raises(DataError, match="no detection has a class of"):
        match(truth, read_table(write(head + "night_1.ogg,0,5,robin,1\n")))
    with pytest.raises(DataError, match="begins at 10 s, after the end of the recording at 10 s"):
        match(truth, read_table(write(head + "night_1.ogg,10,15,asbfly,1\n")))
    with pytest.raises(DataError, match="line 2: it begins at 5 s but ends at 3 s"):
        read_table(write(head + "night_1.ogg,5,3,asbfly,1\n"))
    with pytest.raises(DataError, match="line 2: score is 'x', not a finite number"):
        read_table(write(head + "night_1.ogg,3,5,asbfly,x\n"))


def test_a_row_is_as_long_as_the_steps_between_rows(write):
    assert truth_of(read_table(write("row_id,a\nx_3,1\nx_6,0\n"))).start_s.tolist() == [0, 3]
    assert truth_of(read_table(write("row_id,a\nx_4,1\ny_4,0\n"))).start_s.tolist() == [0, 0]


def test_tables_of_a_folder_may_name_species_in_different_columns(write, truth, tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "a.csv").write_text("file,start_s,end_s,label,score\nnight_1.ogg,0,5,asbfly,0.5\n")
    (folder / "b.csv").write_text("file,start_s,end_s,label,species,score\nnight_2.ogg,0,5,comgre,Owl,0.75\n")
    table, _ = match(truth, read_table(folder))
    np.testing.assert_allclose(table.scores, [[0.5, 0], [0, 0], [0, 0.75], [0, 0]])
