"""Recordings, and a preprocessor for them, for the tests of the cache."""

import os
import signal
import threading
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from tqdm import tqdm

from dataloader.cache import prepare as entry
from dataloader.data_preprocess import AudioPreprocessor
from utils.settings import Data, DataProcess

RATE = 8_000
PROCESS = DataProcess(sample_rate=RATE, n_mels=16, n_fft=256, hop_length=125, f_max=3_900.0, max_length_s=1.0)


def song(seconds, seed, rate=RATE):
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * rng.uniform(300, 3000) * time) + rng.normal(0, 0.05, len(time))).astype(np.float32)


def write(path, samples, rate=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, rate, **options)
    return path


def table_of(folder):
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
    labels = [Path(name).parts[0] for name in names]
    return pd.DataFrame(
        {
            "filename": names,
            "path": [str(folder / name) for name in names],
            "primary_label": labels,
            "labels": [(label,) for label in labels],
            "secondary_labels": [()] * len(names),
            "group": names,
            "author": "",
        }
    )


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "audio"
    for number in range(6):
        write(folder / f"{'ab'[number % 2]}/XC{number}.ogg", song(1.5 + 0.3 * number, number))
    return folder


def preprocessor(tmp_path, process=PROCESS, name="cache", **settings):
    data = Data(output_dir=tmp_path / name, hash_path=tmp_path / name / "last_key")
    return AudioPreprocessor(
        process, replace(data, **({"num_workers": 1, "multi_threading": True, "max_bad_share": 1.0} | settings))
    )


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def decoded(monkeypatch):
    """The recordings that are decoded, as they are."""
    seen = []
    original = entry.AudioStream

    def note(path, *arguments, **options):
        seen.append(Path(path).name)
        return original(path, *arguments, **options)

    monkeypatch.setattr(entry, "AudioStream", note)
    return seen


def forked(work, seconds=None):
    child = os.fork()
    if child == 0:
        tqdm.set_lock(threading.RLock())  # its own is shared with us, who would wait for the dead
        if seconds is not None:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends it at once, also within a C library
            signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            work()
        except BaseException:  # the child must not continue with the tests of its parent, which gets the exit code
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child
