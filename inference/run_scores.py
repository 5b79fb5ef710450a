"""How does a run score its own recordings, or those of another data set? By window, as predict.py does."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dataloader.audio.decoding import BadRecording
from dataloader.metadata import load_table
from dataloader.tables import schema
from evaluation.table import ScoreTable, concatenate
from inference.checkpoints import checkpoint_of
from inference.predictor import Predictor
from inference.run_tables import keep_scores, read_kept_scores, read_run_table, read_test_scores
from inference.scored import Scored
from inference.thresholds import decisions_of
from inference.truth import Targets, only_timed
from utils.config import load_config
from utils.errors import DataError, UserError, first_line
from utils.files import file_digest
from utils.run_folder import CONFIG, EVALUATION, SEPARATOR, SPLIT, TEST_SCORES
from utils.settings import Config

if TYPE_CHECKING:  # it takes a second to import
    import pandas as pd

log = logging.getLogger(__name__)


def score_runs(
    seed: int, runs: Sequence[Path], *, to_fit: bool = False, window_s: float | None = None, backend: str = "auto"
) -> Scored:
    """The scores of a run on its test subset, or those of all folds of a seed, pooled.

    Args:
        to_fit: thresholds are to be fitted on these scores; so a single run scores its validation subset.
        window_s: seconds of a row; None: as trained.

    Raises:
        UserError: there is no validation subset to fit thresholds on.
        DataError: the subset is empty, or its recordings are missing.
    """
    single = len(runs) == 1
    subset = "val" if single and to_fit else "test"
    if subset == "val":
        _must_have_validation(runs[0])
    tables = [score_subset(run, subset, window_s=window_s, backend=backend) for run in runs]
    if single:
        name = f"{runs[0].name}, the recordings of its {subset} subset"
    else:
        name = f"{len(runs)} folds, pooled, seed {seed}"
    return Scored(concatenate(tables), tuple(runs), decisions_of(runs[0]), float(tables[0].seconds.max()), name)


def _must_have_validation(run: Path) -> None:
    split = read_run_table(run / SPLIT)
    if (split["split"] == "val").any():
        return
    if load_config(run / CONFIG).data.folds:
        text = (
            "thresholds are never fitted on the test subset; fit them on out-of-fold scores: name the folder of all "
            "folds"
        )
    else:
        text = "lower [data] train_ratio, or fit on other recordings with --data DIR"
    raise UserError(f"{run}: it has no validation subset; {text}")


def score_subset(run: Path, subset: str, *, window_s: float | None = None, backend: str = "auto") -> ScoreTable:
    """The scores of a subset of a run, by window; they are saved in the run, so that the recordings are read once.

    If the recordings are missing, the scores of the test subset by recording, which training has saved.

    Raises:
        DataError: the subset is empty, or its recordings are missing.
    """
    split = read_run_table(run / SPLIT)
    split = split[split["split"] == subset].reset_index(drop=True)
    if split.empty:
        raise DataError(
            f"{run}: its {subset} subset has no recording; evaluate it on other recordings with --data DIR, or train "
            "folds with train_classifier.py --folds 5"
        )
    key = f"{file_digest(checkpoint_of(run))} {window_s}"
    kept = run / EVALUATION / f"{subset}_windows.npz"
    if (table := read_kept_scores(kept, key)) is not None:
        return table
    config = load_config(run / CONFIG)
    try:
        data = _recordings_of(run, config, split)
    except DataError as error:
        if subset != "test" or not (run / TEST_SCORES).is_file():
            raise
        log.warning("%s; the scores of whole recordings are used, which training has saved", first_line(error))
        return read_test_scores(run)
    predictor = Predictor(run, window_s=window_s, backend=backend)
    table = score_recordings(predictor, data, config.data.min_overlap_s, str(run))
    try:
        keep_scores(kept, key, table)
    except OSError as error:  # a run on a read-only disk
        log.warning(
            "%s: the scores cannot be saved (%s); the next evaluation computes them again", kept, first_line(error)
        )
    return table


def _recordings_of(run: Path, config: Config, split: "pd.DataFrame") -> "pd.DataFrame":
    """The recordings of rows of ``split.csv``, with ``path``, ``labels``, ``secondary_labels`` and ``group``.

    Raises:
        DataError: one of them is missing.
    """
    logger = logging.getLogger("dataloader")
    level = logger.level
    logger.setLevel(logging.WARNING)  # training has already reported about the table
    try:
        table = load_table(config).set_index("filename")
    finally:
        logger.setLevel(level)
    known = {name: Path(path) for name, path in table["path"].items()}
    if missing := [name for name in split["filename"] if name not in known or not known[name].is_file()]:
        raise DataError(f"{run}: {len(missing)} of its recordings are missing, the first is {missing[0]}")
    found = table.loc[split["filename"]]
    labels = [tuple(filter(None, text.split(SEPARATOR))) for text in split["label"]]
    data = split.assign(path=found["path"].to_numpy(), labels=labels)
    optional = (
        "secondary_labels", schema.ANNOTATIONS, schema.UNANNOTATED, schema.KNOWN_FOR, schema.TIME_EXPANSION,
    )  # fmt: skip
    return data.assign(**{column: found[column].to_numpy() for column in optional if column in found})


def score_recordings(predictor: Predictor, data: "pd.DataFrame", min_overlap_s: float, source: str) -> ScoreTable:
    """Score recordings window by window.

    Args:
        data: with ``filename``, ``path`` and ``group``, and what ``Targets`` needs.
        min_overlap_s: as of ``Targets``.
        source: the origin of the data, for messages.

    Raises:
        DataError: none of them can be scored.
    """
    data = only_timed(data.reset_index(drop=True), source)
    targets = Targets(data, predictor.labels, min_overlap_s)
    rows = {Path(path): row for row, path in enumerate(data["path"])}
    expansions = dict(zip(rows, data[schema.TIME_EXPANSION], strict=True)) if schema.TIME_EXPANSION in data else None
    scores = {}
    for path, result in predictor.predict_files(list(rows), expansions):  # in the order in which they finish
        if isinstance(result, BadRecording):
            log.warning("%s: left out: %s", path, result)
        else:
            scores[rows[path]] = result
    if not scores:
        raise DataError(f"{source}: none of its {len(data)} recordings can be scored")
    order = sorted(scores)
    results = [scores[row] for row in order]
    starts, ends = [one.start_s for one in results], [np.minimum(one.end_s, one.seconds) for one in results]
    return ScoreTable(
        labels=tuple(predictor.labels),
        scores=np.concatenate([one.each.mean(axis=0) for one in results]),
        targets=np.concatenate([targets.of(*row) for row in zip(order, starts, ends, strict=True)]),
        recordings=tuple(data["filename"].iloc[order]),
        recording=np.repeat(np.arange(len(order)), [len(start) for start in starts]),
        group=tuple(data["group"].iloc[order]),
        seconds=np.concatenate(ends) - np.concatenate(starts),
        timed=targets.timed,
        source=source,
        with_others=tuple(bool(set(labels) - set(predictor.labels)) for labels in data["labels"].iloc[order]),
    )
