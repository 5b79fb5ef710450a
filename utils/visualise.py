"""What does a recording, or a run, look like? Arrays become figures; as a command, it draws and plays.

The functions return a ``matplotlib.figure.Figure`` and touch no global state, so that they serve in
a script, a test and a notebook alike.
"""

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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from utils.command import explain_os_error, run_command
from utils.config import Paths, load_config
from utils.errors import DataError
from utils.files import whole
from utils.run_folder import EPOCHS

if TYPE_CHECKING:  # imported by the functions that need it: matplotlib takes half a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

logger = logging.getLogger(__name__)

COLOURS = "magma"  # perceptually uniform: equal steps in dB look equal, also in print and to the colour-blind
ROUND_HZ = (100, 200, 500, 1000, 2000, 3000, 4000, 5000, 6000, 8000, 10_000, 12_000, 15_000, 20_000, 30_000, 50_000)
STANDARDISED = {  # how -> title and unit of the second panel
    "per_frequency": ("standardised per frequency, over the recording", "standard deviations of the band"),
    "per_clip": ("standardised as one, over the recording", "standard deviations"),
    "none": ("not standardised", "dB re full scale"),
}
LONGEST_H = 1.0  # hours of a recording; they take some 2 GB
LOSSES = {"train_loss": "training", "val_loss": "validation"}
SCORES = {"val_macro_auc": "macro AUC", "val_top1": "top-1", "val_cmap": "cmAP"}
PLAYERS = {  # program -> arguments before the file
    "ffplay": ["-nodisp", "-autoexit", "-loglevel", "error"],
    "aplay": ["--quiet"],
    "paplay": [],
    "afplay": [],
}


def draw_recording(
    log_mel: np.ndarray,
    standardised: np.ndarray,
    *,
    frames_per_second: float,
    mel_frequencies: np.ndarray,
    title: str = "",
    standardize: str = "per_frequency",
) -> "Figure":
    """Draw a recording twice, one above the other: as it sounds, and the same standardised.

    Args:
        log_mel: ``(n_mels, frames)``, dB re full scale.
        standardised: ``(n_mels, frames)``, the same after standardisation.
        mel_frequencies: ``(n_mels,)``, Hz, rising.
        title: usually the recording's name.
        standardize: how it was standardised, as in [data_process].

    Raises:
        ValueError: the shapes do not fit, or there is nothing to draw.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, sharey=True)
    _draw_panel(above, log_mel, frames_per_second, mel_frequencies, "log-mel spectrogram", "dB re full scale")
    _draw_panel(below, standardised, frames_per_second, mel_frequencies, *STANDARDISED[standardize])
    above.set_xlabel("")  # it is the same as below
    figure.suptitle(title, parse_math=False)
    return figure


def draw_sheet(
    panels: Sequence[tuple[str, np.ndarray]],
    *,
    frames_per_second: float,
    mel_frequencies: np.ndarray,
    title: str = "",
) -> "Figure":
    """Draw images side by side, four in a row, with the colours of the first.

    Args:
        panels: a title and an image ``(n_mels, frames)`` each, standardised.
        mel_frequencies: ``(n_mels,)``, Hz, rising.

    Raises:
        ValueError: the shapes do not fit, or there is nothing to draw.
    """
    from matplotlib.figure import Figure

    if not panels:
        raise ValueError("no images to draw")
    rows = -(-len(panels) // 4)
    figure = Figure(figsize=(18, 0.8 + 3.2 * rows), layout="constrained")
    grid = figure.subplots(rows, 4, sharex=True, sharey=True, squeeze=False)
    limits = _colour_limits(panels[0][1])
    for axes, (name, image) in zip(grid.flat, panels, strict=False):
        drawn = _draw_image(axes, image, frames_per_second, mel_frequencies, limits)
        axes.set_title(name, parse_math=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    figure.colorbar(drawn, ax=grid, label="as the model sees it", extend="both", pad=0.01, aspect=60)
    figure.supxlabel("seconds")
    figure.supylabel("Hz (mel-spaced)")
    figure.suptitle(title, parse_math=False)
    return figure


def draw_history(rows: Sequence[Mapping[str, float | None]]) -> "Figure":
    """Draw loss and scores by epoch.

    Args:
        rows: one an epoch, with the columns of ``metrics.csv``; a value of None is a gap, and a
            column without any value is left out.

    Raises:
        ValueError: there is no row.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if not rows:
        raise ValueError("no epochs to draw")
    panels = [(label, _curves(rows, names)) for label, names in (("loss", LOSSES), ("score", SCORES))]
    panels = [panel for panel in panels if panel[1]]  # without a validation part there are no scores
    figure = Figure(figsize=(6 * len(panels), 4), layout="constrained")
    for axes, (label, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, values in curves.items():  # a mark at each epoch: one that stands alone has no line
            axes.plot([row["epoch"] for row in rows], values, marker=".", label=name)
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def _curves(rows: Sequence[Mapping[str, float | None]], names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The columns of ``names`` that have a value, by what they are called in a picture; None becomes nan, a gap."""
    curves = {name: np.array([row.get(column) for row in rows], dtype=float) for column, name in names.items()}
    return {name: values for name, values in curves.items() if not np.isnan(values).all()}


def draw_contest(results: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw recipes: how well each does against what it costs, to train and to predict with.

    Args:
        results: one a recipe, with ``name``, ``macro_auc`` (mean, and its spread or None), ``seconds`` of training
            and ``speed`` of prediction, in x real time; a recipe that lacks one of them is left out of that panel.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(12, 5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    costs = {"training, seconds a run": lambda one: one["seconds"], "prediction, seconds an hour of sound": _an_hour}
    for axes, (label, cost_of) in zip(panels, costs.items(), strict=True):
        for number, result in enumerate(results):
            (score, spread), cost = result["macro_auc"], cost_of(result)
            if score is None or not cost:
                continue
            axes.errorbar(cost, score, yerr=spread, fmt="o", capsize=4, color=f"C{number}")
            axes.annotate(
                result["name"], (cost, score), xytext=(7, 5), textcoords="offset points", parse_math=False,
                color=f"C{number}",
            )  # fmt: skip
        axes.set(xscale="log", xlabel=label)
        axes.margins(0.1)
        low, high = axes.get_xlim()
        axes.set_xlim(low / 2, high * 2)  # room for names, and never so near that ticks have no room
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("macro AUC")
    return figure


def save_png(figure: "Figure", path: Path | str) -> None:
    """Write ``figure`` to ``path``, whole or not at all; equal figures give equal bytes.

    Raises:
        DataError: the folder cannot be written to.
    """
    try:
        with whole(path) as temporary:
            figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
    except OSError as error:
        raise DataError(explain_os_error(OSError(error.errno, error.strerror, str(path)))) from None


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
        _save_or_show(draw_history(_epochs_of(drawn)), output)
        return
    player = _find_player() if options.play else None

    # The one place in utils that knows the data loader and its factory: a command, which draws what they make.
    from dataloader.audio.decoding import AudioStream, BadRecording
    from dataloader.cache.spectrogram import MelSpectrogram, standardise

    process = config.data_process
    try:
        stream = AudioStream(drawn, process.sample_rate, block_s=None, strict=False)
        if (hours := stream.info.frames / stream.info.sample_rate / 3600) > LONGEST_H:
            why = f"{hours:.1f} hours, and up to {LONGEST_H:g} are drawn from memory"
            raise DataError(f"{drawn}: {why}; predict.py --report draws longer ones, or cut it")
        waveform = np.concatenate([np.empty(0, np.float32), *stream])
    except BadRecording as error:
        raise DataError(f"{drawn}: {error}") from None
    if stream.problem:  # a bad recording is one that people want to look at
        logger.warning("%s: %s; this is what can be read of it", drawn, stream.problem)
    mel = MelSpectrogram(process)
    log_mel = mel.db(waveform)
    if log_mel.shape[1] < 2:
        raise DataError(f"{drawn}: {len(waveform)} samples are too few to draw")
    scales = {"frames_per_second": mel.frames_per_second, "mel_frequencies": mel.mel_frequencies, "title": drawn.name}
    if options.augmentations:
        from training.contact_sheet import contact_sheet

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


def _save_or_show(figure: "Figure", output: Path | None) -> None:
    if output is None:
        _show(figure)
        return
    save_png(figure, output)
    print(f"picture: {output.absolute()}")


def _an_hour(result: Mapping[str, Any]) -> float | None:
    """Seconds of prediction for an hour of sound."""
    return 3600 / result["speed"] if result["speed"] else None


def _draw_panel(
    axes: "Axes",
    spectrogram: np.ndarray,
    frames_per_second: float,
    mel_frequencies: np.ndarray,
    title: str,
    unit: str,
) -> None:
    image = _draw_image(axes, spectrogram, frames_per_second, mel_frequencies, None)
    axes.set(xlabel="seconds", ylabel="Hz (mel-spaced)")
    axes.set_title(title, parse_math=False)  # a name may hold a $
    axes.figure.colorbar(image, ax=axes, label=unit, extend="both", pad=0.01)


def _draw_image(
    axes: "Axes",
    spectrogram: np.ndarray,
    frames_per_second: float,
    mel_frequencies: np.ndarray,
    limits: tuple[float, float] | None,
) -> "AxesImage":
    """The spectrogram with its ticks; without ``limits`` its colours are those of its own values."""
    if spectrogram.ndim != 2 or 0 in spectrogram.shape or len(spectrogram) != len(mel_frequencies):
        raise ValueError(f"expected (n_mels, frames) with {len(mel_frequencies)} bands, got shape {spectrogram.shape}")
    n_mels, frames = spectrogram.shape
    low, high = limits or _colour_limits(spectrogram)
    # A band is a row, so the axis is spaced in mel. A frame is centred on its time: half of it lies before.
    image = axes.imshow(
        spectrogram,
        origin="lower",
        aspect="auto",
        cmap=COLOURS,
        vmin=low,
        vmax=high,
        extent=(-0.5 / frames_per_second, (frames - 0.5) / frames_per_second, -0.5, n_mels - 0.5),
    )
    axes.set_xlim(0, frames / frames_per_second)
    ticks = _round_frequencies(mel_frequencies)
    axes.set_yticks(np.interp(ticks, mel_frequencies, np.arange(n_mels)), [f"{hz:,}".replace(",", " ") for hz in ticks])
    return image


def _colour_limits(spectrogram: np.ndarray) -> tuple[float, float]:
    """Limits that leave out what would wash out the picture: the floor below, a few clicks above."""
    above_floor = spectrogram[spectrogram > spectrogram.min()]
    if not above_floor.size:  # a single value
        return float(spectrogram.min()) - 1, float(spectrogram.max()) + 1
    low, high = np.percentile(above_floor, [5, 99.7])
    return float(low), float(max(high, low + 1))


def _round_frequencies(mel_frequencies: np.ndarray) -> list[int]:
    """Round Hz values within the bands, far enough apart for their labels."""
    n_mels = len(mel_frequencies)
    ticks: list[int] = []
    bands: list[float] = []
    for hz in ROUND_HZ:
        band = float(np.interp(hz, mel_frequencies, np.arange(n_mels)))
        if mel_frequencies[0] <= hz <= mel_frequencies[-1] and (not bands or band - bands[-1] >= n_mels / 14):
            ticks.append(hz)
            bands.append(band)
    return ticks


def _first_recording(paths: Paths) -> Path:
    """The first recording of the data, or of the demo where there is no data.

    Raises:
        DataError: there is neither.
    """
    for folder in (paths.data_dir, paths.demo_dir):
        if found := sorted((folder / "train_audio").glob("*/[!.]*.*")):  # not what a desktop hides there
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


if __name__ == "__main__":
    run_command(main)
