"""Do pictures and sounds show and play what is in a recording, where it is?"""

import io

import numpy as np
import pytest
import soundfile as sf

from reports import media
from utils.settings import DataProcess

RATE = 32_000  # Hz
LOW_HZ, HIGH_HZ = 1000, 3000


def whistle(path, seconds):
    """Half of it low, half of it high, in some noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * np.where(time < seconds / 2, LOW_HZ, HIGH_HZ) * time)
    sf.write(path, 0.2 * tone + np.random.default_rng(1).normal(0, 0.001, len(time)), RATE)
    return path


def test_low_is_at_the_bottom_and_steady_noise_is_dark():
    from PIL import Image

    db = np.full((8, 100), -60.0, dtype=np.float32)
    db[0] = -20.0  # a steady hum
    db[1, 50:55] = -10.0  # a call above it
    image = np.asarray(Image.open(io.BytesIO(media.png(db))).convert("L"))
    assert image.shape == (8, 100)
    assert np.unravel_index(image.argmax(), image.shape) == (6, 50)
    assert image[7].max() == image.min()


def test_silence_can_be_drawn():
    assert media.png(np.full((8, 1), -100.0, dtype=np.float32)).startswith(b"\x89PNG")


def test_an_mp3_takes_the_room_that_it_is_said_to_take(tmp_path):
    path = tmp_path / "noise.wav"
    sf.write(path, np.random.default_rng(1).normal(0, 0.2, 10 * RATE), RATE)
    assert len(media.mp3(path)) == pytest.approx(10 * media.SOUND_BYTES_S, rel=0.02)


def test_a_bats_call_is_heard_ten_times_lower_and_takes_ten_times_as_long(tmp_path):
    path, rate = tmp_path / "bat.wav", 384_000
    sf.write(path, 0.5 * np.sin(2 * np.pi * 50_000 * np.arange(rate) / rate), rate)
    slower = media.slower(DataProcess(sample_rate=256_000, f_max=120_000.0, f_min=10_000.0))
    sound, sounds_at = sf.read(io.BytesIO(media.mp3(path, 0.25, 0.5, slower=slower)))
    assert len(sound) / sounds_at == pytest.approx(5.0, abs=0.1)
    assert np.abs(np.fft.rfft(sound)).argmax() * sounds_at / len(sound) == pytest.approx(5000, abs=5)


def test_birds_are_played_as_they_sing():
    assert media.slower(DataProcess()) == 1
