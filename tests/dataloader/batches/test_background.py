"""Are background recordings read like others, up to the minutes that are set, and are bad ones reported?"""

import logging

import numpy as np
import pytest
import soundfile as sf
import torch

from dataloader.batches.background import background_files, load_background
from dataloader.cache.spectrogram import MelSpectrogram
from factory.choices import check_choices
from utils.config import load_config
from utils.errors import ConfigError, DataError
from utils.settings import DataProcess

PROCESS = DataProcess()
RATE = PROCESS.sample_rate


@pytest.fixture
def folder(tmp_path):
    """Two good recordings, one in a folder of its own, a bad one and something else."""
    rng = np.random.default_rng(1)
    (tmp_path / "rain").mkdir()
    for name, seconds in (("rain/a.flac", 2), ("wind.wav", 3)):
        sf.write(tmp_path / name, 0.1 * rng.standard_normal(seconds * RATE), RATE, subtype="PCM_16")
    (tmp_path / "broken.ogg").write_bytes(b"no sound")
    (tmp_path / "readme.txt").write_text("wind and rain")
    return tmp_path


def test_they_follow_one_another_in_decibels_and_bad_ones_are_reported(folder, caplog):
    assert [path.name for path in background_files(folder)] == ["broken.ogg", "a.flac", "wind.wav"]
    whole = load_background(folder, PROCESS, 60.0)
    assert whole.dtype == torch.float16
    assert whole.shape == (5 * 64, 128)
    rain = MelSpectrogram(PROCESS).db(sf.read(folder / "rain/a.flac", dtype="float32")[0])
    np.testing.assert_allclose(whole[:128].float().numpy().T, rain, atol=0.05)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "broken.ogg: left out of the background: unreadable" in warning


def test_no_more_is_kept_than_the_minutes_asked_for(folder, caplog):
    caplog.set_level(logging.INFO)
    assert len(load_background(folder, PROCESS, 1.5 / 60)) == 96
    assert "background_minutes = 0.025 is reached" in caplog.text
    assert len(load_background(folder, PROCESS, 3.0 / 60)) == 192  # the second file gives what the first leaves


def test_what_is_scored_is_not_used_as_background(folder, caplog):
    (folder / "link.wav").symlink_to(folder / "wind.wav")
    (folder / "rain/WIND.WAV").write_bytes((folder / "rain/a.flac").read_bytes())  # whatever its case
    way = folder / "rain/../wind.wav"
    whole = load_background(
        folder, PROCESS, 60.0, held_out=[str(way), "elsewhere/a.flac", str(folder / "rain/WIND.WAV")]
    )
    assert len(whole) == 2 * 64
    assert "3 recordings left out of the background, because val or test contains them" in caplog.text


def test_where_none_can_be_used_it_is_an_error_of_one_line(tmp_path):
    (tmp_path / "broken.ogg").write_bytes(b"no sound")
    with pytest.raises(DataError, match="no recording in it can be used"):
        load_background(tmp_path, PROCESS, 60.0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", r"background_dir = '': empty; background_p above 0 needs a folder of recordings"),
        ("background_dir = gone", r"background_dir = 'gone': no such folder; or set background_p to 0"),
        ("background_dir = .", r"background_dir = '.': has no sound files \(.*.flac, .*.wav.*\)"),
    ],
)
def test_a_missing_or_empty_folder_is_reported_before_anything_is_done(tmp_path, text, complaint):
    path = tmp_path / "config.ini"
    path.write_text(f"[augmentation]\nbackground_p = 0.5\n{text}\n")
    with pytest.raises(ConfigError, match=complaint) as error:
        load_config(path, check_choices=check_choices)
    assert "\n" not in str(error.value)
    path.write_text(f"[augmentation]\nbackground_p = 0.5\ndata_augmentation = false\n{text}\n")
    load_config(path, check_choices=check_choices)
