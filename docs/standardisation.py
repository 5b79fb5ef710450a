"""What does each setting of the standardisation do to a recording? Draws ``docs/standardisation.png``.

    python -m docs.standardisation [--output PNG]

The recording is synthetic, like ten seconds of a recording without high frequencies: above 8 kHz it has only the noise
    of
a lossy codec (a steady hiss that varies by about 1 dB). A bird calls between 2 and 4 kHz, and wind is much louder in
the
second half.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from dataloader.cache.spectrogram import BandStatistics, MelSpectrogram, standardise, standardise_windows
from utils.command import run_command
from utils.files import whole
from utils.settings import DataProcess

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROCESS = DataProcess()
RATE = PROCESS.sample_rate  # Hz
SECONDS, CUT_HZ = 10, 8_000
DEVIATIONS, DECIBELS = (-3.0, 3.0), (-100.0, -20.0)  # the ends of the colours


def recording(seed: int = 1) -> np.ndarray:
    """``(samples,)`` float32, full scale 1."""
    rng = np.random.default_rng(seed)
    time = np.arange(SECONDS * RATE) / RATE
    wind = _noise(rng, lambda hz: (hz < CUT_HZ) / (1 + (hz / 400) ** 1.2))
    wind *= 8e-4 * (1 + 5 * np.clip((time - SECONDS / 2) / 0.2, 0, 1))  # it rises by 16 dB within 0.2 s
    calls = np.zeros_like(time)
    for start in np.arange(0.7, SECONDS, 1.5):
        inside = (time > start) & (time < start + 0.5)
        within = time[inside] - start
        shape = np.sin(np.pi * within / 0.5) ** 2
        calls[inside] = 4e-3 * shape * np.sin(2 * np.pi * (4_000 - 2_000 * within) * within)
    # Noise that repeats with every frame is the same in every frame; a little other noise makes it vary.
    hiss = _noise(rng, lambda hz: hz > CUT_HZ)
    steady = np.resize(_noise(rng, lambda hz: hz > CUT_HZ)[: PROCESS.hop_length], len(time))
    return (wind + calls + 7e-6 * steady + 3e-6 * hiss).astype(np.float32)


def _noise(rng: np.random.Generator, gain) -> np.ndarray:
    """Ten seconds of noise of unit deviation, with the amplitude ``gain(hz)``."""
    spectrum = np.fft.rfft(rng.normal(size=SECONDS * RATE))
    noise = np.fft.irfft(spectrum * gain(np.fft.rfftfreq(SECONDS * RATE, 1 / RATE)))
    return noise / noise.std()


def panels(waveform: np.ndarray) -> list[tuple[str, np.ndarray, tuple[float, float]]]:
    """Title, image ``(n_mels, frames)`` and ends of the colours of each panel, row by row."""

    def image(over: str = "recording", **settings: object) -> np.ndarray:
        process = replace(PROCESS, **settings)
        db = MelSpectrogram(process).db(waveform)
        return _over_windows(db, process) if over == "window" else standardise(db, process)

    return [
        ("standardize = none: decibels", image(standardize="none"), DECIBELS),
        ("floor_db = -75 (and none)", image(standardize="none", floor_db=-75.0), DECIBELS),
        ("standardize = per_clip", image(standardize="per_clip"), DEVIATIONS),
        ("per_frequency, min_deviation_db = 0.1", image(min_deviation_db=0.1), DEVIATIONS),
        ("per_frequency, min_deviation_db = 3, over = recording", image(), DEVIATIONS),
        ("per_frequency, min_deviation_db = 3, over = window", image("window"), DEVIATIONS),
    ]


def _over_windows(db: np.ndarray, process: DataProcess) -> np.ndarray:
    """The windows of the recording one after another, each standardised over itself, as in the input of a model."""
    statistics = BandStatistics()
    statistics.add(db.T)
    scale = torch.from_numpy(statistics.mean_and_scale(process)[1])
    values = torch.from_numpy(standardise(db, process))
    windows = torch.stack(values.chunk(round(SECONDS / process.max_length_s), dim=1))
    return torch.cat(list(standardise_windows(windows, scale.expand(len(windows), -1), process)), dim=1).numpy()


def draw(waveform: np.ndarray) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.6), layout="constrained")
    bands = MelSpectrogram(PROCESS).mel_frequencies
    ticks = (500, 2_000, 4_000, 8_000, 15_000)
    for axes, (title, image, (low, high)) in zip(
        figure.subplots(3, 2, sharex=True, sharey=True).flat, panels(waveform), strict=True
    ):
        drawn = axes.imshow(
            image,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=low,
            vmax=high,
            extent=(0, SECONDS, -0.5, len(bands) - 0.5),
        )
        axes.set_title(title, fontsize=9)
        axes.set_yticks(np.interp(ticks, bands, np.arange(len(bands))), [f"{hz // 100 / 10:g}" for hz in ticks])
        figure.colorbar(drawn, ax=axes, label="dB" if high <= 0 else "deviations", pad=0.01)
        if axes.get_subplotspec().is_last_row():
            axes.set_xlabel("seconds")
        if axes.get_subplotspec().is_first_col():
            axes.set_ylabel("kHz")
    return figure


def save_small(figure: "Figure", path: Path) -> None:
    """Write the picture with few pixels and 32 colours, because it is mostly noise, which PNG cannot compress well."""
    from PIL import Image

    with whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=80)
        with Image.open(temporary) as image:
            small = image.convert("RGB").quantize(32, dither=Image.Dither.NONE)
        small.save(temporary, format="png", optimize=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(prog="python -m docs.standardisation", description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, metavar="PNG", default=Path(__file__).with_suffix(".png"))
    options = parser.parse_args(arguments)
    save_small(draw(recording()), options.output)
    print(f"picture: {options.output.absolute()}")


if __name__ == "__main__":
    run_command(main)
