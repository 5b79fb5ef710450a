"""Does the benchmark of training read what training reads?"""

import numpy as np
import pandas as pd

from benchmarks.train import compare_reading, read_plainly
from dataloader.batches.dataset import WindowDataset
from dataloader.batches.windows import make_windows
from dataloader.cache.entries import Footer, write_entry
from utils.settings import DataProcess


def test_reading_is_compared_on_the_same_windows(tmp_path, capsys):
    entry = tmp_path / "0.npy"
    statistics = np.ones(8, np.float32)
    array = np.random.default_rng(1).normal(size=(640, 8)).astype(np.float16)
    write_entry(entry, [array], (8, 640), statistics, statistics, Footer(b"x" * 16, 1, 1, 1, 640, 0))
    row = {"entry": str(entry), "frames": 640, "filename": "0.ogg", "labels": ("a",)}
    metadata, process = pd.DataFrame([row]), DataProcess(n_mels=8, max_length_s=0.5)
    dataset = WindowDataset(metadata, make_windows(metadata, process), ["a"], process)
    drawn = [(3, 0.0), (0, 0.0), (19, 0.0)]
    np.testing.assert_array_equal(read_plainly(dataset, drawn), dataset[drawn].windows.numpy())
    compare_reading(dataset)
    assert "reading 64 windows at random" in capsys.readouterr().out
