"""What does a model detect in a recording? Draws ``docs/picture.png``: synthetic birds with detections.

    python -m dataloader.demo --output demo
    python train_classifier.py
    python predict.py --run RUN_DIR --input demo/test_soundscapes --output detections.csv --format csv --step-s 1 \
        --merge --threshold 0.3
    python -m docs.picture demo detections.csv [--output PNG] [--seconds 30]

A bar is a detection, with its highest score. The white line below a bar shows when the bird really sang, which is known
only for synthetic birds.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from dataloader.audio.decoding import AudioStream
from dataloader.cache.spectrogram import MelSpectrogram
from utils.command import run_command
from utils.errors import DataError
from utils.settings import DataProcess
from utils.visualise import COLOURS, save_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORDING = "soundscape_1.ogg"
# Okabe and Ito: colour-blind people can distinguish them too.
BARS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#d55e00")
LANE = 11  # mel bands of the lane of a species above the spectrogram


def draw(db: np.ndarray, mel: MelSpectrogram, detections: pd.DataFrame, truth: pd.DataFrame) -> "Figure":
    """Draw a spectrogram and, above it in the same picture, a lane for each of the species heard most clearly.

    Args:
        db: ``(n_mels, frames)``, dB.
        detections: ``start_s``, ``end_s``, ``name`` and ``score`` of each.
        truth: ``start_s``, ``end_s`` and ``name`` of each song.
    """
    from matplotlib.figure import Figure

    seconds, bands = db.shape[1] / mel.frames_per_second, len(db)
    species = detections.groupby("name")["score"].max().sort_values(ascending=False).index[: len(BARS)]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("black")
    limits = {"vmin": np.percentile(db, 30), "vmax": np.percentile(db, 99.8)}
    axes.imshow(db, origin="lower", aspect="auto", cmap=COLOURS, extent=(0, seconds, 0, bands), **limits)
    for lane, (name, colour) in enumerate(zip(species, BARS, strict=False)):
        bottom, free_from_s = bands + 4 + LANE * lane, 0.0
        for _, found in detections[detections["name"] == name].iterrows():
            axes.barh(bottom + 5, min(found.end_s, seconds) - found.start_s, left=found.start_s, height=7, color=colour)
            if found.start_s >= free_from_s:  # else it would cover the one before
                text = f"{found.score:.2f} {name}"
                axes.text(found.start_s + 0.1, bottom + 4.8, text, va="center", fontsize=7, clip_on=True)
            free_from_s = found.end_s
        for _, song in truth[truth["name"] == name].iterrows():
            axes.hlines(bottom, song.start_s, song.end_s, color="white", linewidth=1.5)
    kilohertz = (1, 2, 4, 8)
    axes.set_yticks([np.abs(mel.mel_frequencies - 1000 * one).argmin() for one in kilohertz])
    axes.set_yticklabels([f"{one} kHz" for one in kilohertz])
    axes.set(xlim=(0, seconds), ylim=(0, bands + 4 + LANE * len(species)), xlabel="seconds")
    axes.tick_params(labelsize=8)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("demo", type=Path, help="the folder of synthetic birds")
    parser.add_argument("detections", type=Path, help="the output of predict.py --format csv for demo/test_soundscapes")
    parser.add_argument("--output", type=Path, default=Path("docs/picture.png"))
    parser.add_argument("--seconds", type=float, default=30.0, help="how much of the recording is drawn; default: 30")
    options = parser.parse_args(arguments)
    table = pd.read_csv(options.detections)
    table = table[table["file"].str.endswith(RECORDING) & (table["start_s"] < options.seconds)]
    if table.empty:
        raise DataError(f"{options.detections}: no detection in the first {options.seconds:g} s of {RECORDING}")
    truth = pd.read_csv(options.demo / "soundscape_labels.csv").query("filename == @RECORDING")
    names = pd.read_csv(options.demo / "train_metadata.csv").set_index("primary_label")["common_name"].to_dict()
    table, truth = (rows.assign(name=rows["label"].map(names)) for rows in (table, truth))
    process = DataProcess()
    recording = options.demo / "test_soundscapes" / RECORDING
    waveform = np.concatenate([*AudioStream(recording, process.sample_rate, block_s=None)])
    mel = MelSpectrogram(process)
    db = mel.db(waveform[: round(options.seconds * process.sample_rate)])
    save_png(draw(db, mel, table, truth), options.output)
    with Image.open(options.output) as picture:  # a palette reduces it to a quarter of the size
        picture.convert("RGB").quantize(96).save(options.output, optimize=True)


if __name__ == "__main__":
    run_command(main)
