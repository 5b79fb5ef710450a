"""What are the steps of evaluate.py? Find scores and labels, fit thresholds, and apply them."""

import argparse
import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evaluation import reading
from evaluation.calibration import fit_curves
from evaluation.decisions import Decisions, aim_of, read_decisions
from evaluation.output import as_text, write
from evaluation.scores import DEFAULT_THRESHOLD, NAMES, Evaluation, evaluate
from evaluation.table import PRESENT, UNKNOWN, ScoreTable, concatenate, mean_over_seeds
from evaluation.thresholds import fit
from utils.config import load_config
from utils.errors import DataError, UserError, first_line
from utils.files import file_digest, must_be_writable, whole
from utils.run_folder import CONFIG, EVALUATION, LABELS, SEPARATOR, SPLIT, SUMMARY, TEST_SCORES, THRESHOLDS
from utils.settings import Config

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

_WINDOW_S = 5.0  # of a row of labels with times, unless --window-s is given


@dataclass(frozen=True)
class Scored:
    """What is to be evaluated.

    Attributes:
        table: scores and labels.
        runs: the runs with these scores; none for a table of another tool.
        decisions: the thresholds of the run, if there are any.
        window_s: seconds of a row.
        name: its description in messages.
        of_seeds: if the table is the mean over several seeds, the table of each.
    """

    table: ScoreTable
    runs: tuple[Path, ...] = ()
    decisions: Decisions | None = None
    window_s: float = 0.0
    name: str = ""
    of_seeds: Mapping[int, ScoreTable] = field(default_factory=dict)


def load(options: argparse.Namespace) -> list[Scored]:
    """The tables to evaluate, or to fit thresholds on: one, or to fit on one for each seed of a folder of runs.

    Raises:
        UserError: there is nothing to evaluate, or scores and labels do not match.
    """
    if options.output is not None:
        must_be_writable(options.output / "scores.json")
    if options.predictions is not None:
        return [load_tables(options)]
    if options.data is not None:
        return [score_data(options)]
    found = {seed: score_runs(seed, runs, options) for seed, runs in runs_by_seed(options.run).items()}
    if len(found) == 1 or options.fit_thresholds:  # thresholds belong to weights, so each seed has its own
        return list(found.values())
    return [pool_seeds(found)]


def score_runs(seed: int, runs: Sequence[Path], options: argparse.Namespace) -> Scored:
    """A run on its test subset (to fit thresholds: on that of validation), or all folds of a seed, pooled."""
    subset = "val" if options.fit_thresholds else "test"
    one = len(runs) == 1
    if one and options.fit_thresholds:
        _must_have(runs[0], subset)
    tables = [score_subset(run, subset if one else "test", options) for run in runs]
    name = f"{runs[0].name}, the recordings of its {subset} subset" if one else f"{len(runs)} folds, pooled"
    window_s = float(tables[0].seconds.max())
    name += f", seed {seed}" * (not one)
    return Scored(concatenate(tables), tuple(runs), decisions_of(runs[0]), window_s, name)


def pool_seeds(found: Mapping[int, Scored]) -> Scored:
    """The mean of the scores of several seeds, as on the page of the runs and in predict.py."""
    tables = {seed: one.table for seed, one in found.items()}
    runs = tuple(run for one in found.values() for run in one.runs)
    name = f"{len(runs)} runs, the scores of each recording averaged over {len(found)} seeds"
    return Scored(
        mean_over_seeds(list(tables.values())), runs, None, max(o.window_s for o in found.values()), name, tables
    )


# Tables of any tool


def load_tables(options: argparse.Namespace) -> Scored:
    """``--predictions`` and ``--labels``."""
    with ThreadPoolExecutor(2) as pool:  # pandas reads a table without holding the interpreter
        predicted = pool.submit(reading.read_table, options.predictions)
        truth = read_truth(options.labels, options.window_s, options.overrides)
        predictions = predicted.result()
    table, remarks = reading.match(truth, predictions)
    for remark in remarks:
        log.warning("%s: %s", options.predictions, remark)
    return Scored(table, name=f"{options.predictions} against {options.labels}")


def read_truth(path: Path, window_s: float | None, overrides: Sequence[str] = ()) -> reading.Truth:
    """Read labels: a table of ``row_id`` and a column for each class, or a data set in any known layout.

    Raises:
        DataError: it is neither.
    """
    if path.is_dir():
        config, data = read_data(path, overrides)
        return truth_of_data(data, window_s or _WINDOW_S, config.data.min_overlap_s, str(path))
    wide = reading.read_table(path)
    if not isinstance(wide, reading.Wide):
        raise DataError(
            f"{path}: a table of labels must have row_id and a column of 0 and 1 for each class; for annotations name "
            "the folder with the recordings"
        )
    return reading.truth_of(wide)


# A data set that the program reads


def read_data(folder: Path, overrides: Sequence[str] = ()) -> tuple[Config, "pd.DataFrame"]:
    """The recordings and labels of any data set, with ``seconds`` of each recording.

    Args:
        overrides: settings of [data] that say how to read it, such as ``data.label_from=folder:1``.

    Raises:
        DataError: it is not a data set, or none of its recordings can be read.
    """
    from dataloader.audio.decoding import BadRecording, audio_info
    from dataloader.metadata import NOCALL
    from dataloader.tables import schema
    from dataloader.tables.groups import choose_groups
    from dataloader.tables.sources import join_sources, read_source, sources_of

    with tempfile.TemporaryDirectory() as empty:
        (Path(empty) / CONFIG).write_text("")
        config = load_config(Path(empty) / CONFIG, [*overrides, f"paths.data_dir={folder.resolve()}"])
    table = join_sources({name: read_source(name, source) for name, source in sources_of(config).items()})
    table["group"], _ = choose_groups(table, config.data.group_by)
    table["labels"] = [tuple(label for label in labels if label != NOCALL) for labels in table["labels"]]
    seconds = []
    for path, factor in zip(table["path"], table[schema.TIME_EXPANSION], strict=True):
        try:
            info = audio_info(Path(path), time_expansion=factor)
            seconds.append(info.frames / info.sample_rate)
        except BadRecording as bad:
            log.warning("%s: left out: %s", path, bad)
            seconds.append(np.nan)
    table["seconds"] = seconds
    if table["seconds"].isna().all():
        raise DataError(f"{folder}: none of its {len(table)} recordings can be read")
    return config, only_timed(table[table["seconds"].notna()].sort_values("filename", ignore_index=True), str(folder))


def only_timed(data: "pd.DataFrame", source: str) -> "pd.DataFrame":
    """The recordings whose labels have times, if there are any; scores of others could not be compared."""
    from dataloader.tables.schema import ANNOTATIONS

    if ANNOTATIONS not in data:
        return data
    timed = np.array([isinstance(found, tuple) for found in data[ANNOTATIONS]])
    if not timed.any():
        return data
    if not timed.all():
        text = "%s: %d of %d recordings have labels without times and are left out; only those with times are scored"
        log.warning(text, source, (~timed).sum(), len(data))
    return data[timed].reset_index(drop=True)


class Targets:
    """The targets of each row of a recording, by labels with times if there are any, else by those of the recording.

    Args:
        data: recordings with ``labels``, ``secondary_labels``, and ``annotations`` where they have times.
        labels: the classes.
    """

    def __init__(self, data: "pd.DataFrame", labels: Sequence[str], min_overlap_s: float):
        from dataloader.batches.timed import TimedLabels

        self._times = TimedLabels(data, labels, min_overlap_s)
        self.timed = bool(self._times.timed.any())
        columns = {label: number for number, label in enumerate(labels)}
        self._whole = np.zeros((len(data), len(labels)), dtype=np.int8)
        secondary = data["secondary_labels"] if "secondary_labels" in data else [()] * len(data)
        for row, (present, behind) in enumerate(zip(data["labels"], secondary, strict=True)):
            for names, value in ((behind, UNKNOWN), (present, PRESENT)):  # a species in the background may be audible
                self._whole[row, [columns[name] for name in names if name in columns]] = value

    def of(self, row: int, start_s: np.ndarray, end_s: np.ndarray) -> np.ndarray:
        """``(rows, classes)`` of a recording, which is a row of the data."""
        if not self.timed:
            return np.broadcast_to(self._whole[row], (len(start_s), self._whole.shape[1]))
        found = [self._times.targets(row, start, end) for start, end in zip(start_s, end_s, strict=True)]
        return np.array(found, dtype=np.int8).reshape(len(start_s), self._whole.shape[1])


def truth_of_data(data: "pd.DataFrame", window_s: float, min_overlap_s: float, source: str) -> reading.Truth:
    """A row for each recording, or for each window if labels have times.

    Raises:
        DataError: two recordings have the same name, because tables name recordings without their folders.
    """
    from dataloader.metadata import class_labels, class_names
    from dataloader.tables import schema

    stems = [reading.stem_of(name) for name in data["filename"]]
    if len(set(stems)) < len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        both = " and ".join(name for name, stem in zip(data["filename"], stems, strict=True) if stem == twice)
        raise DataError(f"{source}: {both} have the same name, so a table of scores cannot tell which; rename one")
    labels, names = class_labels(data), {}
    for row in class_names(data, labels).itertuples():
        for name in (row.common_name, row.scientific_name, row.label):
            names[reading.normal(name)] = row.label
    truth = Targets(data, labels, min_overlap_s)
    starts, ends, targets, of_rows = [], [], [], []
    plays_s = data["seconds"] * data[schema.TIME_EXPANSION]  # tables of scores have times of the file as it plays
    for row, (stem, seconds) in enumerate(zip(stems, data["seconds"], strict=True)):
        start = _rows_of(seconds, window_s) if truth.timed else np.zeros(1)
        end = np.minimum(start + window_s, seconds) if truth.timed else np.array([seconds])
        targets.append(truth.of(row, start, end))
        factor = data[schema.TIME_EXPANSION].iloc[row]
        starts.append(start * factor)
        ends.append(end * factor)
        of_rows += [stem] * len(start)
    return reading.Truth(
        source, tuple(labels), np.concatenate(targets), tuple(of_rows), np.concatenate(starts), np.concatenate(ends),
        dict(zip(stems, data["group"], strict=True)), None, names, truth.timed,
        dict(zip(stems, plays_s, strict=True)),
    )  # fmt: skip


def _rows_of(seconds: float, window_s: float) -> np.ndarray:
    """The starts of the windows of a recording, as in predict.py."""
    from dataloader.batches.windows import window_starts

    return np.array(window_starts(max(1, round(seconds * 1000)), max(1, round(window_s * 1000)))) / 1000


def score_data(options: argparse.Namespace) -> Scored:
    """``--run RUN --data DIR``: the recordings of the folder, scored by the run.

    Raises:
        DataError: none of its species is a class of the run.
    """
    if len(options.run) > 1:
        raise UserError("--data needs exactly one --run")
    (run,) = options.run
    config, data = read_data(options.data, options.overrides)
    warn_of_training_recordings(run, data)
    predictor = open_predictor(run, options)
    labels = predictor.labels
    present = {label for labels in data["labels"] for label in labels}
    if not present & set(labels):
        raise DataError(
            f"{options.data}: none of its {len(present)} species is a class of {run}, such as {labels[0]}; they are "
            f"{', '.join(sorted(present)[:5])}"
        )
    if unknown := sorted(present - set(labels)):
        log.warning(
            "%s: the run does not know %d of the %d species, which are left out: %s",
            options.data, len(unknown), len(present), ", ".join(unknown),
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


def open_predictor(run: Path, options: argparse.Namespace):
    from inference.predictor import Predictor

    return Predictor(run, window_s=options.window_s, backend=options.backend)


def score_recordings(predictor, data: "pd.DataFrame", min_overlap_s: float, source: str) -> ScoreTable:
    """Score recordings window by window, as predict.py does.

    Args:
        data: with ``filename``, ``path`` and ``group``, and what ``Targets`` needs.

    Raises:
        DataError: none of them can be scored.
    """
    from dataloader.audio.decoding import BadRecording
    from dataloader.tables.schema import TIME_EXPANSION

    data = only_timed(data.reset_index(drop=True), source)
    truth = Targets(data, predictor.labels, min_overlap_s)
    rows = {path: row for row, path in enumerate(map(str, data["path"]))}
    expansions = dict(zip(map(Path, rows), data[TIME_EXPANSION], strict=True)) if TIME_EXPANSION in data else None
    found = {}
    for path, result in predictor.predict_files(list(rows), expansions):  # in the order in which they finish
        if isinstance(result, BadRecording):
            log.warning("%s: left out: %s", path, result)
        else:
            found[rows[str(path)]] = result
    if not found:
        raise DataError(f"{source}: none of its {len(data)} recordings can be scored")
    order = sorted(found)
    results = [found[row] for row in order]
    starts, ends = [one.start_s for one in results], [np.minimum(one.end_s, one.seconds) for one in results]
    return ScoreTable(
        labels=tuple(predictor.labels),
        scores=np.concatenate([one.each.mean(axis=0) for one in results]),
        targets=np.concatenate([truth.of(*one) for one in zip(order, starts, ends, strict=True)]),
        recordings=tuple(data["filename"].iloc[order]),
        recording=np.repeat(np.arange(len(order)), [len(start) for start in starts]),
        group=tuple(data["group"].iloc[order]),
        seconds=np.concatenate(ends) - np.concatenate(starts),
        timed=truth.timed,
        source=source,
        with_others=tuple(bool(set(labels) - set(predictor.labels)) for labels in data["labels"].iloc[order]),
    )


# A run, or the folds of several


def runs_by_seed(given: Sequence[Path]) -> dict[int, list[Path]]:
    """The finished runs by seed: of a run, several, or a folder of folds.

    Raises:
        UserError: there is none.
    """
    found: list[Path] = []
    for path in given:
        inside = [path] if (path / CONFIG).is_file() else sorted(one.parent for one in path.rglob(CONFIG))
        if not inside:
            raise UserError(f"{path}: not a run; name the folder that train_classifier.py printed")
        finished = [run for run in inside if (run / SUMMARY).is_file()]
        if not finished:
            raise UserError(
                f"{inside[0]}: this run is not finished; continue with: python train_classifier.py --resume {inside[0]}"
            )
        if len(finished) < len(inside):
            log.warning(
                "%s: %d of %d runs are not finished and are left out", path, len(inside) - len(finished), len(inside)
            )
        found += finished
    by_seed: dict[int, list[Path]] = {}
    for run in found:
        by_seed.setdefault(load_config(run / CONFIG).trainer.seed, []).append(run)
    return by_seed


def _must_have(run: Path, subset: str) -> None:
    split = read_run_table(run / SPLIT)
    if (split["split"] == subset).any():
        return
    config = load_config(run / CONFIG)
    text = (
        "thresholds are never fitted on the test subset; fit them on out-of-fold scores: name the folder of all folds"
    )
    if not config.data.folds:
        text = "lower [data] train_ratio, or fit on other recordings with --data DIR"
    raise UserError(f"{run}: it has no validation subset; {text}")


def score_subset(run: Path, subset: str, options: argparse.Namespace) -> ScoreTable:
    """The scores of a subset of a run, by window; they are kept in the run, so that the recordings are read once.

    If the recordings are missing, the scores of the test subset by recording, which training has kept.

    Raises:
        DataError: the subset is empty, or its recordings are missing.
    """
    from inference.checkpoints import checkpoint_of

    split = read_run_table(run / SPLIT)
    split = split[split["split"] == subset].reset_index(drop=True)
    if split.empty:
        raise DataError(
            f"{run}: its {subset} subset has no recording; evaluate it on other recordings with --data DIR, or train "
            "folds with train_classifier.py --folds 5"
        )
    digest = file_digest(checkpoint_of(run))
    kept = run / EVALUATION / f"{subset}_windows.npz"
    key = f"{digest} {options.window_s}"
    if (table := read_scores(kept, key)) is not None:
        return table
    config = load_config(run / CONFIG)
    try:
        data = recordings_of(run, config, split)
    except DataError as error:
        if subset != "test" or not (run / TEST_SCORES).is_file():
            raise
        log.warning("%s; the scores of whole recordings are used, which training has kept", first_line(error))
        return read_test_scores(run, split)
    table = score_recordings(open_predictor(run, options), data, config.data.min_overlap_s, str(run))
    try:
        keep_scores(kept, key, table)
    except OSError as error:  # a run on a read-only disk
        log.warning(
            "%s: the scores cannot be kept (%s); the next evaluation computes them again", kept, first_line(error)
        )
    return table


def recordings_of(run: Path, config: Config, split: "pd.DataFrame") -> "pd.DataFrame":
    """The recordings of rows of ``split.csv``, with ``path``, ``labels``, ``secondary_labels`` and ``group``.

    Raises:
        DataError: one of them is missing.
    """
    from dataloader.metadata import load_table
    from dataloader.tables import schema

    level, logger = logging.WARNING, logging.getLogger("dataloader")
    before = logger.level
    logger.setLevel(level)  # training has already reported about the table
    try:
        table = load_table(config).set_index("filename")
    finally:
        logger.setLevel(before)
    if missing := [name for name in split["filename"] if name not in table.index]:
        raise DataError(f"{run}: {len(missing)} of its recordings are missing, the first is {missing[0]}")
    found = table.loc[split["filename"]]
    gone = [path for path in found["path"] if not Path(path).is_file()]
    if gone:
        raise DataError(f"{run}: {len(gone)} of its recordings are missing, the first is {gone[0]}")
    labels = [tuple(filter(None, text.split(SEPARATOR))) for text in split["label"]]
    kept = split.assign(path=found["path"].to_numpy(), labels=labels)
    for column in (
        "secondary_labels", schema.ANNOTATIONS, schema.UNANNOTATED, schema.KNOWN_FOR, schema.TIME_EXPANSION,
    ):  # fmt: skip
        if column in found:
            kept[column] = found[column].to_numpy()
    return kept


def read_test_scores(run: Path, split: "pd.DataFrame") -> ScoreTable:
    """The scores of the test subset that training has kept, with a row for each recording."""
    labels = tuple(read_run_table(run / LABELS)["label"])
    wide = reading.read_table(run / TEST_SCORES)
    if not isinstance(wide, reading.Wide) or wide.labels != labels or set(wide.keys) != set(split["filename"]):
        raise DataError(f"{run / TEST_SCORES}: damaged; it does not fit {LABELS} and {SPLIT}")
    columns = {label: number for number, label in enumerate(labels)}
    by_name = split.set_index("filename").loc[list(wide.keys)]
    targets = np.zeros(wide.values.shape, dtype=np.int8)
    for row, text in enumerate(by_name["label"]):
        for label in filter(None, text.split(SEPARATOR)):
            targets[row, columns[label]] = PRESENT
    return ScoreTable(
        labels, wide.values, targets, wide.keys, np.arange(len(wide.keys)), tuple(by_name["group"]),
        np.zeros(len(wide.keys)), timed=False, source=str(run),
    )  # fmt: skip


def keep_scores(path: Path, key: str, table: ScoreTable) -> None:
    """Keep a table in a file, which is written completely or not at all."""
    path.parent.mkdir(exist_ok=True)
    with whole(path, durable=False) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file, key=key, labels=table.labels, scores=table.scores, targets=table.targets, recordings=table.recordings,
            recording=table.recording, group=table.group, seconds=table.seconds, timed=table.timed,
        )  # fmt: skip


def read_scores(path: Path, key: str) -> ScoreTable | None:
    """The table that ``keep_scores`` has kept with this key; None if it is missing, of other weights, or damaged."""
    try:
        with np.load(path) as kept:
            if str(kept["key"]) != key:
                return None
            names = {name: tuple(map(str, kept[name])) for name in ("labels", "recordings", "group")}
            arrays = {name: kept[name] for name in ("scores", "targets", "recording", "seconds")}
            return ScoreTable(**names, **arrays, timed=bool(kept["timed"]), source=str(path.parents[1]))
    except FileNotFoundError:
        return None
    except Exception as error:  # after a changed byte numpy and zipfile raise many kinds of errors
        log.warning("%s: it cannot be read, so the recordings are scored again (%s)", path, first_line(error))
        return None


def read_run_table(path: Path) -> "pd.DataFrame":
    """A table of a run folder, in which all cells are text.

    Raises:
        DataError: it is missing or damaged.
    """
    import pandas as pd

    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; this is not a run that has begun to train") from None
    except ValueError as error:
        raise DataError(f"{path}: damaged ({first_line(error)})") from None


# Thresholds


def decisions_of(run: Path) -> Decisions | None:
    """The thresholds in a run, if any were fitted for the weights that it has now."""
    from inference.checkpoints import checkpoint_of

    folder = run if run.is_dir() else run.parent
    path = folder / THRESHOLDS
    if not path.is_file():
        return None
    found = read_decisions(path.read_text(encoding="utf-8"), path)
    if found.checkpoint != file_digest(checkpoint_of(run)):
        log.warning("%s: fitted for other weights than those of the run now, so it is not used; fit again", path)
        return None
    return found


def fit_thresholds(options: argparse.Namespace, found: Iterable[Scored]) -> list[Path]:
    """Fit thresholds and calibration on these scores, and keep them beside the weights of each run."""
    from inference.checkpoints import checkpoint_of

    kind, value = options.aim
    written = []
    for scored in found:
        its = fit(scored.table, kind, value)
        curves = tuple(fit_curves(scored.table))
        print_fit(kind, value, scored, its, curves)
        for run in scored.runs:
            decisions = Decisions(
                scored.table.labels, file_digest(checkpoint_of(run)), scored.name, scored.window_s, curves
            )
            before = decisions_of(run)
            same = before is not None and (before.fitted_on, before.window_s) == (scored.name, scored.window_s)
            for aim, one in before.fits.items() if same else ():
                decisions = decisions.with_fit(aim, one)
            path = run / THRESHOLDS
            decisions.with_fit(aim_of(kind, value), its).save(path)
            written.append(path)
    return written


def print_fit(kind: str, value: float | None, scored: Scored, its, curves) -> None:
    """Print what was fitted, and why it was not for some classes."""
    table = scored.table
    kinds = [curve.kind for curve in curves]
    print(
        f"fitted on {scored.name}: {len(table.scores):,} windows of {len(table.recordings)} recordings, "
        f"{table.n_groups} groups ({table.grouped_by})"
    )
    counts = ", ".join(f"{kinds.count(name)} {name}" for name in dict.fromkeys(kinds))
    print(f"calibration by class: {counts} (pooled: too few positives, fitted over all classes)")
    aim = aim_of(kind, value).replace("_", " ")
    shown = [label for label, limit in zip(table.labels, its.thresholds, strict=True) if not np.isnan(limit)]
    print(f"thresholds for {aim}: {len(shown)} of {len(table.labels)} classes")
    for label, limit in zip(table.labels, its.thresholds, strict=True):
        text = f"{limit:.4f}" if not np.isnan(limit) else f"refused: {its.refused[label]}"
        print(f"  {label}: {text}{' (shared by classes with few positives)' if label in its.pooled else ''}")


def judge(options: argparse.Namespace, scored: Scored) -> Evaluation:
    """Evaluate a table with the thresholds of the options, of the run, or the default.

    Raises:
        UserError: the options name thresholds of the run, but it has none.
    """
    table, decisions = scored.table, scored.decisions
    wanted = options.threshold
    if scored.of_seeds and (options.aim is not None or wanted == "auto" or options.calibrated):
        seed = next(iter(scored.of_seeds))
        raise UserError(
            f"thresholds and calibration belong to the runs of one seed, but these have {len(scored.of_seeds)}; name "
            f"those of one, such as --run {options.run[0]}/seed{seed}-*"
        )
    if options.aim is not None or wanted == "auto":
        if decisions is None:
            source = scored.runs[0] if scored.runs else options.predictions
            raise UserError(
                f"{source}: it has no thresholds; fit them with: python evaluate.py --run RUN --fit-thresholds"
            )
        aim = "auto" if wanted == "auto" else aim_of(*options.aim)
    else:
        aim = "auto" if decisions is not None and wanted is None and decisions.fits else None
    limits, name = DEFAULT_THRESHOLD if wanted is None else wanted, None
    if aim is not None:
        limits, name = limits_of(scored, aim)
    if options.calibrated:
        if decisions is None:
            raise UserError(
                "--calibrated: no calibration was fitted; fit it with: python evaluate.py --run RUN --fit-thresholds"
            )
        limits = _calibrated(decisions, limits) if aim is not None else limits
        table = replace(table, scores=decisions.probabilities(table.scores))
    folds = len(scored.runs) > 1
    return evaluate(table, limits, threshold_name=name, min_positives=options.min_positives, all_scored=folds)


def limits_of(scored: Scored, aim: str) -> tuple[np.ndarray, str]:
    """The thresholds ``(classes,)`` of a run for an aim (``auto``: those fitted last), and their description.

    Raises:
        UserError: none were fitted for it.
    """
    decisions = scored.decisions
    limits = decisions.fit_for(aim, scored.runs[0]).thresholds
    name = f"the run's thresholds ({list(decisions.fits)[-1] if aim == 'auto' else aim}, {decisions.fitted_on})"
    if decisions.fitted_on == scored.name:
        name += "; fitted on these recordings, so precision and recall are too good"
    return limits, name


def _calibrated(decisions: Decisions, limits: np.ndarray) -> np.ndarray:
    """Thresholds as probabilities; NaN stays NaN."""
    values = decisions.probabilities(np.nan_to_num(limits, nan=0.5)[None])[0]
    return np.where(np.isnan(limits), np.nan, values)


def report(options: argparse.Namespace, evaluations: Sequence[tuple[Scored, Evaluation]]) -> None:
    """Print the tables, and write the files to ``--output``."""
    for scored, evaluation in evaluations:
        print(f"{scored.name}: {as_text(evaluation)}")
        alone = figures_of_seeds(scored.of_seeds)
        print("".join(f"{line}\n" for line in lines_of_seeds(alone)), end="")
        if options.output is not None:
            about = {"name": scored.name, "runs": [str(run) for run in scored.runs]}
            write(evaluation, options.output, about | ({"each_seed": alone} if alone else {}))
            print(f"scores: {options.output}")


def figures_of_seeds(tables: Mapping[int, ScoreTable]) -> dict[str, dict[int, float]]:
    """The scores of the runs of each seed alone, by figure and seed."""
    overall = {seed: evaluate(table, resamples=0).overall for seed, table in tables.items()}
    figures = {name: {seed: one[name].value for seed, one in overall.items()} for name in ("macro_auc", "top1")}
    return {name: values for name, values in figures.items() if values and None not in values.values()}


def lines_of_seeds(figures: Mapping[str, Mapping[int, float]]) -> list[str]:
    """The same as text, with the mean and the standard deviation of the sample."""
    return [
        f"each seed alone, {NAMES[name]}: {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} "
        f"({', '.join(f'{value:.3f}' for value in values)})"
        for name, of_seeds in figures.items()
        if len(values := list(of_seeds.values())) > 1
    ]
