"""Which files of a folder are recordings, and are the others named?"""

import pytest

from dataloader.audio import endings
from dataloader.audio.endings import ENDINGS, sound_files_not_used

WITHOUT_AV = tuple(ending for ending in ENDINGS if ending not in endings._BY_FFMPEG)


def test_what_libsndfile_reads_is_taken_by_its_ending():
    assert {".oga", ".aif", ".aiff", ".caf", ".w64", ".wav", ".flac", ".mp3", ".ogg", ".opus"} <= set(WITHOUT_AV)


def test_with_av_the_recordings_of_telephones_are_taken_too():
    assert {".m4a", ".aac", ".wma", ".3gp", ".webm"} <= set(ENDINGS)
    assert sound_files_not_used(["a.m4a", "b.WMA"]) is None


def test_without_av_they_are_counted_and_named_in_one_line(monkeypatch):
    monkeypatch.setattr(endings, "ENDINGS", WITHOUT_AV)
    names = ["a/1.m4a", "2.M4A", "3.wma", "4.wav", "notes.txt", "._5.m4a"]
    assert sound_files_not_used(names) == (
        "3 sound files are not used (2 .m4a, 1 .wma): install the package av to use them"
    )
    assert sound_files_not_used(["1.m4a"]) == "1 sound file is not used (1 .m4a): install the package av to use them"


def test_what_no_decoder_reads_has_to_be_converted():
    assert sound_files_not_used(["1.wac"]) == (
        "1 sound file is not used (1 .wac): convert .wac and .zc files with the manufacturer's program"
    )
    assert sound_files_not_used(["1.ra"]) == "1 sound file is not used (1 .ra): convert them to FLAC"


@pytest.mark.parametrize("names", [[], ["readme.txt", "table.csv", "a.wav"]])
def test_where_all_is_used_nothing_is_reported(names):
    assert sound_files_not_used(names) is None
