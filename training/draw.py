"""What does ``python -m utils.visualise`` draw? A recording, which it can play, its augmentations, or a run."""

import argparse
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dataloader.audio.decoding import AudioStream, BadRecording, audio_info, read_audio
from dataloader.audio.endings import ENDINGS
from dataloader.cache.overview import overview
from dataloader.cache.spectrogram import BandStatistics, MelSpectrogram, standardise
from training.play import find_player, playing
from utils.config import load_config
from utils.errors import DataError
from utils.run_folder import EPOCHS, SUMMARY
from utils.settings import Config, Paths
from utils.visualise import clock, draw_history, draw_recording, draw_sheet, save_png

if TYPE_CHECKING:  # matplotlib takes half a second to import
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

LONGEST_S = 3600.0  # of a stretch that is held in memory, which takes some 2 GB; a longer one is drawn in COLUMNS
COLUMNS = 2000  # of such a picture; each shows the loudest frame of its time


class Stretch(NamedTuple):
    """What of a recording is drawn: ``seconds`` of it, from ``start_s`` on; 0: up to an end that is not known."""

    start_s: float
    seconds: float
    is_whole: bool

    @property
    def title(self) -> str:
        """What follows the name of the recording in a title."""
        if self.is_whole:
            return ""
        end = f"to {clock(self.start_s + self.seconds)}" if self.seconds else "to the end"
        return f", {clock(self.start_s)} {end}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw a recording, and play it if the user wants; or draw the scores of a run.

    Raises:
        DataError: the recording or run does not exist or cannot be read, the output cannot be written, or there is no
            player.
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
        if options.play or options.augmentations or options.start is not None or options.length is not None:
            raise DataError(f"{drawn}: a folder; --play, --augmentations, --start and --length want one sound file")
        figure = draw_history(_epochs_of(drawn), title=drawn.resolve().name, kept_epoch=_kept_epoch(drawn))
        _save_or_show(figure, output)
        return
    player = find_player() if options.play else None
    try:
        stretch = _stretch_of(drawn, options.start, options.length)
        if stretch.seconds > LONGEST_S:
            if options.play or options.augmentations:
                text = f"{drawn}: {clock(stretch.seconds)} is too long to play, or to draw augmentations of"
                raise DataError(f"{text}; choose a stretch of it with --start and --length")
            figure, waveform = _draw_long(drawn, stretch, config), None
        else:
            waveform = _waveform_of(drawn, stretch, config.data_process.sample_rate)
            figure = _draw(drawn, stretch, waveform, config, augmentations=options.augmentations)
    except BadRecording as error:
        raise DataError(f"{drawn}: {error}") from None
    sound = playing(waveform, config.data_process.sample_rate, player) if player else contextlib.nullcontext()
    with sound:
        _save_or_show(figure, output)


def _stretch_of(path: Path, start_s: float | None, length_s: float | None) -> Stretch:
    """What --start and --length choose, cut off where the recording ends.

    Raises:
        BadRecording: it cannot be opened.
        DataError: it ends before.
    """
    info = audio_info(path)
    seconds, begin, is_whole = info.frames / info.sample_rate, start_s or 0.0, start_s is length_s is None
    if not seconds:  # its header does not say how long it is
        return Stretch(begin, length_s or 0.0, is_whole)
    if begin >= seconds:
        raise DataError(f"{path}: it ends at {seconds:g} s, so there is nothing from --start {begin:g} on")
    left = seconds - begin
    return Stretch(begin, min(left, length_s or left), is_whole)


def _waveform_of(path: Path, stretch: Stretch, sample_rate: int) -> np.ndarray:
    """``(samples,)`` of the stretch; of a damaged recording what can be read."""
    if not stretch.is_whole:
        return read_audio(path, sample_rate, start_s=stretch.start_s, duration_s=stretch.seconds or None, strict=False)
    stream = AudioStream(path, sample_rate, block_s=None, strict=False)
    waveform = np.concatenate([np.empty(0, np.float32), *stream])
    if stream.problem:  # a bad recording is worth drawing too
        log.warning("%s: %s; only what can be read is drawn", path, stream.problem)
    return waveform


def _draw(path: Path, stretch: Stretch, waveform: np.ndarray, config: Config, *, augmentations: bool) -> "Figure":
    """The spectrogram, as it sounds and standardised, or what each augmentation makes of it.

    Raises:
        DataError: it is too short.
    """
    process = config.data_process
    mel = MelSpectrogram(process)
    log_mel = mel.db(waveform)
    if log_mel.shape[1] < 2:
        raise DataError(f"{path}: {len(waveform)} samples are too few to draw")
    scales = {"frames_per_second": mel.frames_per_second, "mel_frequencies": mel.mel_frequencies}
    title = path.name + stretch.title
    if augmentations:
        from training.contact_sheet import contact_sheet  # torch's models take seconds to import

        return draw_sheet(contact_sheet(log_mel, config), title=title, **scales)
    return draw_recording(
        log_mel, standardise(log_mel, process), title=title, standardize=process.standardize,
        over="the recording" if stretch.is_whole else "this stretch", start_s=stretch.start_s, **scales,
    )  # fmt: skip


def _draw_long(path: Path, stretch: Stretch, config: Config) -> "Figure":
    """The same of hours, read in constant memory."""
    process, mel, statistics = config.data_process, MelSpectrogram(config.data_process), BandStatistics()
    log_mel = overview(path, mel, stretch.seconds, COLUMNS, start_s=stretch.start_s, statistics=statistics)
    mean, scale = statistics.mean_and_scale(process)
    return draw_recording(
        log_mel, ((log_mel.T - mean) / scale).T, title=path.name + stretch.title, standardize=process.standardize,
        over="the recording" if stretch.is_whole else "this stretch", start_s=stretch.start_s,
        frames_per_second=log_mel.shape[1] / stretch.seconds, mel_frequencies=mel.mel_frequencies,
    )  # fmt: skip


def _epochs_of(run: Path) -> list[dict[str, float | None]]:
    """The rows of a run's ``metrics.jsonl``.

    Raises:
        DataError: it is not a run, or has no epoch yet.
    """
    path = run / EPOCHS
    if not path.is_file():
        raise DataError(f"{run}: it has no {path.name}; name a sound file or a run folder")
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error})") from None
    if not rows:
        raise DataError(f"{path}: the run has not finished an epoch yet")
    return rows


def _kept_epoch(run: Path) -> int | None:
    """The epoch whose weights a finished run has kept."""
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
    """The first recording of the data, or of the demo if there are no data.

    Raises:
        DataError: there are neither data nor a demo.
    """
    for folder in (paths.data_dir, paths.demo_dir):
        files = sorted((folder / "train_audio").glob("*/[!.]*.*"))  # without hidden files of a desktop
        if found := [path for path in files if path.suffix.lower() in ENDINGS]:  # without Thumbs.db
            return found[0]
    raise DataError(
        f"no recordings in {paths.data_dir} or {paths.demo_dir}; name one, or make some with dataloader.demo"
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m utils.visualise",
        description="Draw a recording in dB and standardised, and play it; or draw the scores of a run.",
    )
    parser.add_argument(
        "drawn",
        type=Path,
        nargs="?",
        metavar="RECORDING",
        help="a sound file or a run folder; default: the first recording of the data, or of the demo",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PNG",
        help="the picture to write (default: show a window; without a display <name>.png)",
    )
    parser.add_argument(
        "--augmentations", action="store_true", help="draw the effect of each augmentation and mixture of training"
    )
    parser.add_argument(
        "--start", type=_seconds(0.0), metavar="S", help="draw from this second on (default: from the beginning)"
    )
    parser.add_argument(
        "--length", type=_seconds(0.01), metavar="S", help="draw so many seconds (default: up to the end)"
    )
    parser.add_argument("--play", action="store_true", help="also play the sound")
    parser.add_argument("--config", type=Path, default=Path("config.ini"), help="settings (default: %(default)s)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override a setting; any number of times",
    )
    return parser.parse_args(arguments)


def _seconds(least: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds of at least {least:g}")
        return value

    return number


def _check_output(output: Path) -> None:
    """Report a wrong ``--output`` before an hour of sound is decoded."""
    if output.suffix.lower() != ".png":
        raise DataError(f"{output}: the picture is a PNG; name it {output.stem}.png")
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
