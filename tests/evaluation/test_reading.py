"""Is a table of any tool read as it is meant, and is every mistake in it reported in one line?"""

import numpy as np
import pytest

from evaluation.reading import Wide, read_table, stem_of
from utils.errors import DataError


@pytest.mark.parametrize("text", ["", "\n", " \nrow_id,a\n"])
def test_an_empty_file_is_named(write, text):
    with pytest.raises(DataError, match=r"table\.csv: it is empty, or begins with an empty line"):
        read_table(write(text))


def test_stems_know_both_slashes_and_keep_dots_that_are_no_ending():
    assert [stem_of(name) for name in ("a/b.ogg", "C:\\x\\b.WAV", "b", "rec_07.05")] == ["b", "b", "b", "rec_07.05"]


def test_a_wide_table_of_recordings_has_no_times(write):
    wide = read_table(write("filename,a,b\nx/1.ogg,0.5,0.25\n"))
    assert isinstance(wide, Wide)
    assert wide.stems() == ["1"]
    assert np.isnan(wide.ends()).all()
