"""Are level, clipping, silence, bandwidth, offset and gaps of a recording measured right, and the table resumed?"""

import logging
import os

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import soxr

from dataloader.audio import quality_table
from dataloader.audio.quality import Quality, measure
from dataloader.audio.quality_table import measure_recordings, quality_lines

RATE = 32_000


def noise(seconds: float, level: float = 0.1, rate: int = RATE, seed: int = 0) -> np.ndarray:
    return level * np.random.default_rng(seed).standard_normal(round(seconds * rate)).clip(-4, 4)


def quality_of(tmp_path, sound, rate=RATE, name="x.wav", **options) -> Quality:
    sf.write(tmp_path / name, sound, rate, **options)
    return measure(tmp_path / name)


def test_a_sine_has_the_level_of_the_formula(tmp_path):
    sine = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(12 * RATE) / RATE)  # longer than a block
    found = quality_of(tmp_path, sine)
    assert found.peak_dbfs == pytest.approx(20 * np.log10(0.5), abs=0.01)
    assert found.rms_dbfs == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.01)
    assert (found.seconds, found.sample_rate, found.channels, found.problem) == (12, RATE, 1, "")
    assert (found.clipped_share, found.silent_share, found.gaps) == (0, 0, 0)
    assert found.offset == pytest.approx(0, abs=1e-4)


def test_an_offset_is_measured_and_is_no_level(tmp_path):
    found = quality_of(tmp_path, noise(3, 0.01) + 0.05)
    assert found.offset == pytest.approx(0.05, abs=1e-3)
    assert found.rms_dbfs == pytest.approx(-40, abs=0.1)


def test_clipped_samples_are_counted(tmp_path):
    sound = np.clip(3 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE), -1, 1)
    found = quality_of(tmp_path, sound)
    assert found.clipped_share == pytest.approx(np.mean(np.abs(sound) >= 0.999), abs=1e-3)
    assert found.gaps == 0  # a clipped stretch is none


@pytest.mark.parametrize("at_s", [2.0, 9.98, 10.0, 19.995])  # in a block, and across the border of two
@pytest.mark.parametrize("value", [0.0, 0.25])
def test_samples_that_a_recorder_dropped_are_a_gap(tmp_path, at_s, value):
    sound = noise(25)
    sound[round(at_s * RATE) :][: RATE // 50] = value
    found = quality_of(tmp_path, sound)
    assert found.gaps == 1
    assert found.silent_share == pytest.approx(0.02 / 25, rel=0.1)


def test_silence_at_the_ends_is_no_gap(tmp_path):
    sound = noise(25)
    sound[: 12 * RATE] = 0
    sound[-RATE:] = 0
    found = quality_of(tmp_path, sound)
    assert found.gaps == 0
    assert found.silent_share == pytest.approx(13 / 25, abs=1e-3)


def test_digital_silence_is_silent(tmp_path):
    found = quality_of(tmp_path, np.zeros(3 * RATE))
    assert found.silent_share == 1
    assert found.peak_dbfs == found.rms_dbfs == -200
    assert found.problem.startswith("silent")


@pytest.mark.parametrize("low_rate", [8_000, 16_000, 22_050])
@pytest.mark.parametrize("level", [0.1, 0.003])
def test_an_upsampled_recording_is_recognised(tmp_path, low_rate, level):
    up = soxr.resample(noise(5, level, low_rate), low_rate, RATE)
    assert quality_of(tmp_path, up).bandwidth_hz == pytest.approx(low_rate / 2, rel=0.1)


@pytest.mark.parametrize("level", [0.1, 0.003, 1e-4])
def test_a_recording_with_noise_up_to_its_limit_is_not_called_narrow(tmp_path, level):
    pink = np.cumsum(noise(5, level))
    pink -= np.convolve(pink, np.full(999, 1 / 999), mode="same")
    for sound in (noise(5, level), 0.3 * pink / np.abs(pink).max() + noise(5, level, seed=1)):
        assert quality_of(tmp_path, sound).bandwidth_hz == RATE / 2


def test_what_an_mp3_encoder_cut_is_seen(tmp_path):
    options = {"bitrate_mode": "CONSTANT", "compression_level": 0.8}
    found = quality_of(tmp_path, noise(5, rate=44_100), 44_100, "x.mp3", **options)
    assert 19_000 < found.bandwidth_hz < 21_000


def test_a_time_expansion_gives_the_real_rate(tmp_path):
    sf.write(tmp_path / "bat.wav", noise(10, rate=RATE), RATE)
    found = measure(tmp_path / "bat.wav", time_expansion=10.0)
    assert (found.seconds, found.sample_rate, found.bandwidth_hz) == (1.0, 10 * RATE, 5 * RATE)


def test_a_bad_recording_is_measured_as_far_as_it_decodes(tmp_path):
    sf.write(tmp_path / "x.wav", noise(4), RATE)
    content = (tmp_path / "x.wav").read_bytes()
    (tmp_path / "x.wav").write_bytes(content[: len(content) // 2])
    found = measure(tmp_path / "x.wav")
    assert found.problem.startswith("truncated")
    assert found.rms_dbfs == pytest.approx(-20, abs=0.3)
    assert found.seconds == pytest.approx(2, abs=0.01)
    assert measure(tmp_path / "gone.wav").problem == "missing: no such file"


# The table


@pytest.fixture
def table(tmp_path):
    rows = []
    for number in range(6):
        name = f"a/{number}.wav"
        (tmp_path / "a").mkdir(exist_ok=True)
        sf.write(tmp_path / name, noise(0.5, seed=number), RATE)
        rows.append({"filename": name, "path": str(tmp_path / name)})
    return pd.DataFrame(rows)


def measured(table, tmp_path):
    return measure_recordings(table, tmp_path / "quality.csv", n_workers=1, threads=True, backend="local")


def test_a_table_is_written_and_what_is_known_is_not_measured_again(table, tmp_path, monkeypatch):
    first = measured(table, tmp_path)
    assert first["filename"].tolist() == table["filename"].tolist()
    assert pd.read_csv(tmp_path / "quality.csv")["rms_dbfs"].tolist() == pytest.approx([-20] * 6, abs=0.3)
    seen = []
    monkeypatch.setattr(quality_table, "measure", lambda path, **options: seen.append(path) or measure(path, **options))
    pd.testing.assert_frame_equal(measured(table, tmp_path), first)
    assert seen == []
    os.utime(table["path"][2], ns=(1, 1))
    measured(table, tmp_path)
    assert seen == [table["path"][2]]
    measured(table.assign(time_expansion=[1, 1, 1, 10, 1, 1]), tmp_path)
    assert seen[1:] == [table["path"][3]]


def test_an_interrupted_run_goes_on(table, tmp_path, monkeypatch):
    def interrupted(path, **options):
        if path.endswith("4.wav"):
            raise KeyboardInterrupt
        return measure(path, **options)

    monkeypatch.setattr(quality_table, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measured(table, tmp_path)
    seen = []
    monkeypatch.setattr(quality_table, "measure", lambda path, **options: seen.append(path) or measure(path, **options))
    assert len(measured(table, tmp_path)) == 6
    assert 0 < len(seen) < 6


@pytest.mark.parametrize("text", ["", "half a li", "filename,size\n"])
def test_a_damaged_table_is_made_again(table, tmp_path, text):
    (tmp_path / "quality.csv").write_text(text)
    assert len(measured(table, tmp_path)) == 6


def test_what_a_person_should_know_is_a_line_each(table, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert quality_lines(measured(table, tmp_path)) == ["sound: nothing to report of 6 recordings"]
    assert "measuring 6 recordings" in caplog.text
    sf.write(table["path"][0], soxr.resample(noise(2, rate=8_000), 8_000, RATE), RATE)
    sf.write(table["path"][1], np.clip(noise(2, 0.6), -1, 1), RATE)
    (tmp_path / "a/2.wav").write_text("no sound" * 99)
    lines = quality_lines(measured(table, tmp_path))
    why = "as if recorded at a sample rate of 8 kHz, or cut by an encoder"
    assert lines == [
        "sound: not readable, or not to the end: 1 of 6 recordings (a/2.wav)",
        "sound: clipped in more than 0.1% of the samples: 1 of 6 recordings (a/1.wav)",
        f"sound: nothing above 4 kHz, {why}: 1 of 6 recordings (a/0.wav)",
    ]
