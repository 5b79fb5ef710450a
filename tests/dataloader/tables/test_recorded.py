"""Do time, site, device and time expansion reach the table, and does --check --audio measure its recordings?"""

import logging
import struct

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from dataloader.metadata import QUALITY, load_table, main
from utils.config import load_config

GUANO = b"GUANO|Version: 1.0\nTimestamp: 2020-05-01T21:30:00+02:00\nMake: Titley\nTE: 10\n"


@pytest.fixture
def folder(tmp_path):
    """Two folders of species: a bat of a detector, and birds."""
    for number, name in enumerate(("bat/1.wav", "bird/MARSH_20210502_040000.wav", "bird/XC7.ogg")):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, 0.1 * np.random.default_rng(number).standard_normal(16_000), 16_000)
    with open(tmp_path / "data/bat/1.wav", "ab") as file:
        file.write(b"guan" + struct.pack("<I", len(GUANO)) + GUANO)
    return tmp_path


def config_of(folder, *lines):
    paths = f"[paths]\ndata_dir = {folder}/data\n[data]\noutput_dir = {folder}/cache\nmulti_threading = true\n"
    (folder / "config.ini").write_text(paths + "\n".join(lines))
    return folder / "config.ini"


def rows_of(folder, *lines):
    return load_table(load_config(config_of(folder, *lines))).set_index("filename")


def test_what_recorders_wrote_is_in_the_table(folder, caplog):
    caplog.set_level(logging.INFO)
    rows = rows_of(folder)
    columns = ["recorded_at", "site", "device", "time_expansion"]
    assert rows.loc["bat/1.wav", columns].tolist() == ["2020-05-01T21:30:00+02:00", "", "Titley", 10.0]
    marsh = rows.loc["bird/MARSH_20210502_040000.wav", columns]
    assert marsh.tolist() == ["2021-05-02T04:00:00", "MARSH", "", 1.0]
    assert rows.loc["bird/XC7.ogg", columns].tolist() == ["", "", "", 1.0]
    assert "1 recording states that it plays slower than the original sound" in caplog.text
    assert "2021-05-02T04:00:00" in (folder / "cache/understood.csv").read_text()


def test_a_setting_and_a_column_go_before_what_the_file_states(folder):
    assert rows_of(folder, "time_expansion = 8")["time_expansion"].tolist() == [8.0, 8.0, 8.0]
    table = pd.DataFrame({"filename": ["bat/1.wav", "bird/XC7.ogg"], "label": ["bat", "bird"]})
    table.assign(time_expansion=["1", ""], site=["cave", ""]).to_csv(folder / "data/own.csv", index=False)
    rows = rows_of(folder, "layout = table")
    assert rows["time_expansion"].tolist() == [1.0, 1.0]
    assert rows["site"].tolist() == ["cave", ""]


def test_the_command_measures_each_recording_once(folder, capsys):
    arguments = ["--check", "--audio", "--config", str(config_of(folder))]
    for _ in range(2):
        assert main(arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "sound: nothing to report of 3 recordings" in lines
        assert lines[-1] == f"measured: {folder}/cache/{QUALITY}"
    table = pd.read_csv(folder / "cache" / QUALITY, index_col="filename")
    assert table.loc["bat/1.wav", "sample_rate"] == 160_000
    assert table["rms_dbfs"].to_numpy() == pytest.approx(-20, abs=1.0)


def test_sound_files_that_are_not_used_are_counted(folder, caplog):
    (folder / "data/bird/2.wac").write_bytes(b"")
    rows_of(folder)
    assert "1 sound file is not used (1 .wac)" in caplog.text
