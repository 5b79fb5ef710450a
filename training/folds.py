"""Several runs in one command: every fold with every seed, each by train_classifier.py in a process of its own.

``train_classifier.py --folds N --seeds M`` trains one recipe so, and scores all recordings pooled; the contest of
benchmarks/ trains several. What was stopped goes on, and what fails does not keep the rest from being trained.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from dataloader.encoders.table import settle
from dataloader.metadata import load_table
from dataloader.tables.splits import deal_into_folds
from evaluation.output import SCORES, as_json, as_text
from evaluation.scores import evaluate
from evaluation.table import concatenate, mean_over_seeds
from factory.choices import check_choices
from inference.evaluating import figures_of_seeds, lines_of_seeds, read_run_table, read_test_scores
from training.cells import METRICS, Cell, as_number, is_whole, make_cells, summary_of
from utils.config import load_config, to_ini
from utils.errors import ConfigError, DataError, Problem, UserError
from utils.files import must_be_writable, write_text
from utils.interrupt import Interrupt, Stopped
from utils.lock import alone
from utils.run_folder import CONFIG, FOLDS, RECIPE, SPLIT
from utils.utils import cores, make_run_folder

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
_OWN = ("data.folds", "data.fold", "trainer.seed")  # settings that each of its runs has its own of


def train_folds(options: argparse.Namespace) -> Path:
    """Train all folds and seeds, or go on with them, and print their pooled scores; return their folder.

    Raises:
        UserError: a run has failed; the others are trained all the same.
        Stopped: by a signal; the run in hand has saved.
    """
    folder, folds, seeds = _resumed(options.resume) if options.resume else _new(options)
    with alone_in(folder) as lock:
        cells = make_cells(folder / RECIPE, folds, seeds, folder)
        run_cells(cells, lock)
        whole = [cell for cell in cells if cell.is_finished and is_whole(cell)]
        if len(whole) < len(cells):
            raise UserError(
                f"{folder}: {len(cells) - len(whole)} of {len(cells)} runs are not finished; see the lines above, and "
                f"go on with: python train_classifier.py --resume {folder}"
            )
        score_pooled(folder, cells)
    return folder


def _new(options: argparse.Namespace) -> tuple[Path, int, int]:
    """A new folder for all runs, once it is known that the recordings can be dealt into so many folds."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("--folds trains one run after another, and torchrun is for one run; leave torchrun out")
    named = {override.partition("=")[0].strip() for override in options.overrides}
    if wrong := [name for name in _OWN if name in named]:
        text = "each run of --folds has its own; leave it out, or use --seeds"
        raise ConfigError([Problem(text, *name.split("."), None, "--set") for name in wrong])
    config = settle(load_config(options.config or Path(CONFIG), options.overrides, check_choices))
    must_be_writable(config.paths.runs_dir / "folds" / RECIPE)
    deal_into_folds(load_table(config), options.folds)  # too many are reported now, and not run by run
    folder = make_run_folder(config.paths.runs_dir, f"{config.model.type}-folds").resolve()
    write_text(folder / RECIPE, to_ini(config))
    write_text(folder / FOLDS, json.dumps({"folds": options.folds, "seeds": options.seeds}) + "\n")
    log.info("%d runs in %s; if it is stopped: python train_classifier.py --resume %s",
             options.folds * options.seeds, folder, folder)  # fmt: skip
    return folder, options.folds, options.seeds


def _resumed(folder: Path) -> tuple[Path, int, int]:
    folder = folder.resolve()
    try:
        counts = json.loads((folder / FOLDS).read_text(encoding="utf-8"))
        return folder, int(counts["folds"]), int(counts["seeds"])
    except (ValueError, KeyError, TypeError):
        raise DataError(f'{folder / FOLDS}: damaged; it should be like {{"folds": 5, "seeds": 1}}') from None


def score_pooled(folder: Path, cells: Sequence[Cell]) -> None:
    """Print the scores of all recordings, each scored by the runs that have not seen it, and keep them."""
    tables = {}
    for seed in sorted({cell.seed for cell in cells}):
        of_folds = []
        for run in [cell.run for cell in cells if cell.seed == seed]:
            split = read_run_table(run / SPLIT)
            of_folds.append(read_test_scores(run, split[split["split"] == "test"]))
        tables[seed] = concatenate(of_folds)
    found = {seed: evaluate(table) for seed, table in tables.items()}
    aucs = [one.overall["macro_auc"].value for one in found.values() if one.overall["macro_auc"].value is not None]
    mean = sum(aucs) / len(aucs) if aucs else None
    scores = {"macro_auc": mean, "seeds": {str(seed): as_json(one) for seed, one in found.items()}}
    if len(found) == 1:
        name, shown = f"seed 1, {len(cells)} folds pooled", found[1]
    else:
        name = f"{len(cells)} runs, the scores of each recording averaged over {len(found)} seeds"
        shown = evaluate(mean_over_seeds(list(tables.values())))
        scores["mean_over_seeds"] = as_json(shown)
    print(f"{name}: {as_text(shown)}")
    print("\n".join(lines_of_seeds(figures_of_seeds(tables))))
    write_text(folder / SCORES, json.dumps(scores, indent=1) + "\n")


def run_cells(cells: Sequence[Cell], lock: Sequence[int], jobs: int = 1) -> int:
    """Train the cells that are not finished, ``jobs`` at a time; return how many failed.

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


def _run_cell(cell: Cell, where: str, lock: Sequence[int], jobs: int, interrupt: Interrupt) -> bool:
    """Train a cell and log its scores, unless all is to stop; return whether it is finished."""
    if interrupt.exit_code is not None:
        return False
    started = time.monotonic()
    code = _train(cell, lock, jobs, interrupt)
    if cell.is_finished:
        summary = summary_of(cell)
        scores = ", ".join(f"{name} {as_number(summary[f'test_{key}'])}" for key, name in METRICS.items())
        log.info("%s: %s, %.0f s", where, scores, time.monotonic() - started)
    elif interrupt.exit_code is None:
        log.error("%s: %s", where, _reason(cell, code))
    return cell.is_finished


def _train(cell: Cell, lock: Sequence[int], jobs: int, interrupt: Interrupt) -> int:
    """Train the cell, or go on with it; return the exit code."""
    return _call(cell, ["--resume", cell.run] if cell.run else ["--config", cell.path], lock, jobs, interrupt)


def _call(cell: Cell, what: Sequence[object], lock: Sequence[int], jobs: int, interrupt: Interrupt) -> int:
    """Run train_classifier.py with the settings of the cell; return its exit code.

    It has a session of its own, so that a Ctrl-C reaches it through us alone; and it holds our lock, so
    that nobody takes its cell while it goes on without us.
    """
    threads = {"OMP_NUM_THREADS": str(max(1, cores() // jobs))} if jobs > 1 else {}
    cell.folder.mkdir(parents=True, exist_ok=True)
    with open(cell.folder / "output.txt", "a", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, ROOT / "train_classifier.py", *what, *(f"--set={one}" for one in cell.overrides)],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=lock if os.name == "posix" else (),  # Windows passes none on
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


def alone_in(output: Path) -> AbstractContextManager[list[int]]:
    """Keep other commands that train several runs out of ``output``; gives the lock's descriptor for the runs.

    Raises:
        DataError: another one, or a run that it left behind, is at work there.
    """
    busy = "another contest, or the last run of one that was killed, is at work here; wait for its end"
    return alone(output / "runs", f"{output}: {busy}")
