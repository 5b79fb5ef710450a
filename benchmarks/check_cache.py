"""How long does it take to find that a complete cache of 24,459 recordings (BirdCLEF 2024) is complete?

    python -m benchmarks.check_cache [--recordings N] [--rounds N] [--folder DIR]

Recordings and cache entries are synthetic and tiny, but real files on the disk, and the cache's own code writes the
entries. Each round is a new process. It looks up every file once (os.scandir and stat, the bound) and then calls
``AudioPreprocessor.prepare``; imports are not counted. The files have just been written, so the system has their names
in memory, as on a second start.
"""

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dataloader.audio.verdicts import reader
from dataloader.cache import entries as cache
from dataloader.data_preprocess import AudioPreprocessor
from utils.arguments import at_least
from utils.command import run_command
from utils.settings import Data, DataProcess

ROOT = Path(__file__).parents[1]
PROCESS = DataProcess()
CLASSES = 182
GOAL_S = 5.0
FRAMES = 2  # of an entry, the smallest number allowed
SECONDS = FRAMES * PROCESS.hop_length / PROCESS.sample_rate


def preprocessor(folder: Path) -> AudioPreprocessor:
    data = Data(output_dir=folder / "cache", hash_path=folder / "last_key", min_recording_s=SECONDS / 2)
    return AudioPreprocessor(PROCESS, data)


def make(folder: Path, n: int) -> None:
    """Write ``n`` recordings, their cache entries, the index and their table into ``folder``."""
    target = preprocessor(folder).folder
    statistics_of_bands = np.zeros(PROCESS.n_mels, np.float32), np.ones(PROCESS.n_mels, np.float32)
    block, records, rows = np.zeros((FRAMES, PROCESS.n_mels), np.float16), {}, []
    for number in range(n):
        label = f"species{number % CLASSES:03d}"
        filename = f"{label}/XC{number:06d}.ogg"
        path = folder / "train_audio" / filename
        for parent in (path.parent, target / label):
            parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"OggS" + number.to_bytes(4, "little"))
        stat, digest = path.stat(), hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
        # Lengths differ, as those of real recordings do: equal ones would all be taken for duplicates.
        length = FRAMES * PROCESS.hop_length + number % 997
        footer = cache.Footer(digest, stat.st_size, length, PROCESS.sample_rate, FRAMES, 0)
        shape = PROCESS.n_mels, FRAMES
        cache.write_entry(cache.entry_path(target, filename), [block], shape, *statistics_of_bands, footer)
        records[filename] = cache.Record(
            filename, stat.st_size, stat.st_mtime_ns, digest.hex(), PROCESS.sample_rate, length, FRAMES, reader=reader()
        )
        rows.append((filename, str(path), label, f"recordist {number % 2000}"))
    cache.write_index(target, records)
    table = pd.DataFrame(rows, columns=["filename", "path", "primary_label", "author"])
    table.sort_values("filename").to_csv(folder / "table.csv", index=False)


def look_up_everything(folder: Path) -> int:
    """Look up size and time of every file below ``folder``; return how many there are."""
    found = 0
    for entry in os.scandir(folder):
        found += look_up_everything(Path(entry.path)) if entry.is_dir() else bool(entry.stat())
    return found


def measure(folder: Path) -> tuple[float, float]:
    """Seconds of the bound and of ``prepare``, in this process."""
    table = pd.read_csv(folder / "table.csv")
    table["labels"] = [(label,) for label in table["primary_label"]]
    table["group"] = table["author"]
    started = time.perf_counter()
    for name in ("train_audio", "cache"):
        look_up_everything(folder / name)
    bound = time.perf_counter() - started
    started = time.perf_counter()
    good = preprocessor(folder).prepare(table)
    taken = time.perf_counter() - started
    assert len(good) == len(table), "the cache was not complete"
    return bound, taken


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recordings", type=at_least(1), default=24_459)
    parser.add_argument("--rounds", type=at_least(1), default=5)
    parser.add_argument("--folder", type=Path, help="where to make them (default: the system's temporary folder)")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # one round, in a process of its own
    options = parser.parse_args(arguments)
    if options.measure:
        print(*measure(options.measure))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        make(Path(folder), options.recordings)
        line = [sys.executable, "-m", "benchmarks.check_cache", "--measure", folder]
        outputs = [
            subprocess.run(line, cwd=ROOT, check=True, capture_output=True, text=True).stdout
            for _ in range(options.rounds)
        ]
    bound, taken = (statistics.median(times) for times in zip(*(map(float, o.split()) for o in outputs), strict=True))
    print(f"{options.recordings} recordings, {options.rounds} rounds, medians")
    print(f"  looking up every file only   {bound:6.2f} s")
    print(f"  checking the cache           {taken:6.2f} s   goal: at most {GOAL_S:g} s")
    print(f"  ratio                        {taken / bound:6.2f}")


if __name__ == "__main__":
    run_command(main)
