"""How are recordings and runs drawn? Functions from arrays to figures; ``python -m utils.visualise`` draws and plays.

The functions return a ``matplotlib.figure.Figure`` and change no global state, so that scripts, tests and notebooks
can use them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.command import explain_os_error, run_command
from utils.errors import DataError
from utils.files import whole

if TYPE_CHECKING:  # the functions that need it import it, because matplotlib takes half a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

COLOURS = "magma"  # perceptually uniform: equal steps in dB look equal, also in print and to the colour-blind
ROUND_HZ = (100, 200, 500, 1000, 2000, 3000, 4000, 5000, 6000, 8000, 10_000, 12_000, 15_000, 20_000, 30_000, 50_000)
CLOCK_FROM_S = 300.0  # a time axis that goes further has minutes and hours on it
TIME_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)  # of its ticks
STANDARDISED = {  # how -> title and unit of the second panel
    "per_frequency": ("standardised per frequency, over {}", "standard deviations of the band"),
    "per_clip": ("standardised as one, over {}", "standard deviations"),
    "none": ("not standardised", "dB re full scale"),
}
LOSSES = {"train_loss": "training", "val_loss": "validation"}
# One colour for each meaning.
CURVE_COLOURS = {"training": "C0", "validation": "C1", "macro AUC": "C2", "top-1": "C3", "cmAP": "C4"}
SCORES = {"val_macro_auc": "macro AUC", "val_top1": "top-1", "val_cmap": "cmAP"}


def draw_recording(
    log_mel: np.ndarray,
    standardised: np.ndarray,
    *,
    frames_per_second: float,
    mel_frequencies: np.ndarray,
    title: str = "",
    standardize: str = "per_frequency",
    over: str = "the recording",
    start_s: float = 0.0,
) -> "Figure":
    """Draw a recording twice, one above the other: in dB, and standardised.

    Args:
        log_mel: ``(n_mels, frames)``, dB re full scale.
        standardised: ``(n_mels, frames)``, the same after standardising.
        mel_frequencies: ``(n_mels,)``, Hz, rising.
        title: usually the recording's name.
        standardize: how it was standardised, as in [data_process].
        over: what it was standardised over, in words.
        start_s: when the first frame is, in seconds from the beginning of the recording.

    Raises:
        ValueError: the shapes do not fit, or there is nothing to draw.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, sharey=True)
    name, unit = STANDARDISED[standardize]
    scales = (frames_per_second, mel_frequencies)
    _draw_panel(above, log_mel, *scales, "log-mel spectrogram", "dB re full scale", start_s)
    _draw_panel(below, standardised, *scales, name.format(over), unit, start_s)
    above.set_xlabel("")  # the lower panel has the same axis
    figure.suptitle(title, parse_math=False)
    return figure


def draw_sheet(
    panels: Sequence[tuple[str, np.ndarray]], *, frames_per_second: float, mel_frequencies: np.ndarray, title: str = ""
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


def draw_history(
    rows: Sequence[Mapping[str, float | None]], *, title: str = "", kept_epoch: int | None = None
) -> "Figure":
    """Draw loss and scores by epoch.

    Args:
        rows: one for each epoch, with the columns of ``metrics.csv``; a value of None is a gap, and a
            column without any value is left out.
        title: usually the run's name.
        kept_epoch: the epoch whose weights are kept, which gets a line.

    Raises:
        ValueError: there is no row.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if not rows:
        raise ValueError("no epochs to draw")
    panels = [(label, _curves(rows, names)) for label, names in (("loss", LOSSES), ("score", SCORES))]
    panels = [panel for panel in panels if panel[1]]  # without a validation subset there are no scores
    figure = Figure(figsize=(6 * len(panels), 4), layout="constrained")
    for axes, (label, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, values in curves.items():  # a mark at each epoch, because a single epoch has no line
            axes.plot([row["epoch"] for row in rows], values, marker=".", label=name, color=CURVE_COLOURS[name])
        if kept_epoch is not None:
            axes.axvline(kept_epoch, color="0.4", linestyle="--", linewidth=1, label=f"kept: epoch {kept_epoch}")
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title, parse_math=False)
    return figure


def _curves(rows: Sequence[Mapping[str, float | None]], names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The columns of ``names`` that have a value, with their names in a picture; None becomes nan, which is a gap."""
    curves = {name: np.array([row.get(column) for row in rows], dtype=float) for column, name in names.items()}
    return {name: values for name, values in curves.items() if not np.isnan(values).all()}


def draw_contest(results: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw the accuracy of recipes against the costs of training and of prediction.

    Args:
        results: a mapping for each recipe, with ``name``, ``macro_auc`` (mean, and its spread or None), ``seconds`` of
            training and ``speed`` of prediction, in x real time; a panel leaves out recipes that lack its values.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(12, 5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    costs = {
        "training, seconds of a run": lambda result: result["seconds"],
        "prediction, seconds per hour of sound": lambda result: result["speed"] and 3600 / result["speed"],
    }
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
        axes.set_xlim(low / 2, high * 2)  # leaves space for names and ticks
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("macro AUC")
    return figure


def save_png(figure: "Figure", path: Path | str) -> None:
    """Write ``figure`` to ``path``, completely or not at all; equal figures give equal bytes.

    Raises:
        DataError: the folder cannot be written to.
    """
    try:
        with whole(path) as temporary:
            figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
    except OSError as error:
        raise DataError(explain_os_error(OSError(error.errno, error.strerror, str(path)))) from None


def _draw_panel(
    axes: "Axes",
    spectrogram: np.ndarray,
    frames_per_second: float,
    mel_frequencies: np.ndarray,
    title: str,
    unit: str,
    start_s: float,
) -> None:
    image = _draw_image(axes, spectrogram, frames_per_second, mel_frequencies, None, start_s)
    axes.set(xlabel=_set_time_ticks(axes), ylabel="Hz (mel-spaced)")
    axes.set_title(title, parse_math=False)  # a name may contain a $
    axes.figure.colorbar(image, ax=axes, label=unit, extend="both", pad=0.01)


def _draw_image(
    axes: "Axes",
    spectrogram: np.ndarray,
    frames_per_second: float,
    mel_frequencies: np.ndarray,
    limits: tuple[float, float] | None,
    start_s: float = 0.0,
) -> "AxesImage":
    """Draw the spectrogram with its ticks; without ``limits`` the colours span its own values."""
    if spectrogram.ndim != 2 or 0 in spectrogram.shape or len(spectrogram) != len(mel_frequencies):
        raise ValueError(f"expected (n_mels, frames) with {len(mel_frequencies)} bands, got shape {spectrogram.shape}")
    n_mels, frames = spectrogram.shape
    low, high = limits or _colour_limits(spectrogram)
    # A band is a row, so the axis is spaced in mel. A frame is centred on its time: half of it is before.
    image = axes.imshow(
        spectrogram,
        origin="lower",
        aspect="auto",
        cmap=COLOURS,
        vmin=low,
        vmax=high,
        extent=(start_s - 0.5 / frames_per_second, start_s + (frames - 0.5) / frames_per_second, -0.5, n_mels - 0.5),
    )
    axes.set_xlim(start_s, start_s + frames / frames_per_second)
    ticks = _round_frequencies(mel_frequencies)
    axes.set_yticks(np.interp(ticks, mel_frequencies, np.arange(n_mels)), [f"{hz:,}".replace(",", " ") for hz in ticks])
    return image


def clock(seconds: float) -> str:
    """A time as on a clock: 65 -> 1:05, 3725.4 -> 1:02:05."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _set_time_ticks(axes: "Axes") -> str:
    """Give a time axis that goes far ticks of round minutes or hours; return the name of its unit."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    first, last = axes.get_xlim()
    if last <= CLOCK_FROM_S:
        return "seconds"
    step = next((step for step in TIME_STEPS_S if (last - first) / step <= 12), TIME_STEPS_S[-1])
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda second, _: clock(second)))
    return "hours:minutes:seconds" if last >= 3600 else "minutes:seconds"


def _colour_limits(spectrogram: np.ndarray) -> tuple[float, float]:
    """Limits of the colours that leave out the floor and a few loud clicks, which would make the rest hard to see."""
    above_floor = spectrogram[spectrogram > spectrogram.min()]
    if not above_floor.size:  # a single value
        return float(spectrogram.min()) - 1, float(spectrogram.max()) + 1
    low, high = np.percentile(above_floor, [5, 99.7])
    return float(low), float(max(high, low + 1))


def _round_frequencies(mel_frequencies: np.ndarray) -> list[int]:
    """Round values in Hz within the bands, far enough from each other for their labels."""
    n_mels = len(mel_frequencies)
    ticks: list[int] = []
    bands: list[float] = []
    for hz in ROUND_HZ:
        band = float(np.interp(hz, mel_frequencies, np.arange(n_mels)))
        if mel_frequencies[0] <= hz <= mel_frequencies[-1] and (not bands or band - bands[-1] >= n_mels / 14):
            ticks.append(hz)
            bands.append(band)
    return ticks


if __name__ == "__main__":
    from training.draw import main

    run_command(main)
