"""How many recordings of a species does each recipe need?

    python -m benchmarks.few_shot --recipes configs/birdnet.ini [...] [--shots 1 2 5 10 all] [--folds 5] [--draws 3]
                                  [--jobs 1] [--reference] [--output runs/few_shot] [--set section.key=value ...]

Every recipe is trained with the same number of recordings of each class ([data] train_per_class), on every fold of
whole groups, and several times with other recordings (a draw is a seed). They are drawn from the other folds, and the
test fold is used completely. Each run is an ordinary run folder, ``DIR/<recipe>/<shots>/seed1-fold1/<run>``; to
continue after a stop, repeat the command. The recordings of all folds of a draw are scored together: macro AUC, cmAP
and top-1, with the standard deviation over draws, and the seconds of a run, without those of the embeddings or
spectrograms, which all runs share.

DIR then has few_shot.csv (a row for each draw), few_shot.md (the table) and few_shot.png (with error bars).
BirdNET learned from xeno-canto among others: on recordings from there its scores are upper bounds.
"""

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import logit, softmax

from benchmarks.reference import reference_scores
from training.folds import alone_in, train_all
from training.planned_runs import METRICS, PlannedRun, planned_run, scores_of, summary_of, tested_of
from utils.arguments import at_least
from utils.command import run_command
from utils.errors import UserError
from utils.files import write_text
from utils.metrics import scores
from utils.run_folder import SEPARATOR
from utils.visualise import save_png

log = logging.getLogger(__name__)

ALL = "all"
_LEAST_SCORE = 1e-7  # scores of 0 and 1 have no finite logit


def runs_of_draw(recipe: Path, shots: str, draw: int, options: argparse.Namespace) -> list[PlannedRun]:
    """The runs of all folds, with the same number of recordings of each class, drawn by the same seed."""
    own = (
        f"data.output_dir={options.output / 'cache'}",
        f"data.hash_path={options.output / 'last_key'}",
        f"data.train_per_class={0 if shots == ALL else shots}",
    )
    plan = []
    for fold in range(1, options.folds + 1):
        folder = options.output / recipe.stem / shots / f"seed{draw}-fold{fold}"
        plan.append(planned_run(recipe, draw, fold, options.folds, folder, (*own, *options.overrides)))
    return plan


def pooled(
    runs: Sequence[PlannedRun], scores_of: Callable[[PlannedRun], pd.DataFrame]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets and scores ``(recordings, classes)`` of the recordings of all folds of a draw, and their groups."""
    of_folds, targets, groups = [], [], []
    for planned in runs:
        table, tested = scores_of(planned), tested_of(planned.run).set_index("filename")
        labels = tested["label"].str.split(SEPARATOR)
        of_folds.append(table)
        truth = {name: [name in labels[recording] for recording in table.index] for name in table.columns}
        targets.append(pd.DataFrame(truth, index=table.index))
        groups.extend(tested.loc[table.index, "group"])
    # A class without a training recording in a fold has no column there; its score is 0.
    pooled_scores = pd.concat(of_folds).fillna(0.0)
    targets = pd.concat(targets).reindex(columns=pooled_scores.columns).fillna(False)
    return targets.to_numpy(dtype=float), pooled_scores.to_numpy(), np.array(groups)


def row_of(runs: Sequence[PlannedRun]) -> dict[str, float]:
    """The scores of a draw, and the mean seconds of a run."""
    targets, of_runs, _ = pooled(runs, lambda planned: scores_of(planned.run))
    return scores(targets, of_runs, "") | {"seconds": float(np.mean([summary_of(one)["seconds"] for one in runs]))}


def compared(runs: Sequence[PlannedRun], resamples: int = 300) -> dict[str, str]:
    """How much better than scikit-learn's are the scores of a draw? With 95 % intervals by bootstrap over groups.

    A softmax lets species compete, as scikit-learn's does, which is right for recordings of one species each. Ours are
    sigmoids, as several species may sing at once; so they are compared as they are, and after a softmax.
    """
    targets, ours, groups = pooled(runs, lambda planned: scores_of(planned.run))
    _, reference, _ = pooled(runs, reference_scores)
    rng, names = np.random.default_rng(0), np.unique(groups)
    drawn = [rng.choice(names, len(names)) for _ in range(resamples)]
    rows = [np.arange(len(groups)), *(np.concatenate([np.flatnonzero(groups == name) for name in of]) for of in drawn)]
    theirs = [scores(targets[one], reference[one], "") for one in rows]
    lines = {"scikit-learn": ", ".join(f"{name} {theirs[0][metric]:.3f}" for metric, name in METRICS.items())}
    competing = softmax(logit(np.clip(ours, _LEAST_SCORE, 1 - _LEAST_SCORE)), axis=1)
    for what, compared_scores in (("ours", ours), ("ours after a softmax", competing)):
        figures = []
        for metric, name in METRICS.items():
            differences = [
                scores(targets[one], compared_scores[one], "")[metric] - reference_figures[metric]
                for one, reference_figures in zip(rows, theirs, strict=True)
            ]
            low, high = np.percentile(differences[1:], [2.5, 97.5])
            figures.append(f"{name} {differences[0]:+.3f} [{low:+.3f}, {high:+.3f}]")
        lines[what] = ", ".join(figures)
    return lines


def table_of(rows: pd.DataFrame) -> str:
    """The table: a line for each recipe and number of recordings, mean and standard deviation over draws."""
    lines = [
        "| recipe | recordings a class | draws | macro AUC | cmAP | top-1 | seconds a run |",
        "|---|---|---|---|---|---|---|",
    ]
    for (recipe, shots), group in rows.groupby(["recipe", "shots"], sort=False):
        figures = []
        for name in METRICS:
            spread = f" ± {group[name].std(ddof=1):.3f}" if len(group) > 1 else ""
            figures.append(f"{group[name].mean():.3f}{spread}")
        lines.append(f"| {recipe} | {shots} | {len(group)} | {' | '.join(figures)} | {group['seconds'].mean():.0f} |")
    return "\n".join(lines) + "\n"


def draw_scores(rows: pd.DataFrame):
    """Macro AUC and top-1 by recordings a class, with the standard deviation over draws as error bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    order = list(dict.fromkeys(rows["shots"]))
    for axes, name in zip(figure.subplots(1, 2), ("macro_auc", "top1"), strict=True):
        for recipe, group in rows.groupby("recipe", sort=False):
            by_shots = group.groupby("shots", sort=False)[name]
            positions = [order.index(shots) for shots in by_shots.mean().index]
            axes.errorbar(
                positions, by_shots.mean(), by_shots.std(ddof=1).fillna(0.0), marker="o", capsize=3, label=recipe
            )
        axes.set(xlabel="recordings a class", ylabel=METRICS[name], xticks=range(len(order)), xticklabels=order)
        axes.grid(alpha=0.3)
    axes.legend()
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    draws = {
        (recipe, shots, draw): runs_of_draw(recipe, shots, draw, options)
        for draw in range(1, options.draws + 1)
        for shots in options.shots
        for recipe in options.recipes
    }
    options.output.mkdir(parents=True, exist_ok=True)
    with alone_in(options.output) as lock:
        failed = train_all([run for runs in draws.values() for run in runs], lock, options.jobs)
    rows = [
        {"recipe": recipe.stem, "shots": shots, "draw": draw, **row_of(draws[recipe, shots, draw])}
        for recipe in options.recipes
        for shots in options.shots
        for draw in range(1, options.draws + 1)
        if all(run.is_finished for run in draws[recipe, shots, draw])
    ]
    if not rows:
        raise UserError(f"{options.output}: no draw has all its folds; see the lines above")
    frame = pd.DataFrame(rows)
    write_text(options.output / "few_shot.csv", frame.to_csv(index=False, lineterminator="\n"))
    write_text(options.output / "few_shot.md", table_of(frame))
    save_png(draw_scores(frame), options.output / "few_shot.png")
    print(table_of(frame))
    if options.reference:
        for (recipe, shots, draw), runs in draws.items():
            if draw == 1 and all(run.is_finished for run in runs):
                for what, figures in compared(runs).items():
                    print(f"{recipe.stem}, {shots} a class, draw 1, {what}: {figures}", flush=True)
    return 1 if failed else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few_shot", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--recipes", type=lambda text: Path(text).absolute(), nargs="+", required=True, metavar="INI")
    add("--shots", type=_shots, nargs="+", default=["1", "2", "5", "10", ALL], metavar="N", help="a number, or all")
    add("--folds", type=at_least(2), default=5)
    add("--draws", type=at_least(1), default=3)
    add(
        "--reference", action="store_true",
        help="for heads on encoders: compare with scikit-learn's logistic regression on the same mean embeddings",
    )  # fmt: skip
    add("--jobs", type=at_least(1), default=1, help="runs trained at once; default: %(default)s")
    add("--output", type=lambda text: Path(text).absolute(), default=Path("runs/few_shot").absolute(), metavar="DIR")
    add("--set", dest="overrides", metavar="section.key=value", action="append", default=[], help="for all recipes")
    return parser.parse_args(arguments)


def _shots(text: str) -> str:
    if text != ALL and not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number above 0 nor {ALL}")
    return text


if __name__ == "__main__":
    run_command(main)
