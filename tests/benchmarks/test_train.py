"""Does the benchmark of training read what training reads?"""

import numpy as np
import pandas as pd

from benchmarks.train import compare_reading
from dataloader.cache import Footer, write_entry
from dataloader.data_preprocess import make_windows
from dataloader.dataset import WindowDataset
from utils.config import DataProcess


def test_reading_is_compared_on_the_same_windows(tmp_path, capsys):
    entry = tmp_path / "0.npy"
    statistics = np.ones(8, np.float32)
    write_entry(
        entry, [np.ones((640, 8), np.float16)], (8, 640), statistics, statistics, Footer(b"x" * 16, 1, 1, 1, 640, 0)
    )
    row = {"entry": str(entry), "frames": 640, "filename": "0.ogg", "labels": ("a",)}
    metadata, process = pd.DataFrame([row]), DataProcess(n_mels=8, max_length_s=0.5)
    compare_reading(WindowDataset(metadata, make_windows(metadata, process), ["a"], process))
    assert "reading 64 windows at random" in capsys.readouterr().out
