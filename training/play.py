"""How is a recording played? By the package sounddevice, or by a program of this machine."""

import contextlib
import importlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from utils.errors import DataError

PLAYERS = {  # program -> arguments before the file
    "ffplay": ["-nodisp", "-autoexit", "-loglevel", "error"],
    "aplay": ["--quiet"],
    "paplay": [],
    "afplay": [],
}


def find_player() -> str:
    """The player of this machine: ``sounddevice`` or a program of PLAYERS.

    Raises:
        DataError: there is none.
    """
    with contextlib.suppress(ImportError, OSError):  # OSError: the package is installed, but not its library PortAudio
        importlib.import_module("sounddevice")
        return "sounddevice"
    for program in PLAYERS:
        if shutil.which(program):
            return program
    raise DataError(f"--play: no player was found; pip install sounddevice, or install one of {', '.join(PLAYERS)}")


@contextlib.contextmanager
def playing(waveform: np.ndarray, sample_rate: int, player: str) -> Iterator[None]:
    """Play while the block runs, and then wait for the end of the sound.

    Args:
        waveform: ``(samples,)``, float32, full scale 1.
        sample_rate: Hz.

    Raises:
        DataError: the player failed, for instance because there is no sound card.
    """
    if player == "sounddevice":
        sounddevice = importlib.import_module("sounddevice")
        try:
            sounddevice.play(waveform, sample_rate)
            yield
            sounddevice.wait()
        except sounddevice.PortAudioError as error:
            raise DataError(f"--play: {' '.join(str(error).split())}") from None
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording.wav"  # the format that all players know
        soundfile.write(path, waveform, sample_rate, subtype="PCM_16")  # this clips what is above full scale
        process = subprocess.Popen([player, *PLAYERS[player], str(path)], stderr=subprocess.PIPE, text=True)
        try:
            yield
            _, complaints = process.communicate()
        finally:
            process.kill()
    if process.returncode:
        last = complaints.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        raise DataError(f"--play: {player}: {last[0]}")
