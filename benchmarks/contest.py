"""Which recipe is best, and what does it cost?

    python -m benchmarks.contest --configs A.ini B.ini [--folds 5] [--seeds 3] [--jobs 1] [--output DIR] [--set ...]

Every recipe is trained with every seed on every fold. Folds consist of whole groups and are the same for all recipes
([data] folds), so the settings that decide which recordings are used must be the same in all recipes, for instance by
--set. Each run is an ordinary run folder, ``DIR/<recipe>/seed1-fold1/<run>``, which train_classifier.py makes in a
process of its own: a run that fails is reported, and the others are trained. To continue a contest that was stopped,
repeat the command. With --jobs several runs are trained at once and share the cores of the CPU, which several small
networks use better than one; training seconds can be compared only between runs with the same --jobs.

The main scores are pooled: the recordings of all folds of a seed, each tested once, are scored together, and the spread
is over seeds. The mean over folds is noisier, because a single fold has few recordings of a class, or none. (Pooled
scores are lower if all scores of one fold are higher than those of another, as they would be in use.) The spread is the
standard deviation of the sample.

At the end DIR has contest.csv (a row for each run), contest.md (the table) and contest.png (accuracy against cost).
"""

import argparse
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmarks.contest_table import as_text, costs_of, result_of, row_of, warn_of_other_recordings
from dataloader.encoders.table import settle
from dataloader.metadata import load_table
from dataloader.tables.splits import deal_into_folds
from factory.choices import check_choices
from inference.choices import BACKENDS
from training.folds import alone_in, train_all
from training.planned_runs import PlannedRun, damaged, is_complete, planned_run
from training.resume import refused
from utils.arguments import at_least
from utils.command import run_command
from utils.config import differences, load_config
from utils.errors import ConfigError, DataError, Problem, UserError
from utils.files import write_text
from utils.run_folder import CONFIG
from utils.settings import Config
from utils.visualise import draw_contest, save_png

log = logging.getLogger(__name__)

OWN = {  # settings that the contest sets -> the option that decides them
    "trainer.seed": "--seeds",
    "data.folds": "--folds",
    "data.fold": "--folds",
    "paths.runs_dir": "--output",
}
# A run that was stopped may be resumed with other values of these, but the runs of a contest must have them in common.
SETTLED = {("trainer", "n_epochs"), ("trainer", "early_stop"), ("paths", "data_dir")}
DECIDE_FOLDS = (  # which recordings are used, and which are kept together
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
    deal_into_folds(load_table(next(iter(recipes.values()))), options.folds)  # refuses too many folds before any run
    output.mkdir(parents=True, exist_ok=True)
    with alone_in(output) as lock:
        plan = list(plan_runs(options.configs, options.folds, options.seeds, output, options.overrides))
        must_have_the_settings_of(plan, recipes)
        failed = train_all(plan, lock, options.jobs)
        finished = [planned for planned in plan if planned.is_finished and is_complete(planned)]
        failed += sum(planned.is_finished for planned in plan) - len(finished)
        if not finished:
            raise UserError(f"{output}: no run of the contest has finished; see the lines above")
        warn_of_other_recordings(finished)
        rows = [row_of(planned) for planned in finished]
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


def plan_runs(
    paths: Sequence[Path], folds: int, seeds: int, output: Path, overrides: Sequence[str]
) -> Iterator[PlannedRun]:
    """All planned runs; the recipes take turns, so that a contest that was stopped has about as many of each."""
    shared = [] if _sets("data.output_dir", overrides) else [f"data.output_dir={output / 'cache'}"]
    shared += [] if _sets("data.hash_path", overrides) else [f"data.hash_path={output / 'last_key'}"]
    for seed in range(1, seeds + 1):
        for fold in range(1, folds + 1):
            for path in paths:
                folder = output / path.stem / f"seed{seed}-fold{fold}"
                yield planned_run(path, seed, fold, folds, folder, (*shared, *overrides))


def _sets(name: str, overrides: Iterable[str]) -> bool:
    return any(override.partition("=")[0].strip() == name for override in overrides)


def load_recipes(paths: Sequence[Path], folds: int, output: Path, overrides: Sequence[str]) -> dict[str, Config]:
    """The recipes by name, which is that of the file, each with the settings of its first run.

    Raises:
        ConfigError: with the problems of all of them.
    """
    problems = [
        Problem(f"is set by the contest; use {OWN[name]}", *name.split("."), None, "--set")
        for name in (override.partition("=")[0].strip() for override in overrides)
        if name in OWN
    ]
    names = [path.stem for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    problems += [Problem("two recipes have this name; rename one", source=name) for name in twice]
    recipes: dict[str, Config] = {}
    for path in paths:
        planned = next(plan_runs([path], folds, 1, output, overrides))
        try:
            recipes[path.stem] = settle(load_config(path, planned.overrides, check_choices))
        except ConfigError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise ConfigError(problems)
    must_have_the_same_folds(recipes)
    return recipes


def must_have_the_same_folds(recipes: dict[str, Config]) -> None:
    """Refuse recipes whose folds would differ from those of the first.

    Raises:
        ConfigError: settings differ that decide which recordings are used; it has all of them.
    """
    (first, first_config), *others = recipes.items()
    problems = []
    for name, config in others:
        for section, key in DECIDE_FOLDS:
            value, wanted = (getattr(getattr(one, section), key) for one in (config, first_config))
            trial = section == "testing" and not (config.testing.testing or first_config.testing.testing)
            if value != wanted and not trial:
                text = (
                    f"{first} has {wanted}; other recordings make other folds. Choose one with --set {section}.{key}="
                )
                problems.append(Problem(text, section, key, value, name))
    if problems:
        raise ConfigError(problems)


def must_have_the_settings_of(plan: Iterable[PlannedRun], recipes: dict[str, Config]) -> None:
    """Refuse to continue a contest after a change of settings, because one table cannot compare its runs.

    Raises:
        DataError: a run has other settings than its recipe has now.
    """
    for planned in plan:
        if planned.run is None:
            continue
        config = recipes[planned.recipe]
        try:
            trained_with = load_config(planned.run / CONFIG)
        except ConfigError as error:
            raise damaged(planned, error.problems[0]) from None
        wanted = replace(
            config,
            trainer=replace(config.trainer, seed=planned.seed),
            data=replace(config.data, fold=planned.fold),
        )
        changes = differences(trained_with, wanted)
        changes = refused(changes) + [change for change in changes if change[:2] in SETTLED]
        if changes:
            section, key, before, now = changes[0]
            raise DataError(
                f"{planned.run}: was made with [{section}] {key} = {before}, but now it is {now}; "
                "choose another --output, or remove the runs with other settings"
            )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contest", description=__doc__.split("\n")[0])
    parser.add_argument("--configs", type=Path, nargs="+", required=True, metavar="INI", help="the recipes")
    parser.add_argument("--folds", type=at_least(2), default=5, help="default: %(default)s")
    parser.add_argument("--seeds", type=at_least(1), default=3, help="1 to this; default: %(default)s")
    parser.add_argument(
        "--jobs", type=at_least(1), default=1, help="runs trained at the same time; default: %(default)s"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/contest"), metavar="DIR", help="default: %(default)s")
    parser.add_argument(
        "--backend", choices=["auto", *BACKENDS], default="torch", help="of the prediction that is timed"
    )
    parser.add_argument(
        "--set", dest="overrides", metavar="section.key=value", action="append", default=[], help="for all recipes"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
