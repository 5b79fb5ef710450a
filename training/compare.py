"""What differs between runs, in their settings and in their scores?

    python -m training.compare RUN RUN ...

A run is a run folder, or a folder of folds, whose scores are pooled. If two were tested on the same recordings, the
difference of their scores has an interval, by a bootstrap over the same draws of recordists and places.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.intervals import Estimate, draw_weights, estimate
from evaluation.ranking import mean_of_rows, rank_classes, rank_rows
from evaluation.scores import evaluate
from evaluation.table import ScoreTable
from inference.run_tables import runs_by_seed
from training.run_page import pooled_scores
from utils.command import run_command
from utils.config import differences, load_config
from utils.errors import DataError, counted
from utils.run_folder import CONFIG
from utils.settings import Config

_SHOWN = {"macro_auc": "macro AUC", "cmap": "cmAP", "top1": "top-1"}


def differing_settings(configs: Sequence[Config]) -> list[tuple[str, list[Any]]]:
    """The settings in which any of the runs differ, with the value of each run."""
    changed = {
        (section, key)
        for other in configs[1:]
        for section, key, before, after in differences(configs[0], other)
        if (section, key) != ("data", "fold") and not isinstance(before or after, Path)
    }
    return [
        (f"[{section}] {key}", [getattr(config.section(section), key) for config in configs])
        for section, key in sorted(changed)
    ]


def difference(one: ScoreTable, other: ScoreTable) -> dict[str, Estimate] | None:
    """``other`` minus ``one``; None if they were not tested on the same recordings and classes."""
    if one.labels != other.labels or set(one.recordings) != set(other.recordings):
        return None
    rows = {name: row for row, name in enumerate(other.recordings)}
    order = np.array([rows[name] for name in one.recordings])
    weights, group = draw_weights(one.n_groups), one.group_of_rows
    figures = [_resampled(one.targets, scores, group, weights) for scores in (one.scores, other.scores[order])]
    return {name: estimate(figures[1][name] - figures[0][name], one.n_groups) for name in _SHOWN}


def _resampled(
    targets: np.ndarray, scores: np.ndarray, group: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Each figure on the data and on every draw, ``(1 + resamples,)``."""
    ranking = rank_classes(targets, scores, group, weights)
    present = (targets == 1).any(axis=0) & (targets == 0).any(axis=0)
    return {
        "macro_auc": _mean(ranking.auc[present]),
        "cmap": _mean(ranking.average_precision[present]),
        "top1": mean_of_rows(rank_rows(targets, scores)["top1"], group, weights),
    }


def _mean(of_classes: np.ndarray) -> np.ndarray:
    """The mean over the classes that can be scored in a draw, ``(1 + resamples,)``; NaN if there is none."""
    counted = np.isfinite(of_classes)
    with np.errstate(invalid="ignore"):
        return np.where(counted, of_classes, 0).sum(axis=0) / counted.sum(axis=0)


def report(paths: Sequence[Path]) -> str:
    """The comparison as text.

    Raises:
        DataError: a run has no test scores.
    """
    tables, configs = [], []
    for path in paths:
        by_seed = runs_by_seed([path])
        configs.append(load_config(next(iter(by_seed.values()))[0] / CONFIG))
        table = pooled_scores(by_seed)
        if table is None:
            raise DataError(f"{path}: there are no test scores to compare; train it with a test subset")
        tables.append(table)
    names = [chr(ord("A") + number) for number in range(len(paths))]
    lines = [f"{name}  {path}" for name, path in zip(names, paths, strict=True)]
    settings = differing_settings(configs)
    lines += ["", "settings that differ:" if settings else "no setting differs"]
    for setting, values in settings:
        lines.append(f"  {setting}: " + ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True)))
    lines += ["", "scores, with 95 % intervals:"]
    for name, table in zip(names, tables, strict=True):
        found = evaluate(table).overall
        figures = ", ".join(f"{metric} {found[key]}" for key, metric in _SHOWN.items())
        lines.append(f"  {name}: {figures} ({counted(len(table.recordings), 'recording')})")
    for name, table in zip(names[1:], tables[1:], strict=True):
        found = difference(tables[0], table)
        if found is None:
            lines.append(f"  {name} - A: tested on different recordings or classes; with data.folds they are the same")
            continue
        figures = ", ".join(f"{metric} {_signed(found[key])}" for key, metric in _SHOWN.items())
        lines.append(f"  {name} - A: {figures}")
    return "\n".join(lines)


def _signed(change: Estimate) -> str:
    if change.value is None:
        return "-"
    return f"{change.value:+.3f}" + (f" [{change.low:+.3f}, {change.high:+.3f}]" if change.low is not None else "")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.compare", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="+", metavar="RUN", help="two or more run folders, or folders of folds")
    options = parser.parse_args(arguments)
    if len(options.run) < 2:
        parser.error("give at least two runs")
    if len(options.run) > 26:
        parser.error("give at most 26 runs")
    print(report(options.run))
    return 0


if __name__ == "__main__":
    run_command(main)
