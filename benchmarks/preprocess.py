"""How fast is preparing recordings, compared with decoding alone and with librosa?

    python -m benchmarks.preprocess [--recordings N] [--rounds N]

In one run, these take turns on the same recordings (BIRDS_DIR, else ../shared/birds, else a demo): decoding alone
(soundfile, one thread); librosa, one process; this program (ours) with one worker and with two. The slope is the time
for four times the recordings minus the time for these once, so that the start of the pool does not count. Figures are
medians, as multiples of real time.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # before numpy is imported, so that a worker has one thread

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile as sf
import torch

from benchmarks.birds import recordings
from dataloader.cache.entries import Record
from dataloader.cache.prepare import Job, Spectrograms, prepare
from dataloader.cache.workers import run_jobs
from utils.arguments import at_least
from utils.command import run_command
from utils.settings import DataProcess

PROCESS = DataProcess()


def decode(paths: Sequence[str]) -> None:
    for path in paths:
        sf.read(path, dtype="float32")


def librosa_way(paths: Sequence[str], folder: Path) -> None:
    import librosa

    p = PROCESS
    for number, path in enumerate(paths):
        wave, _ = librosa.load(path, sr=p.sample_rate)
        mel = librosa.feature.melspectrogram(
            y=wave, sr=p.sample_rate, n_fft=p.n_fft, hop_length=p.hop_length,
            n_mels=p.n_mels, fmin=p.f_min, fmax=p.f_max,
        )  # fmt: skip
        db = librosa.power_to_db(mel, amin=1e-10, top_db=None)
        image = (db - db.mean(axis=1, keepdims=True)) / np.maximum(db.std(axis=1, keepdims=True), p.min_deviation_db)
        np.save(folder / f"{number}.npy", image.astype(np.float16))


class Work:
    """What a worker does; a class, because a function within a function cannot be sent to another process."""

    def __init__(self, folder: Path):
        self.folder, self.stage = folder, Spectrograms(PROCESS).ready()

    def __call__(self, job: Job) -> Record:
        return prepare(job, self.folder, self.stage)


def ours(paths: Sequence[str], folder: Path, n_workers: int, times: int = 1) -> None:
    jobs = [Job(f"{time}/{number}.ogg", path) for time in range(times) for number, path in enumerate(paths)]
    # One worker is a thread here, because the start of a process takes seconds, which are not measured.
    settings = {"n_workers": n_workers, "threads": n_workers == 1, "backend": "local"}
    results = run_jobs(Work(folder), jobs, **settings, died=lambda job: None)
    assert not [record for record in results if record.reason]


def seconds(work: Callable[..., None], paths: Sequence[str], *arguments: object) -> float:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        work(paths, *([] if work is decode else [Path(folder)]), *arguments)
        return time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recordings", type=at_least(1), default=120)
    parser.add_argument("--rounds", type=at_least(1), default=3)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    paths = recordings(options.recordings)
    audio = sum(sf.info(path).duration for path in paths)
    ways = {
        "decoding alone": lambda: seconds(decode, paths),
        "librosa, one process": lambda: seconds(librosa_way, paths),
        "ours, one worker": lambda: seconds(ours, paths, 1),
        "ours, one worker, 4 x": lambda: seconds(ours, paths, 1, 4),
        "ours, two workers": lambda: seconds(ours, paths, 2),
        "ours, two workers, 4 x": lambda: seconds(ours, paths, 2, 4),
    }
    for name in ("decoding alone", "librosa, one process", "ours, one worker"):
        ways[name]()  # imports, page cache
    rounds = [{name: work() for name, work in ways.items()} for _ in range(options.rounds)]
    times = {name: statistics.median(one[name] for one in rounds) for name in ways}
    slopes = {n: times[f"ours, {n}, 4 x"] - times[f"ours, {n}"] for n in ("one worker", "two workers")}

    print(f"{len(paths)} recordings, {audio / 60:.1f} minutes, {options.rounds} rounds, medians")
    for name, taken in times.items():
        print(f"  {name:<24}{audio * (4 if name.endswith('4 x') else 1) / taken:8.0f} x real time")
    for name, taken in slopes.items():
        print(f"  slope, {name:<17}{3 * audio / taken:8.0f} x real time")
    ratios = [
        ("one worker / decoding alone", times["decoding alone"] / times["ours, one worker"], 0.70),
        ("two workers / one, in the slope", slopes["one worker"] / slopes["two workers"], 1.65),
        ("two workers (slope) / librosa, one process", 3 * times["librosa, one process"] / slopes["two workers"], 3.0),
    ]
    for name, ratio, goal in ratios:
        print(f"  {name:<38}{ratio:6.2f}   goal: at least {goal:.2f}")


if __name__ == "__main__":
    run_command(main)
