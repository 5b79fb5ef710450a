"""How many wrong labels are at the top of the list of recordings to listen to again?

    python -m benchmarks.label_errors --data ../shared/birds --config configs/birdnet.ini [--share 0.05] [--folds 5]
                                      [--draws 10] [--output runs/label_errors] [--set section.key=value ...]

The labels of a share of the recordings are replaced by those of other species, drawn by a seed. A recipe is trained on
them in folds, so that no recording is scored by a run that learned its label. Then the list on the page of these runs
(doubts.csv) is read. The output is the share of the wrong labels in its first tenth, for each draw and over all draws,
with the interval of Clopper and Pearson. To continue an experiment that was stopped, repeat the command.
"""

import argparse
import configparser
import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dataloader.metadata import read_metadata
from evaluation.intervals import share_interval
from utils.arguments import at_least, share
from utils.command import run_command
from utils.errors import UserError
from utils.files import write_text
from utils.run_folder import DOUBTS

ROOT = Path(__file__).parents[1]
TABLE, AUDIO = "train_metadata.csv", "train_audio"


def swap_labels(labels: Sequence[str], share: float, seed: int) -> dict[int, str]:
    """Row -> another label, for a share of the rows."""
    rng, known = np.random.default_rng(seed), sorted(set(labels))
    rows = rng.choice(len(labels), round(share * len(labels)), replace=False)
    return {int(row): str(rng.choice([label for label in known if label != labels[row]])) for row in sorted(rows)}


def make_data(data: Path, folder: Path, share: float, seed: int) -> set[str]:
    """A data set with the same sounds and some labels swapped; return the names of those recordings."""
    folder.mkdir(parents=True, exist_ok=True)
    read_metadata(data)  # a table that cannot be used is reported before anything is written
    table = pd.read_csv(data / TABLE, dtype=str, keep_default_na=False)
    swapped = swap_labels(table["primary_label"].tolist(), share, seed)
    for row, label in swapped.items():
        table.loc[row, "primary_label"] = label
    table.to_csv(folder / TABLE, index=False)
    if not (folder / AUDIO).exists():
        (folder / AUDIO).symlink_to((data / AUDIO).resolve(), target_is_directory=True)
    return set(table["filename"][list(swapped)])


def with_settings(config: Path, settings: Mapping[str, object]) -> str:
    """The text of a recipe with other values for some settings."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(config.read_text(encoding="utf-8"), source=str(config))
    for name, value in settings.items():
        section, _, key = name.partition(".")
        if not parser.has_section(section):
            parser.add_section(section)
        parser.set(section, key, str(value))
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()


def positions_of(swapped: set[str], doubts: Path) -> np.ndarray:
    """The positions of the swapped recordings in the list, as shares of its length, in rising order.

    Raises:
        UserError: there is no list.
    """
    if not doubts.is_file():
        raise UserError(f"{doubts}: no such file; the page of the runs could not be written, see above")
    names = pd.read_csv(doubts)["filename"].tolist()
    return np.array([position / len(names) for position, name in enumerate(names) if name in swapped])


def positions_of_draw(options: argparse.Namespace, seed: int) -> np.ndarray:
    """Swap labels, train the folds, and find the swapped recordings in the list; a finished draw is only read."""
    output = options.output.absolute()
    folder = output / f"draw{seed}"
    swapped = make_data(options.data, folder / "data", options.share, seed)
    settings = {
        "paths.data_dir": folder / "data", "paths.runs_dir": folder / "runs", "data.output_dir": output / "cache",
        "data.hash_path": output / "last_key",
    }  # fmt: skip
    recipe = folder / "recipe.ini"  # --set cannot give the runs' folder, because each run of --folds has its own
    wanted = f"# {options.folds} folds, {options.overrides}\n" + with_settings(options.config, settings)
    finished = sorted(folder.glob(f"runs/*/{DOUBTS}"))
    if finished and recipe.read_text(encoding="utf-8") == wanted:
        return positions_of(swapped, finished[-1])
    write_text(recipe, wanted)
    line = [sys.executable, str(ROOT / "train_classifier.py"), "--config", str(recipe)]
    line += ["--folds", str(options.folds), *(word for one in options.overrides for word in ("--set", one))]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    if done.returncode:
        raise UserError(f"training ended with exit code {done.returncode}; see above")
    return positions_of(swapped, Path(done.stdout.strip().splitlines()[-1].partition(": ")[2]) / DOUBTS)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--share", type=share, default=0.05)
    parser.add_argument("--folds", type=at_least(2), default=5)
    parser.add_argument("--draws", type=at_least(1), default=1, help="repeat it with other labels swapped")
    parser.add_argument("--output", type=Path, default=Path("runs/label_errors"))
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    options = parser.parse_args(arguments)
    found = []
    for seed in range(1, options.draws + 1):
        found.append(positions_of_draw(options, seed))
        print(
            f"draw {seed}: {(found[-1] < 0.1).sum()} of {len(found[-1])} swapped labels in the first tenth", flush=True
        )
    positions = np.concatenate(found)
    first = int((positions < 0.1).sum())
    low, high = share_interval(first, len(positions))
    print(f"all: {first} of {len(positions)}, {first / len(positions):.2f} [{low:.2f}, {high:.2f}]")
    print(
        "in the first 5 %, 10 %, 20 %: " + ", ".join(f"{(positions < share).mean():.2f}" for share in (0.05, 0.1, 0.2))
    )
    return 0


if __name__ == "__main__":
    run_command(main)
