"""What does the page of a run show? The files of a run, or of all folds, become the input of ``reports.run``."""

import argparse
import json
import logging
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dataloader.cache.entries import read_index
from dataloader.metadata import load_table
from dataloader.tables.splits import SPLITS
from evaluation.seeds import mean_over_seeds
from evaluation.table import ScoreTable, concatenate
from inference.run_scores import score_runs
from inference.run_tables import read_run_table, read_test_scores, runs_by_seed
from inference.thresholds import decisions_of
from training.recordings import cache_folder
from utils.command import run_command
from utils.config import differences, load_config
from utils.errors import UserError, counted
from utils.run_folder import CONFIG, EPOCHS, LABELS, REPORT, SEPARATOR, SPLIT, SUMMARY, TEST_SCORES
from utils.settings import Config

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

_PACKAGES = ("torch", "timm", "numpy", "librosa", "soundfile")
_NOT_SHOWN = {"paths", "callbacks"}  # sections that do not concern the model, and may have secrets


def contents_of(paths: Sequence[Path], metadata: "pd.DataFrame | None" = None) -> dict[str, Any]:
    """The arguments of ``reports.run.write_run_page``.

    Args:
        paths: a run, several, or a folder of folds; the scores of several are pooled.
        metadata: the recordings as the run has used them; None: they are read again.
    """
    by_seed = runs_by_seed(paths)
    runs = [run for of_seed in by_seed.values() for run in of_seed]
    config = load_config(runs[0] / CONFIG)
    cache = cache_folder(config)  # for an encoder this takes a second
    if metadata is None:
        metadata = _recordings_of(runs[0], config, cache)
    classes = read_run_table(runs[0] / LABELS)
    common = classes["common_name"].where(classes["common_name"] != "", classes["label"])
    names = dict(zip(classes["label"], common, strict=True))
    one = runs[0] if len(runs) == 1 else None
    epochs = [json.loads(line) for line in (one / EPOCHS).read_text(encoding="utf-8").splitlines()] if one else []
    summary = json.loads((runs[0] / SUMMARY).read_text(encoding="utf-8"))
    table, thresholds, threshold_name = _scores_and_thresholds(by_seed)
    return {
        "name": one.name if one else f"{paths[0].name}: {counted(len(runs), 'run')}",
        "facts": _description(runs, config, summary, metadata, cache),
        "epochs": epochs,
        "kept_epoch": summary.get("best_epoch") if one else None,
        "table": table,
        "names": names,
        "paths": dict(zip(metadata["filename"], metadata["path"], strict=True)),
        "thresholds": thresholds,
        "threshold_name": threshold_name,
        "classes": _classes(metadata if one else _all_tested(metadata, table), list(names)),
        "settings": _settings(config),
        "process": config.data_process,
        "out_of_fold": bool(config.data.folds) and len(runs) >= config.data.folds,
    }


def pooled_scores(by_seed: Mapping[int, Sequence[Path]]) -> ScoreTable | None:
    """The test scores of all runs: the folds of each seed together, then the mean over the seeds.

    Raises:
        DataError: the runs are not folds of the same recordings.
    """
    tables = [table for runs in by_seed.values() if (table := _of_folds(runs)) is not None]
    return mean_over_seeds(tables) if tables else None


def _of_folds(runs: Sequence[Path]) -> ScoreTable | None:
    tables = [read_test_scores(run) for run in runs if (run / TEST_SCORES).is_file()]
    if not tables:
        return None
    labels = tables[0].labels
    return concatenate([table for table in tables if table.labels == labels])


def _recordings_of(run: Path, config: Config, cache: Path) -> "pd.DataFrame":
    """The recordings of an earlier run, with its split."""
    split, table = read_run_table(run / SPLIT), load_table(config).set_index("filename")
    split = split[split["filename"].isin(table.index)].reset_index(drop=True)
    index = read_index(cache) if cache.is_dir() else {}
    return split.assign(
        path=table.loc[split["filename"], "path"].to_numpy(),
        labels=[tuple(filter(None, text.split(SEPARATOR))) for text in split["label"]],
        seconds=[getattr(index.get(name), "seconds", 0.0) for name in split["filename"]],
    )


def _description(
    runs: Sequence[Path], config: Config, summary: Mapping[str, Any], metadata: "pd.DataFrame", cache: Path
) -> list[tuple[str, str]]:
    seconds = sum(json.loads((run / SUMMARY).read_text(encoding="utf-8")).get("seconds") or 0 for run in runs)
    hours = float(metadata["seconds"].sum()) / 3600
    data = (
        f"{counted(len(metadata), 'recording')} ({hours:.2f} h) of "
        f"{counted(summary['n_classes'], 'class', 'classes')} in "
        f"{counted(metadata['group'].nunique(), 'group')}; {config.paths.data_dir}"
    )
    bad, copies = (_lines(cache / name) for name in ("bad_recordings.csv", "duplicates.csv"))
    left_out = f"{counted(bad, 'bad recording')}, {counted(copies, 'duplicate')} found"
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {packages}"
    facts = [("Model", config.model.type), ("Data", data), ("Left out", left_out)]
    if len(runs) == 1:
        counts = ", ".join(f"{summary.get(f'n_{split}', 0)} {split}" for split in SPLITS)
        facts.append(("Split", f"{counts} (by {config.data.group_by})"))
    facts += [("Training time", f"{seconds / 60:.1f} minutes"), ("Machine", machine)]
    return facts + ([("Commit", commit)] if (commit := _commit()) else [])


def _lines(path: Path) -> int:
    """The number of rows of a table; 0 if there is none."""
    return max(0, len(path.read_text(encoding="utf-8").splitlines()) - 1) if path.is_file() else 0


def _commit() -> str:
    """The commit of this program, marked if files have changed since; empty outside of a repository."""
    command = ["git", "-C", str(Path(__file__).parents[1]), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _all_tested(metadata: "pd.DataFrame", table: ScoreTable | None) -> "pd.DataFrame":
    """The recordings of several runs: those that any run scored are tested; the split of one run does not count."""
    tested = metadata["filename"].isin(() if table is None else table.recordings)
    return metadata.assign(split=np.where(tested, "test", ""))


def _classes(metadata: "pd.DataFrame", labels: Sequence[str]) -> list[dict[str, Any]]:
    """The recordings, groups and hours of each class, and how many of its recordings are in each split."""
    rows, splits = metadata.explode("labels"), [name for name in SPLITS if (metadata["split"] == name).any()]
    found = []
    for label in labels:
        its = rows[rows["labels"] == label]
        counts = its["split"].value_counts()
        found.append(
            {
                "label": label, "recordings": len(its), "groups": its["group"].nunique(),
                "hours": round(float(its["seconds"].sum()) / 3600, 4),
                "splits": {split: int(counts.get(split, 0)) for split in splits},
            }
        )  # fmt: skip
    return found


def _scores_and_thresholds(by_seed: Mapping[int, Sequence[Path]]) -> tuple[ScoreTable | None, np.ndarray | None, str]:
    """The scores that the page shows, and the thresholds ``(classes,)`` that were fitted for the runs, with their name.

    Thresholds apply to windows, so if there are thresholds the scores are those of windows, else those of recordings.
    """
    table = pooled_scores(by_seed)
    if len(by_seed) > 1 or table is None:  # thresholds belong to the runs of one seed
        return table, None, ""
    ((seed, runs),) = by_seed.items()
    try:
        decisions = decisions_of(runs[0])
        if decisions is None or not decisions.fits:
            return table, None, ""
        scored = score_runs(seed, runs)
        return scored.table, *scored.thresholds_for("auto")
    except UserError as error:
        log.warning("%s; the page shows no thresholds", error)
        return table, None, ""


def _settings(config: Config) -> list[tuple[str, str, str]]:
    return [
        (f"[{section}] {key}", str(value), str(default))
        for section, key, default, value in differences(Config(), config)
        if section not in _NOT_SHOWN and not isinstance(default or value, Path)
    ]


def main(arguments: Sequence[str] | None, write_run_page: Callable[..., object]) -> int:
    """Write the page of runs that are finished.

    Raises:
        UserError: there is no finished run.
    """
    parser = argparse.ArgumentParser(prog="python -m training.run_page", description="Write report.html of a run.")
    parser.add_argument("run", type=Path, nargs="+", metavar="RUN_DIR", help="a run, or the folder of all folds")
    options = parser.parse_args(arguments)
    page = options.run[0] / REPORT
    write_run_page(page, **contents_of(options.run))
    print(f"page: {page}")
    return 0


if __name__ == "__main__":
    from reports.run import write_run_page

    run_command(lambda arguments: main(arguments, write_run_page))
