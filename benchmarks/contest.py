"""Which recipe is best, and what does it cost?

    python -m benchmarks.contest --configs A.ini B.ini [--folds 5] [--seeds 3] [--jobs 1] [--output DIR] [--set ...]

Every recipe is trained with every seed on every fold: whole groups, the same folds for all ([data] folds), so what
decides which recordings there are must be the same in all recipes; --set makes it so. Each such cell is an ordinary
run folder, ``DIR/<recipe>/seed1-fold1/<run>``, made by train_classifier.py in a process of its own: one that fails
is told, and the rest go on. The same command goes on with a contest that was stopped. With --jobs several are trained
at once and share the CPU's cores, which small networks use better than one does all of them; the training seconds of
one contest compare if all of its cells were trained with the same --jobs.

The main scores are pooled: those of the recordings of all folds of a seed, put together, are scored once, as every
recording is tested once; with their spread over seeds. A fold alone has few recordings of a class, or none, so the mean
over folds is noisier. (Pooling asks that folds agree on what a score means: a fold whose scores are all higher
costs, as it would in use.) Spread is the standard deviation of the sample.

DIR has then contest.csv (a row a cell), contest.md (the table) and contest.png (accuracy against cost).
"""

import argparse
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmarks.contest_table import as_text, costs_of, result_of, row_of, warn_of_other_recordings
from dataloader.encoders.table import settle
from dataloader.metadata import load_table
from dataloader.tables.splits import deal_into_folds
from factory.choices import check_choices
from inference.choices import BACKENDS
from training.cells import Cell, cell_of, damaged, is_whole
from training.folds import alone_in, run_cells
from training.resume import refused
from utils.command import run_command
from utils.config import Config, differences, load_config
from utils.errors import ConfigError, DataError, Problem, UserError
from utils.files import write_text
from utils.run_folder import CONFIG
from utils.visualise import draw_contest, save_png

log = logging.getLogger(__name__)

OWN = {"trainer.seed": "--seeds", "data.folds": "--folds", "data.fold": "--folds", "paths.runs_dir": "--output"}
# A run that was stopped may go on with others of these; a contest compares runs that have them in common.
SETTLED = {("trainer", "n_epochs"), ("trainer", "early_stop"), ("paths", "data_dir")}
DECIDE_FOLDS = (  # which recordings there are, and what is kept together
    ("paths", "data_dir"),
    ("testing", "testing"),
    ("testing", "data_samples_for_testing"),
    ("data", "duplicates"),
    ("data", "group_by"),
    ("data", "min_samples_in_class"),
    ("data", "min_recording_s"),
    ("labels", "nocall"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    output = options.output.resolve()
    recipes = load_recipes(options.configs, options.folds, output, options.overrides)
    deal_into_folds(load_table(next(iter(recipes.values()))), options.folds)  # too many are told now, not cell by cell
    output.mkdir(parents=True, exist_ok=True)
    with alone_in(output) as lock:
        cells = list(make_cells(options.configs, options.folds, options.seeds, output, options.overrides))
        must_be_made_so(cells, recipes)
        failed = run_cells(cells, lock, options.jobs)
        finished = [cell for cell in cells if cell.is_finished and is_whole(cell)]
        failed += sum(cell.is_finished for cell in cells) - len(finished)
        if not finished:
            raise UserError(f"{output}: no run of the contest was finished; see the lines above")
        warn_of_other_recordings(finished)
        rows = [row_of(cell) for cell in finished]
        costs = {name: costs_of(name, finished, config, options.backend) for name, config in recipes.items()}
        table = pd.DataFrame(rows).assign(parameters=[costs[row["recipe"]]["parameters"] for row in rows])
        write_text(output / "contest.csv", table.to_csv(index=False, lineterminator="\n"))
        results = [result_of(name, finished, options.folds, costs[name]) for name in recipes]
        text = as_text(results, options.folds, options.seeds, rows)
        write_text(output / "contest.md", text)
        save_png(draw_contest(results), output / "contest.png")
    print(text)
    print(f"contest: {output}")
    return 1 if failed else 0


def make_cells(paths: Sequence[Path], folds: int, seeds: int, output: Path, overrides: Sequence[str]) -> Iterator[Cell]:
    """All cells; the recipes take turns, so that a contest that was stopped has as much of each."""
    shared = [] if _sets("data.output_dir", overrides) else [f"data.output_dir={output / 'cache'}"]
    shared += [] if _sets("data.hash_path", overrides) else [f"data.hash_path={output / 'last_key'}"]
    for seed in range(1, seeds + 1):
        for fold in range(1, folds + 1):
            for path in paths:
                folder = output / path.stem / f"seed{seed}-fold{fold}"
                yield cell_of(path, seed, fold, folds, folder, (*shared, *overrides))


def _sets(name: str, overrides: Iterable[str]) -> bool:
    return any(override.partition("=")[0].strip() == name for override in overrides)


def load_recipes(paths: Sequence[Path], folds: int, output: Path, overrides: Sequence[str]) -> dict[str, Config]:
    """The recipes by name, which is that of the file, each with the settings of its first cell.

    Raises:
        ConfigError: with the problems of all of them.
    """
    problems = [
        Problem(f"is the contest's own; see {OWN[name]}", *name.split("."), None, "--set")
        for name in (override.partition("=")[0].strip() for override in overrides)
        if name in OWN
    ]
    names = [path.stem for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    problems += [Problem("two recipes have this name; rename one", source=name) for name in twice]
    recipes: dict[str, Config] = {}
    for path in paths:
        cell = next(make_cells([path], folds, 1, output, overrides))
        try:
            recipes[path.stem] = settle(load_config(path, cell.overrides, check_choices))
        except ConfigError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise ConfigError(problems)
    must_have_the_same_folds(recipes)
    return recipes


def must_have_the_same_folds(recipes: dict[str, Config]) -> None:
    """Refuse recipes whose folds would not be those of the first.

    Raises:
        ConfigError: with the settings that differ and decide which recordings are dealt out.
    """
    (first, its), *others = recipes.items()
    problems = []
    for name, config in others:
        for section, key in DECIDE_FOLDS:
            value, wanted = (getattr(getattr(one, section), key) for one in (config, its))
            trial = section == "testing" and not (config.testing.testing or its.testing.testing)
            if value != wanted and not trial:
                text = f"{first} has {wanted}; other recordings make other folds. Choose one by --set {section}.{key}="
                problems.append(Problem(text, section, key, value, name))
    if problems:
        raise ConfigError(problems)


def must_be_made_so(cells: Iterable[Cell], recipes: dict[str, Config]) -> None:
    """Refuse to go on with runs of other settings: one table would compare what cannot be compared.

    Raises:
        DataError: a run in a cell has other settings than its recipe has now.
    """
    for cell in cells:
        if cell.run is None:
            continue
        config = recipes[cell.recipe]
        try:
            theirs = load_config(cell.run / CONFIG)
        except ConfigError as error:
            raise damaged(cell, error.problems[0]) from None
        wanted = replace(
            config,
            trainer=replace(config.trainer, seed=cell.seed),
            data=replace(config.data, fold=cell.fold),
        )
        changes = differences(theirs, wanted)
        changes = refused(changes) + [change for change in changes if change[:2] in SETTLED]
        if changes:
            section, key, before, now = changes[0]
            raise DataError(
                f"{cell.run}: was made with [{section}] {key} = {before}, and now it is {now}; "
                "choose another --output, or remove what was made with other settings"
            )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contest", description=__doc__.split("\n")[0])
    parser.add_argument("--configs", type=Path, nargs="+", required=True, metavar="INI", help="the recipes")
    parser.add_argument("--folds", type=_at_least(2), default=5, help="default: %(default)s")
    parser.add_argument("--seeds", type=_at_least(1), default=3, help="1 to this; default: %(default)s")
    parser.add_argument("--jobs", type=_at_least(1), default=1, help="cells trained at once; default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("runs/contest"), metavar="DIR", help="default: %(default)s")
    parser.add_argument(
        "--backend", choices=["auto", *BACKENDS], default="torch", help="of the prediction that is timed"
    )
    parser.add_argument(
        "--set", dest="overrides", metavar="section.key=value", action="append", default=[], help="for all recipes"
    )
    return parser.parse_args(arguments)


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a number of at least {least}, not {text!r}")
        return int(text)

    return number


if __name__ == "__main__":
    run_command(main)
