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
import fcntl
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmarks.contest_cells import METRICS, Cell, damaged, is_whole, make_cells, summary_of
from benchmarks.contest_table import as_number, as_text, costs_of, result_of, row_of, warn_of_other_recordings
from dataloader.metadata import load_table
from dataloader.tables.splits import deal_into_folds
from factory.choices import check_choices
from inference.choices import BACKENDS
from training.resume import refused
from utils.command import run_command
from utils.config import Config, differences, load_config
from utils.errors import ConfigError, DataError, Problem, UserError
from utils.files import write_text
from utils.interrupt import Interrupt, Stopped
from utils.run_folder import CONFIG
from utils.utils import cores
from utils.visualise import draw_contest, save_png

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
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
    with _alone_in(output) as lock:
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
            recipes[path.stem] = load_config(path, cell.overrides, check_choices)
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


def run_cells(cells: Sequence[Cell], lock: int, jobs: int = 1) -> int:
    """Train what is not trained yet, ``jobs`` cells at a time; return how many cells failed.

    Raises:
        Stopped: by a signal; the runs in hand have saved.
    """
    with Interrupt() as interrupt, ThreadPoolExecutor(jobs) as pool:

        def run(number: int, cell: Cell) -> bool:
            return _run_cell(cell, f"cell {number} of {len(cells)}: {cell}", lock, jobs, interrupt)

        todo = [(number, cell) for number, cell in enumerate(cells, start=1) if not cell.is_finished]
        if jobs > 1:  # the cache of each recipe is filled once, not by all cells that start together
            for cell in {cell.recipe: cell for _, cell in todo}.values():
                if interrupt.exit_code is not None:
                    break
                _call(cell, ["--config", cell.path, "--prepare-only"], lock, jobs, interrupt)
        done = list(pool.map(run, *zip(*todo, strict=True))) if todo else []
        if interrupt.exit_code is not None:
            stopped = next((cell for cell in cells if not cell.is_finished), "the end")
            raise Stopped(f"stopped at {stopped}; the same command goes on", interrupt.exit_code)
    return done.count(False)


def _run_cell(cell: Cell, where: str, lock: int, jobs: int, interrupt: Interrupt) -> bool:
    """Train a cell and tell what came of it, unless the contest is to stop; return whether it is finished."""
    if interrupt.exit_code is not None:
        return False
    started = time.monotonic()
    code = _train(cell, lock, jobs, interrupt)
    if cell.is_finished:
        summary = summary_of(cell)
        told = ", ".join(f"{name} {as_number(summary[f'test_{key}'])}" for key, name in METRICS.items())
        log.info("%s: %s, %.0f s", where, told, time.monotonic() - started)
    elif interrupt.exit_code is None:
        log.error("%s: %s", where, _reason(cell, code))
    return cell.is_finished


def _train(cell: Cell, lock: int, jobs: int, interrupt: Interrupt) -> int:
    """Train the cell, or go on with it; return the exit code."""
    return _call(cell, ["--resume", cell.run] if cell.run else ["--config", cell.path], lock, jobs, interrupt)


def _call(cell: Cell, what: Sequence[object], lock: int, jobs: int, interrupt: Interrupt) -> int:
    """Run train_classifier.py with the settings of the cell; return its exit code.

    It has a session of its own, so that a Ctrl-C reaches it through us alone; and it holds our lock, so
    that nobody takes its cell while it goes on without us.
    """
    threads = {"OMP_NUM_THREADS": str(max(1, cores() // jobs))} if jobs > 1 else {}
    cell.folder.mkdir(parents=True, exist_ok=True)
    with open(cell.folder / "output.txt", "a", encoding="utf-8") as told:
        process = subprocess.Popen(
            [sys.executable, ROOT / "train_classifier.py", *what, *(f"--set={one}" for one in cell.overrides)],
            stdout=told,
            stderr=told,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[lock],
            env=threads | os.environ,
        )
        interrupt.when_it_comes(process.terminate)
        return process.wait()


def _reason(cell: Cell, code: int) -> str:
    """One line on why a cell is not finished."""
    if code == 0:
        return "stopped by [trainer] max_minutes; the same command goes on"
    file = cell.folder / "output.txt"
    lines = [line for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    why = lines[-1] if lines else "without a word"
    again = f"; to begin it anew remove {cell.run}" if cell.run else ""
    return f"failed with exit code {code}: {why} (all of it: {file}{again})"


@contextmanager
def _alone_in(output: Path) -> Iterator[int]:
    """Keep other contests out of ``output``; gives the open lock.

    Raises:
        UserError: another one, or a run that it left behind, is at work there.
    """
    lock = os.open(output / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = "another contest, or the last run of one that was killed, is at work here; wait for it"
            raise UserError(f"{output}: {text}") from None
        yield lock
    finally:
        os.close(lock)


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
