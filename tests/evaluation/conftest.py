"""Tables of scores that the tests of this room share."""

import numpy as np
import pytest

from evaluation.table import ScoreTable


@pytest.fixture
def make_table():
    """Scores of a model that hears better the higher ``skill``; recordings of one class each, of 5 windows."""

    def make(n_recordings=60, n_classes=5, *, skill=3.0, temperature=1.0, seed=0, windows=5, per_group=2, nocall=0):
        rng = np.random.default_rng(seed)
        its = rng.integers(0, n_classes, n_recordings)
        its[:nocall] = -1
        recording = np.repeat(np.arange(n_recordings), windows)
        targets = (its[recording][:, None] == np.arange(n_classes)).astype(np.int8)
        logits = skill * (targets - 0.5) + rng.normal(size=targets.shape)  # of two normals: it means skill * logit
        scores = 1 / (1 + np.exp(-(skill * logits - np.log(n_classes - 1)) * temperature))
        return ScoreTable(
            labels=tuple(f"bird{number}" for number in range(n_classes)),
            scores=scores.astype(np.float32),
            targets=targets,
            recordings=tuple(f"r{number}.ogg" for number in range(n_recordings)),
            recording=recording,
            group=tuple(f"g{number // per_group}" for number in range(n_recordings)),
            seconds=np.full(len(recording), 5.0),
            timed=False,
            source="made",
        )

    return make


@pytest.fixture
def write(tmp_path):
    """Write a table; return its path."""

    def write(text, name="table.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write
