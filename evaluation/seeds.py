"""How are runs that differ only in their seed scored? By the mean of their scores, and each seed alone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from evaluation.scores import NAMES, evaluate
from evaluation.table import ScoreTable
from utils.errors import DataError


def mean_over_seeds(tables: Sequence[ScoreTable]) -> ScoreTable:
    """The mean of the scores of several runs for the same rows, as in ``predict.py`` with several runs.

    Args:
        tables: of runs with other seeds; recordings that one of them lacks are left out.

    Raises:
        DataError: they have other classes or other rows.
    """
    first, *others = tables
    shared = set(first.recordings).intersection(*(table.recordings for table in others))
    order = {name: position for position, name in enumerate(name for name in first.recordings if name in shared)}
    scores, rows_of_tables = [], []
    for table in tables:
        position = np.array([order.get(name, -1) for name in table.recordings])[table.recording]
        rows = np.argsort(position, kind="stable")[(position < 0).sum() :]
        rows_of_tables.append(rows)
        scores.append(table.scores[rows])
        same = table.labels == first.labels and len(rows) == len(rows_of_tables[0])
        if not same or (table.targets[rows] != first.targets[rows_of_tables[0]]).any():
            raise DataError(f"{table.source}: its classes or rows are not those of {first.source}, of another seed")
    return replace(first.choose(rows_of_tables[0]), scores=np.mean(scores, axis=0))


def figures_of_seeds(tables: Mapping[int, ScoreTable]) -> dict[str, dict[int, float]]:
    """Macro AUC and top-1 of the runs of each seed alone, by figure and seed; without a figure that one lacks."""
    overall = {seed: evaluate(table, resamples=0).overall for seed, table in tables.items()}
    figures = {name: {seed: one[name].value for seed, one in overall.items()} for name in ("macro_auc", "top1")}
    return {name: values for name, values in figures.items() if values and None not in values.values()}


def lines_of_seeds(figures: Mapping[str, Mapping[int, float]]) -> list[str]:
    """``figures_of_seeds`` as text, with the mean and the standard deviation of the sample."""
    return [
        f"each seed alone, {NAMES[name]}: {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} "
        f"({', '.join(f'{value:.3f}' for value in values)})"
        for name, of_seeds in figures.items()
        if len(values := list(of_seeds.values())) > 1
    ]
