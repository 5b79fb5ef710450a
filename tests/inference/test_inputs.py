"""Which recordings do files, folders and patterns name?"""

import errno
import os

import pytest

from inference.inputs import find_recordings
from utils.errors import DataError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.ogg", "a.wav", "deep/er/c.FLAC", "deep/d.mp3", "notes.txt", ".hidden.wav", ".cache/e.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def names(found, folder):
    return [os.path.relpath(path, folder) for path in found]


def test_a_folder_gives_all_recordings_below_it_sorted(folder):
    assert names(find_recordings([folder]), folder) == ["a.wav", "b.ogg", "deep/d.mp3", "deep/er/c.FLAC"]


def test_a_pattern_gives_what_it_matches(folder):
    assert names(find_recordings([f"{folder}/*.ogg"]), folder) == ["b.ogg"]
    assert names(find_recordings([f"{folder}/**/*.mp3"]), folder) == ["deep/d.mp3"]
    assert names(find_recordings([f"{folder}/d*"]), folder) == ["deep/d.mp3", "deep/er/c.FLAC"]  # as of the shell


def test_an_empty_name_is_not_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(DataError, match="an input is empty"):
        find_recordings([""])


def test_a_file_is_taken_whatever_its_ending_and_each_once(folder, caplog):
    os.symlink(folder / "b.ogg", folder / "again.ogg")
    found = find_recordings([folder / "notes.txt", folder / "b.ogg", folder, folder / "a.wav"])
    assert names(found, folder) == ["notes.txt", "b.ogg", "a.wav", "deep/d.mp3", "deep/er/c.FLAC"]
    # In a submission its rows are missing.
    assert caplog.messages == [
        "1 link leads to a recording that is already there under another name; left out: again.ogg ..."
    ]


def test_linked_folders_are_read_once_and_links_that_lead_back_end(folder, tmp_path_factory):
    disk = tmp_path_factory.mktemp("disk")
    (disk / "f.wav").write_bytes(b"")
    (disk / "home").symlink_to(folder)
    for name in ("card", "same_card", "deep/card"):
        (folder / name).symlink_to(disk)
    expected = ["a.wav", "b.ogg", "card/f.wav", "deep/d.mp3", "deep/er/c.FLAC"]
    assert names(find_recordings([folder]), folder) == expected


def test_a_link_that_leads_nowhere_is_a_recording_that_is_reported(folder):
    (folder / "gone.wav").symlink_to(folder / "unmounted/gone.wav")
    (folder / "gone.txt").symlink_to(folder / "unmounted/gone.txt")
    assert "gone.wav" in names(find_recordings([folder]), folder)
    assert "gone.txt" not in names(find_recordings([folder]), folder)
    assert names(find_recordings([f"{folder}/g*.wav"]), folder) == ["gone.wav"]


def test_a_folder_that_cannot_be_read_is_reported_not_ignored(folder, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "deep":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="deep: Permission denied; make it readable"):
        find_recordings([folder])


def test_brackets_in_a_name_are_no_pattern(folder):
    (folder / "site[1].wav").write_bytes(b"")
    assert names(find_recordings([folder / "site[1].wav"]), folder) == ["site[1].wav"]


@pytest.mark.parametrize(
    ("name", "message"), [("nowhere", "no such file or folder"), ("*.aiff", "no recording"), (".cache", "")]
)
def test_what_names_no_recording_is_reported(folder, name, message):
    if name == ".cache":  # asked for by name, what is hidden is meant
        assert names(find_recordings([folder / name]), folder) == [".cache/e.wav"]
        return
    with pytest.raises(DataError, match=message):
        find_recordings([folder, folder / name])


def test_a_folder_without_recordings_is_reported(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError, match="there is no recording in it"):
        find_recordings([tmp_path])


def test_sound_files_that_no_decoder_reads_are_counted_in_one_line(folder, caplog):
    for name in ("1.wac", "deep/2.wac", "deep/.3.wac"):
        (folder / name).write_bytes(b"")
    find_recordings([folder])
    line = "2 sound files are not used (2 .wac): convert .wac and .zc files with the manufacturer's program"
    assert caplog.messages == [line]
    with pytest.raises(DataError, match=r"there is no recording in it \(2 sound files are not used"):
        find_recordings([f"{folder}/**/*.wac"])
