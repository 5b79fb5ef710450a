"""What the tests of the steps of a run share."""

import numpy as np
import pandas as pd
import pytest

from dataloader.cache.entries import Footer, write_entry


@pytest.fixture
def metadata(tmp_path):
    """In each split recordings of 10 s: 8 of a, with b in the background, and 2 of b."""
    rows = []
    for number in range(30):
        path = tmp_path / f"{number}.npy"
        array = np.random.default_rng(number).normal(size=(640, 8)).astype(np.float16)
        footer = Footer(b"x" * 16, 1, 1, 1, 640, 0)
        write_entry(path, [array], (8, 640), np.full(8, -50.0 + number), np.full(8, 5.0), footer)
        label, split = "ab"[number % 10 > 7], ("train", "val", "test")[number // 10]
        rows.append((f"{label}/{number}.ogg", str(path), 640, (label,), ("b",) if label == "a" else (), split))
    columns = ["filename", "entry", "frames", "labels", "secondary_labels", "split"]
    return pd.DataFrame(rows, columns=columns).assign(
        group=[str(row) for row in range(30)], primary_label="a", digest=[f"{row:032x}" for row in range(30)]
    )
