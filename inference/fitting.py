"""How are thresholds and a calibration fitted for a run? On its validation subset, or on the scores of all folds."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from evaluation.calibration import fit_curves
from evaluation.decisions import Decisions, Fit, aim_of
from evaluation.thresholds import fit
from inference.checkpoints import checkpoint_of
from inference.scored import Scored
from inference.thresholds import decisions_of
from utils.files import file_digest
from utils.run_folder import THRESHOLDS


def fit_thresholds(scores: Iterable[Scored], kind: str, value: float | None) -> list[Path]:
    """Fit thresholds and a calibration on these scores, and save them beside the weights of each run.

    Thresholds for other aims stay, if they were fitted on the same recordings.

    Args:
        kind, value: the aim, as of ``evaluation.thresholds.fit``.

    Returns:
        The files that were written.
    """
    written = []
    for scored in scores:
        thresholds, curves = fit(scored.table, kind, value), tuple(fit_curves(scored.table))
        aim = aim_of(kind, value)
        print(as_text(aim, scored, thresholds, [curve.kind for curve in curves]))
        for run in scored.runs:
            digest = file_digest(checkpoint_of(run))
            decisions = Decisions(scored.table.labels, digest, scored.name, scored.window_s, curves)
            earlier = decisions_of(run)
            if earlier is not None and (earlier.fitted_on, earlier.window_s) == (scored.name, scored.window_s):
                for other, its_thresholds in earlier.fits.items():
                    decisions = decisions.with_fit(other, its_thresholds)
            decisions.with_fit(aim, thresholds).save(run / THRESHOLDS)
            written.append(run / THRESHOLDS)
    return written


def as_text(aim: str, scored: Scored, thresholds: Fit, curves: list[str]) -> str:
    """The threshold of each class, or why it has none; and the kinds of the calibration curves."""
    table = scored.table
    counts = ", ".join(f"{curves.count(kind)} {kind}" for kind in dict.fromkeys(curves))
    lines = [
        f"fitted on {scored.name}: {len(table.scores):,} windows of {len(table.recordings)} recordings, "
        f"{table.n_groups} groups ({table.grouped_by})",
        f"calibration by class: {counts} (pooled: too few positives, fitted over all classes)",
        f"thresholds for {aim.replace('_', ' ')}: {np.isfinite(thresholds.thresholds).sum()} of {len(table.labels)} "
        "classes",
    ]
    for label, threshold in zip(table.labels, thresholds.thresholds, strict=True):
        text = f"refused: {thresholds.refused[label]}" if np.isnan(threshold) else f"{threshold:.4f}"
        shared = " (shared by classes with few positives)" if label in thresholds.pooled else ""
        lines.append(f"  {label}: {text}{shared}")
    return "\n".join(lines)
