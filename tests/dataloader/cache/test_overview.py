"""Does the picture of a long recording show what is in it, where it is?"""

import numpy as np
import pytest
import soundfile as sf

from dataloader.cache.overview import narrowed, overview
from dataloader.cache.spectrogram import BandStatistics, MelSpectrogram
from utils.settings import DataProcess

RATE = 32_000  # Hz
HIGH_HZ = 3000


def test_a_short_call_in_a_long_recording_is_seen_where_it_is(tmp_path):
    mel = MelSpectrogram(DataProcess())
    night = np.random.default_rng(1).normal(0, 0.001, 60 * RATE)
    call = np.arange(43 * RATE, 43 * RATE + RATE // 20)  # 50 ms
    night[call] += 0.2 * np.sin(2 * np.pi * HIGH_HZ * call / RATE)
    sf.write(tmp_path / "night.wav", night, RATE)
    picture = overview(tmp_path / "night.wav", mel, 60.0, 30)
    whole = mel.db(sf.read(tmp_path / "night.wav", dtype="float32")[0])
    np.testing.assert_allclose(picture, whole.reshape(128, 30, -1).max(axis=2), atol=1e-3)
    band, column = np.unravel_index(picture.argmax(), picture.shape)
    assert column == 43 // 2
    assert mel.mel_frequencies[band] == pytest.approx(HIGH_HZ, rel=0.03)


def test_a_recording_shorter_than_the_picture_has_a_column_a_frame(tmp_path):
    mel = MelSpectrogram(DataProcess())
    path = tmp_path / "a.wav"
    sf.write(path, np.random.default_rng(1).normal(0, 0.1, 2 * RATE), RATE)
    np.testing.assert_allclose(overview(path, mel, 2.0, 1200), mel.db(sf.read(path, dtype="float32")[0]))


def test_a_stretch_equals_the_same_frames_of_the_recording(tmp_path):
    mel, path = MelSpectrogram(DataProcess()), tmp_path / "a.wav"
    sf.write(path, np.random.default_rng(1).normal(0, 0.1, 40 * RATE), RATE)
    whole, statistics = mel.db(sf.read(path, dtype="float32")[0]), BandStatistics()
    picture = overview(path, mel, 20.0, 10, start_s=15.0, statistics=statistics)
    frames = whole[:, 15 * 64 : 35 * 64]
    np.testing.assert_allclose(picture[:, :-1], frames.reshape(128, 10, -1).max(axis=2)[:, :-1], atol=1e-3)
    assert statistics.count == 20 * 64
    mean, scale = statistics.mean_and_scale(mel.process)
    np.testing.assert_allclose(mean, frames.mean(axis=1), atol=0.05)
    np.testing.assert_allclose(scale, np.maximum(frames.std(axis=1), 3.0), atol=0.05)


def test_a_narrower_picture_shows_the_loudest_of_the_columns_that_each_replaces():
    db = np.random.default_rng(1).normal(size=(8, 100))
    np.testing.assert_array_equal(narrowed(db, 20), db.reshape(8, 20, 5).max(axis=2))
    assert narrowed(db, 200) is db
