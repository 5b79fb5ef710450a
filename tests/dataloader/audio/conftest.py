"""Recordings in every format, and the check of what is reported about them."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from dataloader.audio.containers import examine
from dataloader.audio.decoding import AudioStream, BadRecording

RATE = 32_000
FORMATS = {
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "flac": ("FLAC", "PCM_16"),
    "wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def whole_or_reason(path):
    """What the bytes of a file show to be wrong with it, without decoding; None if nothing."""
    try:
        fault = examine(path).fault
    except BadRecording as bad:
        return bad
    return BadRecording(*fault) if fault else None


def kind_of(path: Path) -> str:
    return path.name.split(".", 1)[1]


def rate_of(kind: str) -> int:
    return 48_000 if kind == "opus" else RATE  # Opus knows few rates


def song(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """A warbling tone in noise, ``(samples,)`` or ``(samples, channels)``."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal((len(time), channels))
    sound = 0.3 * np.sin(2 * np.pi * (1000 + 100 * np.sin(5 * time)) * time)[:, None] + 0.05 * noise
    return sound.astype(np.float32).squeeze(axis=1) if channels == 1 else sound.astype(np.float32)


def write(path: Path, sound: np.ndarray, rate: int | None = None) -> Path:
    """Write in blocks of a second: libsndfile crashes on long writes of Vorbis."""
    rate = rate or rate_of(kind_of(path))
    container, coding = FORMATS[kind_of(path)]
    channels = 1 if sound.ndim == 1 else sound.shape[1]
    with sf.SoundFile(path, "w", rate, channels, coding, format=container) as file:
        for start in range(0, len(sound), rate):
            file.write(sound[start : start + rate])
    return path


@pytest.fixture(scope="module")
def ogg(tmp_path_factory) -> Path:
    """Twelve seconds of Vorbis; not to be changed."""
    return write(tmp_path_factory.mktemp("ogg") / "song.ogg", song(12))


def damaged(path: Path, folder: Path, content: bytes) -> Path:
    bad = folder / path.name
    bad.write_bytes(content)
    return bad


def problem_of(path: Path, sample_rate: int = RATE, **options) -> BadRecording | None:
    """What a lenient reader finds; the strict one must raise the same."""
    stream = AudioStream(path, sample_rate, 1.0, strict=False, **options)
    list(stream)
    if stream.problem is None:
        list(AudioStream(path, sample_rate, 1.0, **options))
    else:
        with pytest.raises(BadRecording, match=stream.problem.reason):
            list(AudioStream(path, sample_rate, 1.0, **options))
    return stream.problem
