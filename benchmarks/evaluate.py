"""How long does evaluate.py take for a full BirdCLEF table, against scikit-learn without intervals?

    python -m benchmarks.evaluate [--soundscapes 1100] [--classes 182] [--rounds 3]

The tables are synthetic: 48 rows of 5 s for each soundscape and a column for each species, scores in one and labels in
the other. The simple program reads both with pandas and computes scikit-learn's ROC-AUC of each class once, without
intervals, average precision, precision, recall and false alarms. The two take turns.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.startup import seconds
from utils.arguments import at_least
from utils.command import run_command

GOAL_S = 10.0  # on two cores
ROWS = 48  # of a soundscape of 4 minutes
PLAIN = """
import sys, pandas as pd
from sklearn.metrics import roc_auc_score
scores, labels = (pd.read_csv(path, index_col="row_id") for path in sys.argv[1:])
present = [name for name in labels if labels[name].sum()]
print(sum(roc_auc_score(labels[name], scores[name]) for name in present) / len(present))
"""


def make_tables(folder: Path, soundscapes: int, classes: int) -> tuple[Path, Path]:
    """Write ``submission.csv`` and ``labels.csv``: rare and common species, each in some soundscapes."""
    rng, labels = np.random.default_rng(1), [f"species{number:03d}" for number in range(classes)]
    rows = [f"soundscape_{one}_{5 * (row + 1)}" for one in range(soundscapes) for row in range(ROWS)]
    lives_there = rng.random((soundscapes, classes)) < rng.beta(0.5, 10.0, classes)
    present = np.repeat(lives_there, ROWS, axis=0) & (rng.random((len(rows), classes)) < 0.4)
    scores = 1 / (1 + np.exp(-rng.normal(4.0 * present - 4.0, 1.5)))
    paths = folder / "submission.csv", folder / "labels.csv"
    for path, values in zip(paths, (scores.astype(np.float32), present.astype(int)), strict=True):
        pd.DataFrame(values, pd.Index(rows, name="row_id"), labels).to_csv(path)
    return paths


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--soundscapes", type=at_least(1), default=1100)
    parser.add_argument("--classes", type=at_least(1), default=182)
    parser.add_argument("--rounds", type=at_least(1), default=3)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        scores, labels = make_tables(Path(folder), options.soundscapes, options.classes)
        evaluate = [sys.executable, "evaluate.py", "--predictions", str(scores), "--labels", str(labels)]
        simple = [sys.executable, "-c", PLAIN, str(scores), str(labels)]
        pairs = [(seconds(simple), seconds(evaluate)) for _ in range(options.rounds)]
    without, taken = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(ours / plain for plain, ours in pairs)
    print(f"{options.soundscapes * ROWS:,} rows x {options.classes} species")
    print(f"scikit-learn, AUC alone   {without:6.2f} s")
    print(f"evaluate.py               {taken:6.2f} s    goal: at most {GOAL_S:g} s")
    print(f"ratio                     {ratio:6.2f}")


if __name__ == "__main__":
    run_command(main)
