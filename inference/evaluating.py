"""What are the steps of evaluate.py? Find scores and labels, apply thresholds, and report.

A table of another tool is evaluated without importing torch, which takes seconds.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evaluation import reading
from evaluation.decisions import Decisions, aim_of
from evaluation.matching import Truth, match, truth_of
from evaluation.output import as_text, write
from evaluation.scores import DEFAULT_THRESHOLD, Evaluation, evaluate
from evaluation.seeds import figures_of_seeds, lines_of_seeds, mean_over_seeds
from inference.run_tables import read_run_table, runs_by_seed
from inference.scored import Scored
from utils.errors import DataError, UserError
from utils.files import must_be_writable
from utils.run_folder import SPLIT

if TYPE_CHECKING:  # it takes a second to import
    import pandas as pd

log = logging.getLogger(__name__)

_WINDOW_S = 5.0  # of a row of labels with times, unless --window-s is given


def load(options: argparse.Namespace) -> list[Scored]:
    """The scores to evaluate, or to fit thresholds on: one, or to fit on one for each seed of a folder of runs.

    Raises:
        UserError: there is nothing to evaluate, or scores and labels do not match.
    """
    if options.output is not None:
        must_be_writable(options.output / "scores.json")
    if options.predictions is not None:
        return [load_tables(options)]
    if options.data is not None:
        return [score_data(options)]
    from inference.run_scores import score_runs

    how = {"to_fit": options.fit_thresholds, "window_s": options.window_s, "backend": options.backend}
    of_seeds = {seed: score_runs(seed, runs, **how) for seed, runs in runs_by_seed(options.run).items()}
    if len(of_seeds) == 1 or options.fit_thresholds:  # thresholds belong to weights, so each seed has its own
        return list(of_seeds.values())
    return [pool_seeds(of_seeds)]


def pool_seeds(of_seeds: Mapping[int, Scored]) -> Scored:
    """The mean of the scores of several seeds, as on the page of the runs and in predict.py."""
    tables = {seed: scored.table for seed, scored in of_seeds.items()}
    runs = tuple(run for scored in of_seeds.values() for run in scored.runs)
    name = f"{len(runs)} runs, the scores of each recording averaged over {len(of_seeds)} seeds"
    window_s = max(scored.window_s for scored in of_seeds.values())
    return Scored(mean_over_seeds(list(tables.values())), runs, None, window_s, name, tables)


def load_tables(options: argparse.Namespace) -> Scored:
    """``--predictions`` and ``--labels``: the scores of any tool, with the labels of the same rows."""
    with ThreadPoolExecutor(2) as pool:  # pandas reads a table without holding the interpreter
        predicted = pool.submit(reading.read_table, options.predictions)
        truth = read_truth(options.labels, options.window_s, options.overrides)
        predictions = predicted.result()
    table, remarks = match(truth, predictions)
    for remark in remarks:
        log.warning("%s: %s", options.predictions, remark)
    return Scored(table, name=f"{options.predictions} against {options.labels}")


def read_truth(path: Path, window_s: float | None, overrides: Sequence[str]) -> Truth:
    """Read labels: a table of ``row_id`` and a column for each class, or a data set in any known layout.

    Args:
        window_s, overrides: as of ``--window-s`` and ``--set``.

    Raises:
        DataError: it is neither.
    """
    if path.is_dir():
        from inference.truth import read_data, truth_of_data

        config, data = read_data(path, overrides)
        return truth_of_data(data, window_s or _WINDOW_S, config.data.min_overlap_s, str(path))
    wide = reading.read_table(path)
    if not isinstance(wide, reading.Wide):
        raise DataError(
            f"{path}: a table of labels must have row_id and a column of 0 and 1 for each class; for annotations name "
            "the folder with the recordings"
        )
    return truth_of(wide)


def score_data(options: argparse.Namespace) -> Scored:
    """``--run RUN --data DIR``: the recordings of the folder, scored by the run.

    Raises:
        DataError: none of its species is a class of the run.
    """
    from inference.predictor import Predictor
    from inference.run_scores import score_recordings
    from inference.thresholds import decisions_of
    from inference.truth import read_data

    if len(options.run) > 1:
        raise UserError("--data needs exactly one --run")
    (run,) = options.run
    config, data = read_data(options.data, options.overrides)
    warn_of_training_recordings(run, data)
    predictor = Predictor(run, window_s=options.window_s, backend=options.backend)
    present, known = {label for labels in data["labels"] for label in labels}, set(predictor.labels)
    if not present & known:
        raise DataError(
            f"{options.data}: none of its {len(present)} species is a class of {run}, such as {predictor.labels[0]}; "
            f"they are {', '.join(sorted(present)[:5])}"
        )
    if foreign := sorted(present - known):
        log.warning(
            "%s: the run does not know %d of the %d species, which are left out: %s",
            options.data, len(foreign), len(present), ", ".join(foreign),
        )  # fmt: skip
    table = score_recordings(predictor, data, config.data.min_overlap_s, str(options.data))
    return Scored(table, (run,), decisions_of(run), predictor.grid.window_s, f"{run.name} on {options.data}")


def warn_of_training_recordings(run: Path, data: "pd.DataFrame") -> None:
    """Warn if the run was trained on recordings with these names."""
    if not (run / SPLIT).is_file():
        return
    split = read_run_table(run / SPLIT)
    trained = {reading.stem_of(name) for name in split.loc[split["split"] != "test", "filename"]}
    if known := [name for name in data["filename"] if reading.stem_of(name) in trained]:
        log.warning(
            "%d of %d recordings have the names of recordings that %s was trained or validated on, the first is %s: "
            "their scores do not show how it does on new ones", len(known), len(data), run, known[0],
        )  # fmt: skip


def judge(options: argparse.Namespace, scored: Scored) -> Evaluation:
    """Evaluate a table with the thresholds of the options, of the run, or the default.

    Raises:
        UserError: the options name thresholds of the run, but it has none.
    """
    aim = _aim_of(options, scored)
    thresholds, name = DEFAULT_THRESHOLD if options.threshold is None else options.threshold, None
    if aim is not None:
        thresholds, name = scored.thresholds_for(aim)
    table, decisions = scored.table, scored.decisions
    if options.calibrated:
        if decisions is None:
            raise UserError(
                "--calibrated: no calibration was fitted; fit it with: python evaluate.py --run RUN --fit-thresholds"
            )
        thresholds = _calibrated(decisions, thresholds) if aim is not None else thresholds
        table = replace(table, scores=decisions.probabilities(table.scores))
    return evaluate(
        table, thresholds, threshold_name=name, min_positives=options.min_positives, all_scored=len(scored.runs) > 1
    )


def _aim_of(options: argparse.Namespace, scored: Scored) -> str | None:
    """The aim whose fitted thresholds are applied; None for a plain threshold.

    Raises:
        UserError: the options name thresholds of the run, but it has none, or there are several seeds.
    """
    decisions, wanted = scored.decisions, options.threshold == "auto" or options.aim is not None
    if scored.of_seeds and (wanted or options.calibrated):
        seed = next(iter(scored.of_seeds))
        raise UserError(
            f"thresholds and calibration belong to the runs of one seed, but these have {len(scored.of_seeds)}; name "
            f"those of one, such as --run {options.run[0]}/seed{seed}-*"
        )
    if wanted and decisions is None:
        source = scored.runs[0] if scored.runs else options.predictions
        raise UserError(f"{source}: it has no thresholds; fit them with: python evaluate.py --run RUN --fit-thresholds")
    if options.aim is not None:
        return aim_of(*options.aim)
    fitted = options.threshold is None and decisions is not None and decisions.fits
    return "auto" if options.threshold == "auto" or fitted else None


def _calibrated(decisions: Decisions, thresholds: np.ndarray) -> np.ndarray:
    """Thresholds of scores as thresholds of probabilities; NaN stays NaN."""
    values = decisions.probabilities(np.nan_to_num(thresholds, nan=0.5)[None])[0]
    return np.where(np.isnan(thresholds), np.nan, values)


def report(options: argparse.Namespace, scored: Scored, evaluation: Evaluation) -> None:
    """Print the tables, and write the files to ``--output``."""
    print(f"{scored.name}: {as_text(evaluation)}")
    of_seeds = figures_of_seeds(scored.of_seeds)
    print("".join(f"{line}\n" for line in lines_of_seeds(of_seeds)), end="")
    if options.output is not None:
        about = {"name": scored.name, "runs": [str(run) for run in scored.runs]}
        write(evaluation, options.output, about | ({"each_seed": of_seeds} if of_seeds else {}))
        print(f"scores: {options.output}")
