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
import io
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from dataloader.metadata import load_table
from dataloader.splits import deal_into_folds
from factory.choices import check_choices
from factory.run import refused
from inference.backends import BACKENDS, checkpoint_of, network_of
from inference.predictor import Predictor
from utils.command import run_command
from utils.config import Config, differences, load_config
from utils.errors import ConfigError, DataError, Problem, UserError, first_line
from utils.files import write_text
from utils.interrupt import Interrupt, Stopped
from utils.metrics import scores
from utils.run_folder import CONFIG, LABELS, SEPARATOR, SPLIT, SUMMARY, TEST_SCORES
from utils.utils import cores
from utils.visualise import draw_contest, save_png

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
METRICS = {"macro_auc": "macro AUC", "cmap": "cmAP", "top1": "top-1"}
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
READ_OF_SUMMARY = (*(f"test_{name}" for name in METRICS), "seconds", "n_classes", "n_train", "n_test")
TIMED = 10  # recordings that prediction is timed on


@dataclass(frozen=True)
class Cell:
    """One run of the contest; its folder is the newest in ``place``."""

    recipe: str
    path: Path  # of the recipe
    seed: int
    fold: int
    place: Path
    overrides: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.recipe}, seed {self.seed}, fold {self.fold}"

    @property
    def run(self) -> Path | None:
        return max((path.parent for path in self.place.glob(f"*/{CONFIG}")), default=None)

    @property
    def is_finished(self) -> bool:
        return self.run is not None and (self.run / SUMMARY).is_file()


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
        text = as_text(results, options.folds, options.seeds, options.jobs, rows)
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


def make_cells(paths: Sequence[Path], folds: int, seeds: int, output: Path, overrides: Sequence[str]) -> Iterator[Cell]:
    """All cells; the recipes take turns, so that a contest that was stopped has as much of each."""
    shared = [] if _sets("data.output_dir", overrides) else [f"data.output_dir={output / 'cache'}"]
    shared += [] if _sets("data.hash_path", overrides) else [f"data.hash_path={output / 'last_key'}"]
    for seed in range(1, seeds + 1):
        for fold in range(1, folds + 1):
            for path in paths:
                place = output / path.stem / f"seed{seed}-fold{fold}"
                own = (f"trainer.seed={seed}", f"data.folds={folds}", f"data.fold={fold}", f"paths.runs_dir={place}")
                yield Cell(path.stem, path, seed, fold, place, (*shared, *overrides, *own))


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
            raise _damaged(cell, error.problems[0]) from None
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
        summary = _summary(cell)
        told = ", ".join(f"{name} {_number(summary[f'test_{key}'])}" for key, name in METRICS.items())
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
    cell.place.mkdir(parents=True, exist_ok=True)
    with open(cell.place / "output.txt", "a", encoding="utf-8") as told:
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
    file = cell.place / "output.txt"
    lines = [line for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    why = lines[-1] if lines else "without a word"
    again = f"; to begin it anew remove {cell.run}" if cell.run else ""
    return f"failed with exit code {code}: {why} (all of it: {file}{again})"


def is_whole(cell: Cell) -> bool:
    """Whether all that the contest reads of a finished cell is there; says so if it is not."""
    try:
        summary, tested = _summary(cell), _tested(cell.run)
        if missing := [name for name in READ_OF_SUMMARY if name not in summary]:
            raise ValueError(f"{SUMMARY} has no {', '.join(missing)}")
        labels = _labels(cell.run)
        if len(labels) != summary["n_classes"]:
            raise ValueError(f"{LABELS} has {len(labels)} classes, {SUMMARY} {summary['n_classes']}")
        scored = _scores(cell.run)
        if set(scored.columns) != set(labels):
            raise ValueError(f"{TEST_SCORES} has other classes than {LABELS}")
        if missing := set(tested["filename"]) ^ set(scored.index):
            raise ValueError(f"{TEST_SCORES} and {SPLIT} differ by {len(missing)} recordings")
        if not np.isfinite(scored.to_numpy(dtype=float)).all():
            raise ValueError(f"{TEST_SCORES} has a score that is no number")
    except (OSError, ValueError, KeyError, TypeError) as error:  # those of json and pandas are ValueErrors
        log.error("%s", _damaged(cell, error))
        return False
    return True


def _damaged(cell: Cell, why: object) -> DataError:
    return DataError(f"{cell.run}: damaged ({first_line(why)}); remove this folder and the cell is trained again")


def row_of(cell: Cell) -> dict[str, object]:
    """What ``contest.csv`` says of a finished cell."""
    summary = _summary(cell)
    return {
        "recipe": cell.recipe,
        "seed": cell.seed,
        "fold": cell.fold,
        **{name: summary[f"test_{name}"] for name in METRICS},
        "training_seconds": summary["seconds"],
        **{name: summary[name] for name in ("n_classes", "n_train", "n_test")},
        "run": str(cell.run),
    }


def pooled(runs: Iterable[Path]) -> dict[str, float | None]:
    """The metrics over the test recordings of all ``runs`` together, by the names of METRICS.

    Raises:
        DataError: the runs have other classes, or test on a recording twice.
    """
    runs = list(runs)
    labels = [_labels(run) for run in runs]
    for run, its in zip(runs, labels, strict=True):
        if its != labels[0]:
            raise DataError(f"{run}: has other classes than {runs[0]}; they cannot be pooled")
    found = pd.concat([_scores(run)[labels[0]] for run in runs])
    if found.index.has_duplicates:
        twice = found.index[found.index.duplicated()][0]
        raise DataError(f"{runs[0]}: tests on {twice}, and so does another run; they are not folds of one contest")
    truth = pd.concat([_tested(run).set_index("filename")["label"] for run in runs])
    targets = [[label in truth[name].split(SEPARATOR) for label in labels[0]] for name in found.index]
    return scores(np.array(targets), found.to_numpy(), prefix="")


def costs_of(recipe: str, finished: Iterable[Cell], config: Config, backend: str) -> dict[str, float | str | None]:
    """Parameters of a recipe's network, and how fast it predicts in x real time; None where that cannot be known."""
    costs = {"parameters": None, "speed": None, "backend": None}
    why = None
    for run in (cell.run for cell in finished if cell.recipe == recipe):
        try:
            checkpoint = checkpoint_of(run)
            network, *_ = network_of(checkpoint)
            costs["parameters"] = sum(parameter.numel() for parameter in network.parameters())
            costs["speed"], costs["backend"] = time_prediction(checkpoint, config, backend)
            return costs
        except UserError as error:  # another run may do; if none does, that is no reason to keep back the scores
            why = why or error
    if why:
        log.warning("%s: its costs cannot be measured: %s", recipe, why)
    return costs


def time_prediction(checkpoint: Path, config: Config, backend: str) -> tuple[float, str]:
    """Seconds of sound a second, from files to scores, the best of three after a first go; and the backend."""
    paths = load_table(config)["path"].tolist()
    paths = paths[:: max(1, len(paths) // TIMED)][:TIMED]
    predictor = Predictor(checkpoint, backend=backend)
    rounds = []
    for _ in range(4):
        started = time.perf_counter()
        seconds = sum(getattr(result, "seconds", 0.0) for _, result in predictor.predict_files(paths))
        rounds.append(seconds / (time.perf_counter() - started))
    return max(rounds[1:]), predictor.models[0].backend


def result_of(recipe: str, finished: Iterable[Cell], folds: int, costs: dict) -> dict[str, object]:
    """What the contest says of a recipe: each metric pooled and by fold, as (mean, spread), and what it costs."""
    cells = [cell for cell in finished if cell.recipe == recipe]
    runs_of_seed: dict[int, list[Path]] = {}
    for cell in cells:
        runs_of_seed.setdefault(cell.seed, []).append(cell.run)
    whole = [pooled(runs) for runs in runs_of_seed.values() if len(runs) == folds]
    summaries = [_summary(cell) for cell in cells]
    return {
        "name": recipe,
        "cells": len(cells),
        **{name: mean_and_spread(one[name] for one in whole) for name in METRICS},
        **{f"fold_{name}": mean_and_spread(one[f"test_{name}"] for one in summaries) for name in METRICS},
        "seconds": mean_and_spread(one["seconds"] for one in summaries)[0],
        **costs,
    }


def mean_and_spread(values: Iterable[float | None]) -> tuple[float | None, float | None]:
    """The mean, and the standard deviation of the sample; None where there are too few values."""
    known = [value for value in values if value is not None]
    mean = statistics.mean(known) if known else None
    return mean, statistics.stdev(known) if len(known) > 1 else None


def warn_of_other_recordings(finished: Iterable[Cell]) -> None:
    """Say which recipes are not tested on the recordings of the first: their scores are not of the same task."""
    tested: dict[int, tuple[str, set[str]]] = {}
    told = set()
    for cell in finished:
        theirs = set(_tested(cell.run)["filename"])
        first, its = tested.setdefault(cell.fold, (cell.recipe, theirs))
        if theirs != its and cell.recipe not in told:
            told.add(cell.recipe)
            log.warning(
                "%s: fold %d is not that of %s, %d recordings against %d; compare them with care",
                cell.recipe, cell.fold, first, len(theirs), len(its),
            )  # fmt: skip


def as_text(results: Sequence[dict], folds: int, seeds: int, jobs: int, rows: Sequence[dict]) -> str:
    """The table, best recipe first, and what its figures mean; as Markdown."""
    names = [*METRICS.values()]
    head = [
        "recipe",
        *names,
        *(f"{name}, by fold" for name in names),
        "parameters",
        "training s",
        "x real time",
        "runs",
    ]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for result in sorted(results, key=lambda one: -(one["macro_auc"][0] or 0.0)):
        cells = [_plus_minus(*result[name]) for name in (*METRICS, *(f"fold_{name}" for name in METRICS))]
        cells += [
            _number(result["parameters"], ","),
            _number(result["seconds"], ".1f"),
            _number(result["speed"], ".0f"),
        ]
        lines.append(f"| {' | '.join([result['name'], *cells, str(result['cells'])])} |")
    tested = pd.DataFrame(rows).groupby(["recipe", "seed"])["n_test"].sum().max()  # a damaged cell leaves some out
    backends = ", ".join(sorted({str(result["backend"]) for result in results if result["backend"]}))
    return "\n".join(
        [
            *lines,
            "",
            f"{folds} folds, {seeds} seeds; {rows[0]['n_classes']} classes, {tested} recordings. "
            "The first scores are of all folds of a seed put together (mean ± standard deviation over seeds), those "
            "by fold of each run (over folds and seeds). "
            f"Training: seconds of one run, {jobs} at a time. Prediction: {backends}. "
            f"On {cores()} CPU cores.",
            "",
        ]
    )


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


def _sets(name: str, overrides: Iterable[str]) -> bool:
    return any(override.partition("=")[0].strip() == name for override in overrides)


def _summary(cell: Cell) -> dict[str, float | None]:
    return json.loads((cell.run / SUMMARY).read_text(encoding="utf-8"))


def _table(path: Path, **how: object) -> pd.DataFrame:
    """
    Raises:
        ValueError: the file does not end with a line.
    """
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):  # a number may have lost its last digits, and still be one
        raise ValueError(f"{path.name} is cut short")
    return pd.read_csv(io.StringIO(text), **how)


def _labels(run: Path) -> list[str]:
    return _table(run / LABELS, dtype=str, keep_default_na=False)["label"].tolist()


def _tested(run: Path) -> pd.DataFrame:
    """The rows of ``split.csv`` that are on the test side."""
    split = _table(run / SPLIT, dtype=str, keep_default_na=False)
    return split[split["split"] == "test"]


def _scores(run: Path) -> pd.DataFrame:
    """``(recordings, classes)``, by filename and label."""
    return _table(run / TEST_SCORES, index_col="filename")


def _plus_minus(mean: float | None, spread: float | None) -> str:
    return _number(mean) if spread is None else f"{_number(mean)} ± {_number(spread)}"


def _number(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)


if __name__ == "__main__":
    run_command(main)
