"""What is the result of a contest? A table with the scores of each recipe, their spread, and its costs."""

import logging
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dataloader.metadata import load_table
from inference.checkpoints import checkpoint_of, network_of
from inference.predictor import Predictor
from training.planned_runs import METRICS, PlannedRun, as_number, labels_of, scores_of, summary_of, tested_of
from utils.errors import DataError, UserError, counted
from utils.metrics import scores
from utils.run_folder import SEPARATOR
from utils.settings import Config
from utils.utils import cores

log = logging.getLogger(__name__)

TIMED = 10  # recordings for timing the prediction


def row_of(planned: PlannedRun) -> dict[str, object]:
    """The row of ``contest.csv`` for a finished run."""
    summary = summary_of(planned)
    return {
        "recipe": planned.recipe,
        "seed": planned.seed,
        "fold": planned.fold,
        **{name: summary[f"test_{name}"] for name in METRICS},
        "training_seconds": summary["seconds"],
        **{name: summary[name] for name in ("n_classes", "n_train", "n_test")},
        "run": str(planned.run),
    }


def pooled(runs: Iterable[Path]) -> dict[str, float | None]:
    """The metrics over the test recordings of all ``runs`` together, by the names of METRICS.

    Raises:
        DataError: the classes of the runs differ, or a recording is tested twice.
    """
    runs = list(runs)
    labels = [labels_of(run) for run in runs]
    for run, classes in zip(runs, labels, strict=True):
        if classes != labels[0]:
            raise DataError(f"{run}: its classes differ from those of {runs[0]}, so they cannot be pooled")
    table = pd.concat([scores_of(run)[labels[0]] for run in runs])
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise DataError(f"{runs[0]}: it tests {twice}, and so does another run; these are not the folds of one contest")
    truth = pd.concat([tested_of(run).set_index("filename")["label"] for run in runs])
    targets = [[label in truth[name].split(SEPARATOR) for label in labels[0]] for name in table.index]
    return scores(np.array(targets), table.to_numpy(), prefix="")


def costs_of(
    recipe: str, finished: Iterable[PlannedRun], config: Config, backend: str
) -> dict[str, float | str | None]:
    """Parameters of a recipe's network, and its prediction in x real time; None if that cannot be measured."""
    costs = {"parameters": None, "speed": None, "backend": None}
    problem = None
    for run in (planned.run for planned in finished if planned.recipe == recipe):
        try:
            checkpoint = checkpoint_of(run)
            network, *_ = network_of(checkpoint)
            costs["parameters"] = sum(parameter.numel() for parameter in network.parameters())
            costs["speed"], costs["backend"] = time_prediction(checkpoint, config, backend)
            return costs
        except UserError as error:  # another run may work; if none does, the scores are reported nevertheless
            problem = problem or error
    if problem:
        log.warning("%s: its costs cannot be measured: %s", recipe, problem)
    return costs


def time_prediction(checkpoint: Path, config: Config, backend: str) -> tuple[float, str]:
    """Seconds of sound scored per second, from files to scores, the best of three after a warm-up; and the backend."""
    paths = load_table(config)["path"].tolist()
    paths = paths[:: max(1, len(paths) // TIMED)][:TIMED]
    predictor = Predictor(checkpoint, backend=backend)
    rounds = []
    for _ in range(4):
        started = time.perf_counter()
        seconds = sum(getattr(result, "seconds", 0.0) for _, result in predictor.predict_files(paths))
        rounds.append(seconds / (time.perf_counter() - started))
    return max(rounds[1:]), predictor.models[0].backend


def result_of(recipe: str, finished: Iterable[PlannedRun], folds: int, costs: dict) -> dict[str, object]:
    """The result of a recipe: each metric pooled and by fold, as (mean, spread), and its costs."""
    runs_of_recipe = [planned for planned in finished if planned.recipe == recipe]
    runs_of_seed: dict[int, list[Path]] = {}
    for planned in runs_of_recipe:
        runs_of_seed.setdefault(planned.seed, []).append(planned.run)
    of_seeds = [pooled(runs) for runs in runs_of_seed.values() if len(runs) == folds]  # without incomplete seeds
    summaries = [summary_of(planned) for planned in runs_of_recipe]
    return {
        "name": recipe,
        "runs": len(runs_of_recipe),
        **{name: mean_and_spread(one[name] for one in of_seeds) for name in METRICS},
        **{f"fold_{name}": mean_and_spread(one[f"test_{name}"] for one in summaries) for name in METRICS},
        "seconds": mean_and_spread(one["seconds"] for one in summaries)[0],
        **costs,
    }


def mean_and_spread(values: Iterable[float | None]) -> tuple[float | None, float | None]:
    """The mean, and the standard deviation of the sample; None if there are too few values."""
    known = [value for value in values if value is not None]
    mean = statistics.mean(known) if known else None
    return mean, statistics.stdev(known) if len(known) > 1 else None


def warn_of_other_recordings(finished: Iterable[PlannedRun]) -> None:
    """Warn of recipes that are not tested on the recordings of the first, because their scores cannot be compared."""
    first_of_fold: dict[int, tuple[str, set[str]]] = {}
    reported = set()
    for planned in finished:
        tested = set(tested_of(planned.run)["filename"])
        first, expected = first_of_fold.setdefault(planned.fold, (planned.recipe, tested))
        if tested != expected and planned.recipe not in reported:
            reported.add(planned.recipe)
            log.warning(
                "%s: fold %d differs from that of %s (%s, not %d); compare them with care",
                planned.recipe, planned.fold, first, counted(len(tested), "recording"), len(expected),
            )  # fmt: skip


def as_text(results: Sequence[dict], folds: int, seeds: int, rows: Sequence[dict]) -> str:
    """The table, best recipe first, and what its figures mean; as Markdown."""
    names = [*METRICS.values()]
    by_fold = [f"{name}, by fold" for name in names]
    head = ["recipe", *names, *by_fold, "parameters", "training s", "x real time", "runs"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for result in sorted(results, key=lambda one: -(one["macro_auc"][0] or 0.0)):
        cells = [_plus_minus(*result[name]) for name in (*METRICS, *(f"fold_{name}" for name in METRICS))]
        costs = {"parameters": ",", "seconds": ".1f", "speed": ".0f"}
        cells += [as_number(result[name], form) for name, form in costs.items()]
        lines.append(f"| {' | '.join([result['name'], *cells, str(result['runs'])])} |")
    tested = pd.DataFrame(rows).groupby(["recipe", "seed"])["n_test"].sum().max()  # a damaged run has no row
    backends = ", ".join(sorted({str(result["backend"]) for result in results if result["backend"]}))
    return "\n".join(
        [
            *lines,
            "",
            f"{folds} folds, {seeds} seeds; {rows[0]['n_classes']} classes, {tested} recordings. "
            "The first scores are pooled over the folds of a seed (mean ± standard deviation over seeds), those "
            "by fold are the mean over folds and seeds. "
            f"Training: seconds of one run, while as many ran as --jobs said. Prediction: {backends}. "
            f"On {cores()} CPU cores.",
            "",
        ]
    )


def _plus_minus(mean: float | None, spread: float | None) -> str:
    return as_number(mean) if spread is None else f"{as_number(mean)} ± {as_number(spread)}"
