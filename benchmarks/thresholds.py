"""Do thresholds that are fitted for a precision hold it on recordings that they were not fitted on?

    python train_classifier.py --config configs/birdnet.ini --folds 5
    python -m benchmarks.thresholds --runs FOLDER [--precision 0.9] [--min-windows 20] [--confidence 0.9 ...]

FOLDER was written by ``--folds``. The scores of its windows are out of fold: each recording is scored by the run that
was not trained on it, and folds consist of complete groups (recordist and place). Thresholds and calibration are fitted
on four folds, as by evaluate.py --fit-thresholds, and tested on the fifth, each fold in turn.

A class counts if it has at least ``--min-windows`` positive windows in the four folds. It *holds* the precision in the
fifth if the interval of its precision there (bootstrap over groups) reaches the stated precision. A class without a
detection there (silent) cannot be tested. ``--confidence`` tries other values of ``evaluation.thresholds.CONFIDENCE``.
"""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

import evaluation.thresholds as fitting
from evaluation.calibration import calibrate, fit_curves, reliability
from evaluation.intervals import draw_weights, share_interval
from evaluation.scores import evaluate
from evaluation.table import ScoreTable, concatenate
from inference.run_scores import score_subset
from inference.run_tables import runs_by_seed
from utils.command import run_command
from utils.errors import DataError

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    (runs, *others) = runs_by_seed([options.runs]).values()
    if others:
        log.warning("%s: only the first of %d seeds is used", options.runs, 1 + len(others))
    if len(runs) < 2:
        raise DataError(f"{options.runs}: this is a single run; name a folder of folds")
    folds = [score_subset(run, "test", window_s=options.window_s, backend=options.backend) for run in runs]
    print(as_text(folds, options.precision, options.min_windows, options.confidence))
    return 0


def as_text(folds: Sequence[ScoreTable], precision: float, min_windows: int, confidences: Sequence[float]) -> str:
    """The table: a line for each confidence, and the calibration."""
    table = concatenate(list(folds))
    lines = [
        f"{len(table.scores):,} windows of {len(table.recordings)} recordings, {table.n_groups} groups in {len(folds)} "
        f"folds; {len(table.labels)} classes; classes of at least {min_windows} positive windows; a precision of "
        f"{precision:g}",
        "",
        "| confidence | class x fold | refused | silent | judged | hold it | precision, all together | recall |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for confidence in confidences:
        rows = judge_folds(folds, precision, min_windows, confidence)
        judged, refused = rows[rows["detections"] > 0], int(rows["threshold"].isna().sum())
        # A class counts as one trial in each fold.
        low, high = share_interval(int(judged["holds"].sum()), len(judged))
        lines.append(
            f"| {confidence:g} | {len(rows)} | {refused} | {len(rows) - len(judged) - refused} | {len(judged)} "
            f"| {judged['holds'].mean():.3f} [{low:.3f}, {high:.3f}] "
            f"| {judged['true'].sum() / judged['detections'].sum():.3f} "
            f"| {rows['true'].sum() / rows['positives'].sum():.3f} |"
        )
    before, after = calibrate_folds(folds)
    lines += ["", "| calibration error | before | after |", "|---|---|---|"]
    for name, attribute in (("all windows x classes", "error"), ("highest class of a window", "error_of_highest")):
        lines.append(f"| {name} | {getattr(before, attribute)} | {getattr(after, attribute)} |")
    return "\n".join(lines)


def judge_folds(folds: Sequence[ScoreTable], precision: float, min_windows: int, confidence: float) -> pd.DataFrame:
    """A row for each class and fold, with the result of the threshold that was fitted on the other folds."""
    usual = fitting.CONFIDENCE
    fitting.CONFIDENCE = confidence
    try:
        return pd.concat([_judge(folds, number, precision, min_windows) for number in range(len(folds))])
    finally:
        fitting.CONFIDENCE = usual


def _judge(folds: Sequence[ScoreTable], number: int, precision: float, min_windows: int) -> pd.DataFrame:
    others = concatenate([fold for other, fold in enumerate(folds) if other != number])
    fitted = fitting.fit(others, "precision", precision)
    found = evaluate(folds[number], fitted.thresholds, threshold_name="fitted", resamples=200).classes
    positives = (folds[number].targets == 1).sum(axis=0)
    frame = found[["label", "threshold", "detections"]].assign(
        true=(found["detections"] * found["precision"].fillna(0)).round(),
        positives=positives,
        # With fewer than three groups there is no interval, so the precision itself is used.
        holds=found["precision_high"].fillna(found["precision"]) >= precision,
    )
    return frame[(others.targets == 1).sum(axis=0) >= min_windows]


def calibrate_folds(folds: Sequence[ScoreTable]):
    """The reliability of all scores, before and after calibration on the other folds."""
    calibrated = []
    for number, fold in enumerate(folds):
        curves = fit_curves(concatenate([one for other, one in enumerate(folds) if other != number]))
        calibrated.append(replace(fold, scores=calibrate(curves, fold.scores)))
    weights = draw_weights(concatenate(list(folds)).n_groups)
    return [reliability(concatenate(list(tables)), weights) for tables in (folds, calibrated)]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.thresholds", description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, required=True, metavar="FOLDER", help="the folder that --folds wrote")
    parser.add_argument("--precision", type=float, default=0.9, help="default: %(default)s")
    parser.add_argument("--min-windows", type=int, default=20, help="positive windows of a class; default: %(default)s")
    usual = [fitting.CONFIDENCE]
    parser.add_argument("--confidence", type=float, nargs="+", default=usual, help="default: %(default)s")
    parser.add_argument("--window-s", type=float, help="default: as trained")
    parser.add_argument("--backend", default="auto")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
