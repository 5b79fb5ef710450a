"""How many recordings of a species does each recipe need?

    python -m benchmarks.few_shot --recipes configs/birdnet.ini [...] [--shots 1 2 5 10 all] [--folds 5] [--draws 3]
                                  [--output runs/few_shot] [--set section.key=value ...]

Every recipe is trained with so many recordings of each class ([data] train_per_class), several draws (each a seed), on
every fold of whole groups; what is drawn is of the other folds, and the test fold stays whole. Each such cell is an
ordinary run folder, ``DIR/<recipe>/<shots>/seed1-fold1/<run>``; the same command goes on with what was stopped. The
recordings of all folds of a draw, put together, are scored once: macro AUC, cmAP and top-1, with the standard deviation
over draws, and the seconds of a run. Seconds do not count embeddings or spectrograms, which are made once for all.

DIR has then few_shot.csv (a row a draw), few_shot.md (the table) and few_shot.png (with error bars).
BirdNET learned from xeno-canto among others: on recordings from there its scores are upper bounds.
"""

import argparse
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from utils.command import run_command
from utils.errors import UserError
from utils.files import write_text
from utils.metrics import scores
from utils.run_folder import CONFIG, SEPARATOR, SPLIT, SUMMARY, TEST_SCORES
from utils.visualise import save_png

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
ALL = "all"
METRICS = {"macro_auc": "macro AUC", "cmap": "cmAP", "top1": "top-1"}


@dataclass(frozen=True)
class Cell:
    """One run: a recipe, so many recordings a class, a draw and a fold."""

    recipe: Path
    shots: str
    draw: int
    fold: int
    folder: Path

    def __str__(self) -> str:
        return f"{self.recipe.stem}, {self.shots} a class, draw {self.draw}, fold {self.fold}"

    @property
    def run(self) -> Path | None:
        """Its newest run; None where it has not begun."""
        return max((path.parent for path in self.folder.glob(f"*/{CONFIG}")), default=None)

    @property
    def is_finished(self) -> bool:
        return self.run is not None and (self.run / SUMMARY).is_file()


def cells_of(options: argparse.Namespace) -> Iterator[Cell]:
    """All cells, draw by draw, so that what was stopped has whole draws."""
    for draw in range(1, options.draws + 1):
        for shots in options.shots:
            for recipe in options.recipes:
                for fold in range(1, options.folds + 1):
                    folder = options.output / recipe.stem / shots / f"seed{draw}-fold{fold}"
                    yield Cell(recipe, shots, draw, fold, folder)


def train(cell: Cell, options: argparse.Namespace) -> bool:
    """Train a cell, or go on with it; return whether it is finished."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    own = {
        "data.output_dir": options.output / "cache", "data.hash_path": options.output / "last_key",
        "paths.runs_dir": cell.folder, "trainer.seed": cell.draw, "data.folds": options.folds, "data.fold": cell.fold,
        "data.train_per_class": 0 if cell.shots == ALL else cell.shots,
    }  # fmt: skip
    settings = [f"--set={key}={value}" for key, value in own.items()]
    settings += [f"--set={override}" for override in options.overrides]
    what = ["--resume", cell.run] if cell.run else ["--config", cell.recipe, *settings]
    with open(cell.folder / "output.txt", "a", encoding="utf-8") as told:
        command = [sys.executable, ROOT / "train_classifier.py", *what]
        subprocess.run(command, stdout=told, stderr=told, stdin=subprocess.DEVNULL, env=dict(os.environ), check=False)
    if not cell.is_finished:
        lines = (cell.folder / "output.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        log.error("%s: %s (all of it: %s)", cell, lines[-1] if lines else "no output", cell.folder / "output.txt")
    return cell.is_finished


def pooled(cells: Sequence[Cell]) -> dict[str, float]:
    """The scores of the recordings of all folds of a draw, and the mean seconds of a run."""
    told, given, seconds = [], [], []
    for cell in cells:
        found = pd.read_csv(cell.run / TEST_SCORES, index_col="filename")
        split = pd.read_csv(cell.run / SPLIT, dtype=str, keep_default_na=False).set_index("filename")
        labels = split.loc[found.index, "label"].str.split(SEPARATOR)
        given.append(found)
        told.append(pd.DataFrame({name: [name in one for one in labels] for name in found.columns}, index=found.index))
        seconds.append(pd.read_json(cell.run / SUMMARY, typ="series")["seconds"])
    # A class that a fold had nothing to learn from was not scored there: nothing was heard of it.
    given = pd.concat(given).fillna(0.0)
    targets = pd.concat(told).reindex(columns=given.columns).fillna(False)
    return scores(targets.to_numpy(dtype=float), given.to_numpy(), "") | {"seconds": float(np.mean(seconds))}


def table_of(rows: pd.DataFrame) -> str:
    """The table: a line for each recipe and number of recordings, mean and standard deviation over draws."""
    lines = [
        "| recipe | recordings a class | draws | macro AUC | cmAP | top-1 | seconds a run |",
        "|---|---|---|---|---|---|---|",
    ]
    for (recipe, shots), group in rows.groupby(["recipe", "shots"], sort=False):
        cells = []
        for name in METRICS:
            spread = f" ± {group[name].std(ddof=1):.3f}" if len(group) > 1 else ""
            cells.append(f"{group[name].mean():.3f}{spread}")
        lines.append(f"| {recipe} | {shots} | {len(group)} | {' | '.join(cells)} | {group['seconds'].mean():.0f} |")
    return "\n".join(lines) + "\n"


def draw(rows: pd.DataFrame):
    """Macro AUC and top-1 by recordings a class, with the standard deviation over draws as error bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    order = list(dict.fromkeys(rows["shots"]))
    for axes, name in zip(figure.subplots(1, 2), ("macro_auc", "top1"), strict=True):
        for recipe, group in rows.groupby("recipe", sort=False):
            by_shots = group.groupby("shots", sort=False)[name]
            places = [order.index(shots) for shots in by_shots.mean().index]
            axes.errorbar(
                places, by_shots.mean(), by_shots.std(ddof=1).fillna(0.0), marker="o", capsize=3, label=recipe
            )
        axes.set(xlabel="recordings a class", ylabel=METRICS[name], xticks=range(len(order)), xticklabels=order)
        axes.grid(alpha=0.3)
    axes.legend()
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    cells, failed = list(cells_of(options)), 0
    for number, cell in enumerate(cells, start=1):
        if not cell.is_finished:
            log.info("run %d of %d: %s", number, len(cells), cell)
            failed += not train(cell, options)
    rows = []
    for recipe in options.recipes:
        for shots in options.shots:
            for one in range(1, options.draws + 1):
                mine = [cell for cell in cells if (cell.recipe, cell.shots, cell.draw) == (recipe, shots, one)]
                if all(cell.is_finished for cell in mine):
                    rows.append({"recipe": recipe.stem, "shots": shots, "draw": one, **pooled(mine)})
    if not rows:
        raise UserError(f"{options.output}: no draw has all its folds; see the lines above")
    frame = pd.DataFrame(rows)
    write_text(options.output / "few_shot.csv", frame.to_csv(index=False, lineterminator="\n"))
    write_text(options.output / "few_shot.md", table_of(frame))
    save_png(draw(frame), options.output / "few_shot.png")
    print(table_of(frame))
    return 1 if failed else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few_shot", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--recipes", type=lambda text: Path(text).absolute(), nargs="+", required=True, metavar="INI")
    add("--shots", type=_shots, nargs="+", default=["1", "2", "5", "10", ALL], metavar="N", help="a number, or all")
    add("--folds", type=int, default=5)
    add("--draws", type=int, default=3)
    add("--output", type=lambda text: Path(text).absolute(), default=Path("runs/few_shot").absolute(), metavar="DIR")
    add("--set", dest="overrides", metavar="section.key=value", action="append", default=[], help="for all recipes")
    return parser.parse_args(arguments)


def _shots(text: str) -> str:
    if text != ALL and not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number above 0 nor {ALL}")
    return text


if __name__ == "__main__":
    run_command(main)
