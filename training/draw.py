"""The command ``python -m utils.visualise``: draw a recording, play it, draw its augmentations, or draw a run."""

import argparse
import contextlib
import importlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from dataloader.audio.decoding import ENDINGS, AudioStream, BadRecording
from dataloader.cache.spectrogram import MelSpectrogram, standardise
from utils.config import Paths, load_config
from utils.errors import DataError
from utils.run_folder import EPOCHS, SUMMARY
from utils.visualise import draw_history, draw_recording, draw_sheet, save_png

if TYPE_CHECKING:  # matplotlib takes half a second to import
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

LONGEST_H = 1.0  # hours of a recording; they take some 2 GB
PLAYERS = {  # program -> arguments before the file
    "ffplay": ["-nodisp", "-autoexit", "-loglevel", "error"],
    "aplay": ["--quiet"],
    "paplay": [],
    "afplay": [],
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw a recording, and play it if asked to; or how a run went.

    Raises:
        DataError: there is no such recording or run, it cannot be read, there is nowhere to write or
            nothing to play with.
        ConfigError: the settings are wrong.
    """
    options = _options(arguments)
    config = load_config(options.config, options.set)
    drawn = options.drawn or _first_recording(config.paths)
    if not drawn.exists():
        raise DataError(f"{drawn}: no such recording; name one sound file")
    output = options.output or (None if _has_display() else Path(f"{drawn.resolve().stem}.png"))
    if output:
        _check_output(output)
    if drawn.is_dir():
        if options.play or options.augmentations:
            raise DataError(f"{drawn}: a folder; --play and --augmentations want one sound file")
        _save_or_show(
            draw_history(_epochs_of(drawn), title=drawn.resolve().name, kept_epoch=_kept_epoch(drawn)), output
        )
        return
    player = _find_player() if options.play else None

    process = config.data_process
    try:
        stream = AudioStream(drawn, process.sample_rate, block_s=None, strict=False)
        if (hours := stream.info.frames / stream.info.sample_rate / 3600) > LONGEST_H:
            why = f"{hours:.1f} hours, and up to {LONGEST_H:g} are drawn from memory"
            raise DataError(f"{drawn}: {why}; predict.py --report draws longer ones, or cut it")
        waveform = np.concatenate([np.empty(0, np.float32), *stream])
    except BadRecording as error:
        raise DataError(f"{drawn}: {error}") from None
    if stream.problem:  # a bad recording is one that people want to see
        log.warning("%s: %s; this is what can be read of it", drawn, stream.problem)
    mel = MelSpectrogram(process)
    log_mel = mel.db(waveform)
    if log_mel.shape[1] < 2:
        raise DataError(f"{drawn}: {len(waveform)} samples are too few to draw")
    scales = {"frames_per_second": mel.frames_per_second, "mel_frequencies": mel.mel_frequencies, "title": drawn.name}
    if options.augmentations:
        from training.contact_sheet import contact_sheet  # torch's models take seconds to import

        figure = draw_sheet(contact_sheet(log_mel, config), **scales)
    else:
        standardised = standardise(log_mel, process)
        figure = draw_recording(log_mel, standardised, standardize=process.standardize, **scales)
    with _playing(waveform, process.sample_rate, player) if player else contextlib.nullcontext():
        _save_or_show(figure, output)


def _epochs_of(run: Path) -> list[dict[str, float | None]]:
    """The rows of a run's ``metrics.jsonl``.

    Raises:
        DataError: it is no run, or has no epoch yet.
    """
    path = run / EPOCHS
    if not path.is_file():
        raise DataError(f"{run}: no {path.name} is there; name a sound file, or the folder of a run")
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error})") from None
    if not rows:
        raise DataError(f"{path}: the run has finished no epoch yet")
    return rows


def _kept_epoch(run: Path) -> int | None:
    """The epoch whose weights a finished run keeps."""
    try:
        return json.loads((run / SUMMARY).read_text(encoding="utf-8")).get("best_epoch")
    except (FileNotFoundError, ValueError):  # not finished, or damaged
        return None


def _save_or_show(figure: "Figure", output: Path | None) -> None:
    if output is None:
        _show(figure)
        return
    save_png(figure, output)
    print(f"picture: {output.absolute()}")


def _first_recording(paths: Paths) -> Path:
    """The first recording of the data, or of the demo where there is no data.

    Raises:
        DataError: there is neither.
    """
    for folder in (paths.data_dir, paths.demo_dir):
        files = sorted((folder / "train_audio").glob("*/[!.]*.*"))  # not what a desktop hides there
        if found := [path for path in files if path.suffix.lower() in ENDINGS]:  # not Thumbs.db
            return found[0]
    raise DataError(
        f"no recordings in {paths.data_dir} or {paths.demo_dir}: name one, or make some with dataloader.demo"
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m utils.visualise",
        description="Draw a recording, and the same standardised; play it. Or draw how a run went.",
    )
    parser.add_argument(
        "drawn",
        type=Path,
        nargs="?",
        metavar="RECORDING",
        help="a sound file, or the folder of a run; default: the first recording of the data, or of the demo",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PNG",
        help="where to draw (default: a window; without a display <name>.png)",
    )
    parser.add_argument(
        "--augmentations", action="store_true", help="draw what each change and mixture of training makes of it instead"
    )
    parser.add_argument("--play", action="store_true", help="play the sound as well")
    parser.add_argument("--config", type=Path, default=Path("config.ini"), help="settings (default: %(default)s)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override a setting; any number of times",
    )
    return parser.parse_args(arguments)


def _check_output(output: Path) -> None:
    """Complain about a wrong ``--output`` before an hour of sound is decoded."""
    if output.suffix.lower() != ".png":
        raise DataError(f"{output}: the picture is a PNG; call it {output.stem}.png")
    if not output.parent.is_dir():
        raise DataError(f"{output.parent}: no such folder; make it, or choose another --output")


def _has_display() -> bool:
    """Whether matplotlib can open a window here."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    from matplotlib import pyplot
    from matplotlib.backends import BackendFilter, backend_registry

    return pyplot.get_backend().lower() in backend_registry.list_builtin(BackendFilter.INTERACTIVE)


def _show(figure: "Figure") -> None:
    """Show ``figure`` in a window until it is closed."""
    from matplotlib import pyplot

    pyplot.figure(figure)
    pyplot.show()


def _find_player() -> str:
    """What can play a sound here: ``sounddevice`` or a program of PLAYERS.

    Raises:
        DataError: nothing can.
    """
    with contextlib.suppress(ImportError, OSError):  # OSError: the package is there, its library PortAudio is not
        importlib.import_module("sounddevice")
        return "sounddevice"
    for program in PLAYERS:
        if shutil.which(program):
            return program
    raise DataError(
        f"--play: nothing here plays sound; pip install sounddevice, or install one of {', '.join(PLAYERS)}"
    )


@contextlib.contextmanager
def _playing(waveform: np.ndarray, sample_rate: int, player: str) -> Iterator[None]:
    """Play while the body runs, and wait for the end of the sound after it.

    Args:
        waveform: ``(samples,)``, float32, full scale 1.
        sample_rate: Hz.

    Raises:
        DataError: the player failed, as where there is no sound card.
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
        path = Path(folder) / "recording.wav"  # the one format that all of them know
        soundfile.write(path, waveform, sample_rate, subtype="PCM_16")  # which clips what is louder than full scale
        process = subprocess.Popen([player, *PLAYERS[player], str(path)], stderr=subprocess.PIPE, text=True)
        try:
            yield
            _, complaints = process.communicate()
        finally:
            process.kill()
    if process.returncode:
        last = complaints.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        raise DataError(f"--play: {player}: {last[0]}")
