"""How are several runs trained by one command? Each fold with each seed, by train_classifier.py in its own process.

``train_classifier.py --folds N --seeds M`` trains one recipe in this way and scores all recordings, pooled over the
folds; the contest in benchmarks/ trains several recipes. A stopped command can be continued, and if a run fails the
others are still trained.
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
from evaluation.seeds import figures_of_seeds, lines_of_seeds, mean_over_seeds
from evaluation.table import concatenate
from factory.choices import check_choices
from inference.run_tables import read_test_scores
from training.planned_runs import METRICS, PlannedRun, as_number, is_complete, plan_runs, summary_of
from utils.config import load_config, to_ini
from utils.errors import ConfigError, DataError, Problem, UserError
from utils.files import must_be_writable, write_text
from utils.interrupt import Interrupt, Stopped
from utils.lock import alone
from utils.run_folder import CONFIG, FOLDS, RECIPE
from utils.utils import cores, make_run_folder

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
_OWN = ("data.folds", "data.fold", "trainer.seed")  # settings that differ between its runs


def train_folds(options: argparse.Namespace) -> Path:
    """Train all folds and seeds, or continue with them, and print their pooled scores; return their folder.

    Raises:
        UserError: a run has failed; the others were trained.
        Stopped: by a signal; the present run has saved.
    """
    folder, folds, seeds = _resumed(options.resume) if options.resume else _new(options)
    with alone_in(folder) as lock:
        plan = plan_runs(folder / RECIPE, folds, seeds, folder)
        train_all(plan, lock)
        complete = [planned for planned in plan if planned.is_finished and is_complete(planned)]
        if len(complete) < len(plan):
            raise UserError(
                f"{folder}: {len(plan) - len(complete)} of {len(plan)} runs are not finished; see the lines above, and "
                f"continue with: python train_classifier.py --resume {folder}"
            )
        score_pooled(folder, plan)
    return folder


def _new(options: argparse.Namespace) -> tuple[Path, int, int]:
    """A new folder for all runs, after checking that the recordings can be divided into so many folds."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("--folds trains one run after another, but torchrun is for one run; start it without torchrun")
    named = {override.partition("=")[0].strip() for override in options.overrides}
    if wrong := [name for name in _OWN if name in named]:
        text = "each run of --folds has another value; leave it out, or use --seeds"
        raise ConfigError([Problem(text, *name.split("."), None, "--set") for name in wrong])
    config = settle(load_config(options.config or Path(CONFIG), options.overrides, check_choices))
    must_be_writable(config.paths.runs_dir / "folds" / RECIPE)
    deal_into_folds(load_table(config), options.folds)  # too many folds are reported now, and not in each run
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


def score_pooled(folder: Path, plan: Sequence[PlannedRun]) -> None:
    """Print the scores of all recordings, each scored by the runs that have not seen it, and keep them."""
    tables = {
        seed: concatenate([read_test_scores(planned.run) for planned in plan if planned.seed == seed])
        for seed in sorted({planned.seed for planned in plan})
    }
    found = {seed: evaluate(table, all_scored=True) for seed, table in tables.items()}
    aucs = [one.overall["macro_auc"].value for one in found.values() if one.overall["macro_auc"].value is not None]
    mean = sum(aucs) / len(aucs) if aucs else None
    scores = {"macro_auc": mean, "seeds": {str(seed): as_json(one) for seed, one in found.items()}}
    if len(found) == 1:
        name, shown = f"seed 1, {len(plan)} folds pooled", found[1]
    else:
        name = f"{len(plan)} runs, the scores of each recording averaged over {len(found)} seeds"
        shown = evaluate(mean_over_seeds(list(tables.values())), all_scored=True)
        scores["mean_over_seeds"] = as_json(shown)
    print(f"{name}: {as_text(shown)}")
    print("\n".join(lines_of_seeds(figures_of_seeds(tables))))
    write_text(folder / SCORES, json.dumps(scores, indent=1) + "\n")


def train_all(plan: Sequence[PlannedRun], lock: Sequence[int], jobs: int = 1) -> int:
    """Train the runs of the plan that are not finished, ``jobs`` at a time; return how many failed.

    Raises:
        Stopped: by a signal; the present runs have saved.
    """
    with Interrupt() as interrupt, ThreadPoolExecutor(jobs) as pool:

        def run(number: int, planned: PlannedRun) -> bool:
            return _train_one(planned, f"run {number} of {len(plan)}: {planned}", lock, jobs, interrupt)

        todo = [(number, planned) for number, planned in enumerate(plan, start=1) if not planned.is_finished]
        if jobs > 1:  # the cache of each recipe is filled once, not by all runs that start together
            for planned in {planned.recipe: planned for _, planned in todo}.values():
                if interrupt.exit_code is not None:
                    break
                _call(planned, ["--config", planned.path, "--prepare-only"], lock, jobs, interrupt)
        done = list(pool.map(run, *zip(*todo, strict=True))) if todo else []
        if interrupt.exit_code is not None:
            stopped = next((planned for planned in plan if not planned.is_finished), "the end")
            raise Stopped(f"stopped at {stopped}; continue with the same command", interrupt.exit_code)
    return done.count(False)


def _train_one(planned: PlannedRun, where: str, lock: Sequence[int], jobs: int, interrupt: Interrupt) -> bool:
    """Train a planned run and log its scores, unless a stop was requested; return whether it is finished."""
    if interrupt.exit_code is not None:
        return False
    started = time.monotonic()
    code = _train(planned, lock, jobs, interrupt)
    if planned.is_finished:
        summary = summary_of(planned)
        scores = ", ".join(f"{name} {as_number(summary[f'test_{key}'])}" for key, name in METRICS.items())
        log.info("%s: %s, %.0f s", where, scores, time.monotonic() - started)
    elif interrupt.exit_code is None:
        log.error("%s: %s", where, _reason(planned, code))
    return planned.is_finished


def _train(planned: PlannedRun, lock: Sequence[int], jobs: int, interrupt: Interrupt) -> int:
    """Train the run, or continue it; return the exit code."""
    return _call(
        planned, ["--resume", planned.run] if planned.run else ["--config", planned.path], lock, jobs, interrupt
    )


def _call(planned: PlannedRun, what: Sequence[object], lock: Sequence[int], jobs: int, interrupt: Interrupt) -> int:
    """Call train_classifier.py with the settings of the planned run; return its exit code.

    It has its own session, so that Ctrl-C reaches it only through this process. It also holds the lock of this process,
    so that no other command starts its run if this process dies first.
    """
    threads = {"OMP_NUM_THREADS": str(max(1, cores() // jobs))} if jobs > 1 else {}
    planned.folder.mkdir(parents=True, exist_ok=True)
    with open(planned.folder / "output.txt", "a", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, ROOT / "train_classifier.py", *what, *(f"--set={one}" for one in planned.overrides)],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=lock if os.name == "posix" else (),  # Windows cannot pass any on
            env=threads | os.environ,
        )
        interrupt.when_it_comes(process.terminate)
        return process.wait()


def _reason(planned: PlannedRun, code: int) -> str:
    """One line with the reason why a planned run is not finished."""
    if code == 0:
        return "stopped by [trainer] max_minutes; continue with the same command"
    file = planned.folder / "output.txt"
    lines = [line for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    why = lines[-1] if lines else "it printed nothing"
    again = f"; to start it again remove {planned.run}" if planned.run else ""
    return f"failed with exit code {code}: {why} (its output: {file}{again})"


def alone_in(output: Path) -> AbstractContextManager[list[int]]:
    """Lock ``output`` against other commands that train several runs; yields the lock's descriptor for the runs.

    Raises:
        DataError: another command, or a run that one left behind, uses it.
    """
    busy = "another command, or the last run of one that was killed, still uses this folder; wait for its end"
    return alone(output / "runs", f"{output}: {busy}")
