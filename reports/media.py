"""How does a recording fit into a page? As a small picture and a small sound, in formats that every browser has."""

import functools
import io
from pathlib import Path

import numpy as np
import soundfile as sf

from dataloader.audio.decoding import AudioStream, read_audio
from dataloader.cache.spectrogram import MelSpectrogram
from utils.settings import DataProcess
from utils.visualise import COLOURS

SOUND_BYTES_S = 7_000  # bytes a second of sound: 56 kbit/s, which keeps what is below 15 kHz
_SOUND_RATE = 32_000  # Hz; an MP3 may have this rate, and it is enough for birds
_COMPRESSION = 0.9  # libsndfile's value for 56 kbit/s at that rate; it refuses 1.0
_HEARD_HZ = 22_050.0  # people hear up to about 20 kHz; music goes up to here
_TIME_EXPANSION = 10  # the usual factor of bat detectors
_BLOCK_S = 10.0  # seconds decoded at once
_LEVELS = 32  # colours of a picture: fewer compress better, and the eye cannot distinguish more
_DEEPEST_DB = 70.0  # below the loudest a codec's silence flickers
_RANGE_DB = 20.0  # from the darkest to the brightest colour, at least: quiet noise stays dark


def slower(process: DataProcess) -> int:
    """How many times slower sounds are played, so that people hear what the model gets: 1, or 10 for bats."""
    return _TIME_EXPANSION if process.f_max > _HEARD_HZ else 1


def excerpt(
    path: Path, mel: MelSpectrogram, start_s: float, duration_s: float, *, time_expansion: float = 1.0
) -> np.ndarray:
    """The spectrogram of a span, ``(n_mels, frames)``, dB, at least one frame."""
    how = {"start_s": start_s, "duration_s": duration_s, "strict": False, "time_expansion": time_expansion}
    waveform = read_audio(path, mel.process.sample_rate, **how)
    least = max(0, mel.process.hop_length - len(waveform))
    return mel.db(np.pad(waveform, (0, least)))


def png(db: np.ndarray) -> bytes:
    """A spectrogram as a PNG picture: low frequencies are at the bottom, and each value is one pixel.

    The median of each band is subtracted, so steady noise becomes dark and what changes stays, as in a model's input.

    Args:
        db: ``(n_mels, columns)``.
    """
    from PIL import Image  # matplotlib's own writer cannot write a palette, and a palette takes a quarter of the bytes

    db = np.maximum(db, db.max() - _DEEPEST_DB)
    relative = db - np.median(db, axis=1, keepdims=True)
    highest = max(float(np.percentile(relative, 99.7)), _RANGE_DB)
    levels = np.clip(relative / highest * _LEVELS, 0, _LEVELS - 1).astype(np.uint8)
    image = Image.fromarray(levels[::-1])
    image.putpalette(_palette())
    memory = io.BytesIO()
    image.save(memory, "PNG", optimize=True)
    return memory.getvalue()


def mp3(
    path: Path, start_s: float = 0.0, duration_s: float | None = None, *, slower: int = 1, time_expansion: float = 1.0
) -> bytes:
    """A recording, or a span of it, as a mono MP3; it takes ``slower`` times as long as the recording.

    MP3, because it is small and every browser plays it: many versions of Safari cannot play Ogg, and FLAC and WAV take
    ten times the bytes. The bit rate is constant, so that a player can jump to an exact second.

    Raises:
        BadRecording: it cannot be read (any more).
    """
    how = {"strict": False, "time_expansion": time_expansion}
    if duration_s is None:
        blocks = AudioStream(path, _SOUND_RATE * slower, _BLOCK_S, **how)
    else:
        blocks = [read_audio(path, _SOUND_RATE * slower, start_s=start_s, duration_s=duration_s, **how)]
    memory = io.BytesIO()
    form = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT", "compression_level": _COMPRESSION}
    with sf.SoundFile(memory, "w", _SOUND_RATE, 1, **form) as file:
        for block in blocks:
            file.write(np.clip(block, -1.0, 1.0))
    return memory.getvalue()


@functools.cache
def _palette() -> bytes:
    from matplotlib import colormaps

    return (colormaps[COLOURS](np.linspace(0, 1, _LEVELS))[:, :3] * 255).astype(np.uint8).tobytes()
