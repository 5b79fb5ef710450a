"""What are the steps of predict.py? They are here in the order in which it calls them."""

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from dataloader.audio.decoding import BadRecording, audio_info
from dataloader.metadata import NOCALL
from inference import tables
from inference.choices import RECORDING
from inference.detections import LONGEST_S, Detection, DetectionFilter, Result, detections
from inference.inputs import find_recordings, time_expansions, trained_expansion
from inference.options import Options
from inference.outputs import check_outputs
from inference.predictor import Predictor
from inference.score_store import ScoreStore
from inference.thresholds import FittedRules, fitted_rules, report_rules
from utils.errors import DataError, UserError, counted, first_line
from utils.files import remove_leftovers
from utils.lock import alone
from utils.run_folder import CONFIG

log = logging.getLogger(__name__)

_SUBMISSION_S = 5.0  # seconds of a row in BirdCLEF
_PARTLY = "%s: %s; what can be decoded is scored%s"
_BEHIND_A_HOLE = ", and times after the hole are too early by up to that much"


def find(options: Options) -> list[Path]:
    """The recordings to score.

    Raises:
        DataError: there are none, or two have the same name in a submission, or an output cannot be written.
    """
    recordings = find_recordings(options.input)
    if options.format == "submission":
        tables.must_differ_in_name(recordings)
    check_outputs(options, recordings)
    _announce_shortened_names(options, recordings)
    return recordings


def _announce_shortened_names(options: Options, recordings: Sequence[Path]) -> None:
    if options.format in tables.TABLES:
        ending, _ = tables.TABLES[options.format]
        paths = tables.table_paths(options.output, recordings, options.format)
        short = [path for one, path in paths.items() if path != options.output and path.name != one.name + ending]
        if short:
            log.warning(
                "%s too long for the file system; shortened, for example to %s",
                counted(len(short), "name of a table is", "names of tables are"), short[0].name,
            )  # fmt: skip


def load(options: Options) -> Predictor:
    """The models, ready to score."""
    window_s = options.window_s or (_SUBMISSION_S if options.format == "submission" else None)
    predictor = Predictor(
        options.run, window_s=window_s, step_s=options.step_s, shift_tta=options.shift_tta,
        backend=options.backend, device=options.device, labels=options.labels, species=options.species,
    )  # fmt: skip
    names = ", ".join(f"{model.card.model_type} ({model.backend})" for model in predictor.models)
    row_s = None if predictor.one_row else predictor.grid.window_s
    report_rules(predictor.models, options.aim, row_s, calibrated=options.calibrated)
    rows = "one row for each recording" if row_s is None else f"rows of {row_s:g} s"
    log.info("%s: %s, %s", names, counted(len(predictor.labels), "class", "classes"), rows)
    return predictor


def read_sample(options: Options, predictor: Predictor, recordings: Sequence[Path]) -> tables.SampleSubmission | None:
    """The sample submission, if one is given; it must fit the run and the recordings."""
    if options.sample_submission is None:
        return None
    sample = tables.read_sample(options.sample_submission, predictor.labels)
    tables.must_have_all(sample, recordings)
    tables.must_fit(sample, predictor.grid)
    return sample


@contextlib.contextmanager
def open_store(options: Options, predictor: Predictor) -> Iterator[ScoreStore]:
    """The store that keeps the scores until the output is written; no other process may write the same output.

    If anything stops the job, a warning says how to continue with the scores that are kept.
    """
    settings = {
        "--run": [model.digest for model in predictor.models],
        "--window-s": RECORDING if predictor.one_row else predictor.grid.window_s,
        "--step-s": predictor.grid.step_s,
        "--shift-tta": predictor.grid.shift_tta,
        "--backend": [model.backend for model in predictor.models],
    }
    if options.time_expansion is not None:
        settings["--time-expansion"] = options.time_expansion
    if predictor.columns is not None:
        settings["--species"] = list(predictor.labels)
    output = Path(os.path.abspath(options.output))
    output.parent.mkdir(parents=True, exist_ok=True)
    busy = f"{output}: another predict.py is writing it; wait for that one, or choose another --output"
    with alone(output, busy):
        store = ScoreStore(options.output, settings, resume=options.resume)
        _remove_leftovers_of(options)
        try:
            yield store
        except BaseException:  # a full disk, Ctrl-C, a bug: the scores so far are kept in every case
            if not store.is_empty:
                log.warning("the scores so far are kept: continue with the same command and --resume")
            raise


def _remove_leftovers_of(options: Options) -> None:
    """Remove the temporary files of a job that was killed while it wrote output or report."""
    for path in filter(None, (options.output, options.report)):
        folder = path if path.is_dir() else Path(os.path.abspath(path)).parent
        if folder.is_dir():
            remove_leftovers(folder)


def expansions_of(options: Options, recordings: Sequence[Path]) -> dict[Path, float]:
    """The time expansion of each recording that has one: that of the command line, or what the recording states.

    The config of the run concerns other recordings, so it decides nothing here. If the run was trained on expanded
    recordings, a warning points that out.
    """
    expansions = time_expansions(recordings, options.time_expansion)
    if options.time_expansion is None and not expansions:
        for path in options.run:
            config = (path if path.is_dir() else path.parent) / CONFIG
            if config.is_file() and (factor := trained_expansion(config)) != 1:
                log.warning(
                    "%s was trained with time_expansion = %g, and these recordings are taken to play at the speed "
                    "of the original sound; if they do not, give --time-expansion %g", path, factor, factor,
                )  # fmt: skip
    return expansions


def score(
    predictor: Predictor, recordings: Sequence[Path], store: ScoreStore, expansions: Mapping[Path, float] | None = None
) -> list[Path]:
    """Score the recordings that are not in the store yet; warn of each that has a problem.

    Args:
        expansions: the time expansion of each recording that has one.

    Returns:
        the recordings that are scored.

    Raises:
        DataError: not one recording could be scored.
    """
    todo = [recording for recording in recordings if recording not in store]
    if len(todo) < len(recordings):
        log.info("continuing: %d of %d recordings are already scored", len(recordings) - len(todo), len(recordings))
        for path, problem in store.problems(recordings):
            log.warning(_PARTLY, path, problem, _caution(problem))
    bad, expansions = set(), expansions or {}
    with _bar(todo, expansions) as bar, _explain_memory():
        for path, result in predictor.predict_files(todo, expansions):
            if isinstance(result, BadRecording):
                bad.add(path)
                log.warning("%s: left out: %s", path, result)
            else:
                store.keep(result)
                if result.problem is not None:
                    log.warning(_PARTLY, path, result.problem, _caution(str(result.problem)))
                _advance(bar, result.seconds / 3600)
    if len(bad) == len(recordings):
        store.remove()
        raise DataError(f"no recording could be scored ({len(bad)} tried); nothing is written")
    log.info("%s scored, %d left out", counted(len(recordings) - len(bad), "recording"), len(bad))
    return [recording for recording in recordings if recording not in bad]


@contextlib.contextmanager
def _explain_memory() -> Iterator[None]:
    """Turn the errors that mean too little memory into one line."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is one; on a CPU it is a plain RuntimeError
        known = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
        if not known:
            raise
        advice = "close other programs; --device cpu needs no GPU memory, and a shorter --window-s needs less"
        raise UserError(f"out of memory ({first_line(error)}); {advice}") from None


def _caution(problem: str) -> str:
    """A further warning about the scores of a recording with this problem."""
    return _BEHIND_A_HOLE if problem.startswith("hole:") else ""


def write(
    options: Options, predictor: Predictor, recordings: Sequence[Path], scored: Sequence[Path], store: ScoreStore,
    sample: tables.SampleSubmission | None,
) -> None:  # fmt: skip
    """Write the output."""
    options.output.parent.mkdir(parents=True, exist_ok=True)
    card, rules = predictor.card, _rules(options, predictor)
    detection_filter = _filter_of(options, rules)
    if options.merge or options.format in tables.TABLES:
        detection_filter = detection_filter.or_default()
    results = _results(options, rules, scored, store)
    if options.format == "submission":
        tables.write_submission(options.output, results, card, predictor.grid, sample)
    elif options.format == "csv":
        tables.write_csv(options.output, results, card, detection_filter)
    else:
        tables.write_tables(options.output, results, card, detection_filter, options.format, recordings)


def _rules(options: Options, predictor: Predictor) -> FittedRules:
    return fitted_rules(predictor.models, options.aim, calibrated=options.calibrated, columns=predictor.columns)


def _results(options: Options, rules: FittedRules, scored: Sequence[Path], store: ScoreStore) -> Iterator[Result]:
    for result in store.results(scored, options.combine, options.smooth):
        yield replace(result, probabilities=rules.probabilities(result.scores))


def _filter_of(options: Options, rules: FittedRules) -> DetectionFilter:
    threshold = options.plain_threshold if rules.thresholds is None else rules.thresholds
    return DetectionFilter(
        threshold, options.top_k, options.merge, options.stop_threshold, options.longest_s or LONGEST_S
    )


def contents_of_report(
    options: Options, predictor: Predictor, scored: Sequence[Path], store: ScoreStore
) -> dict[str, Any]:
    """What ``reports.detections.write_report`` asks for."""
    card, rules = predictor.card, _rules(options, predictor)
    detection_filter = _filter_of(options, rules).or_default()
    return {
        "recordings": _found_in(_results(options, rules, scored, store), card.labels, detection_filter),
        "species": list(zip(card.labels, card.scientific_names, card.common_names, strict=True)),
        "process": card.process,
        "models": [one.card.model_type for one in predictor.models],
        "shown": detection_filter.description(),
    }


def _found_in(
    results: Iterable[Result], labels: Sequence[str], detection_filter: DetectionFilter
) -> Iterator[tuple[Path, float, list[Detection], float, None, float]]:
    """The fields of ``reports.detections.Recording``, for each recording."""
    nocall = labels.index(NOCALL) if NOCALL in labels else None  # this class is no detection
    for result in results:
        birds = [one for one in detections(result, detection_filter) if one.label != nocall]
        species = result.values if nocall is None else np.delete(result.values, nocall, axis=1)
        highest = float(species.max(initial=0.0))
        yield result.path, result.seconds, birds, highest, None, result.time_expansion


def _bar(recordings: Sequence[Path], expansions: Mapping[Path, float]) -> tqdm:
    """A progress bar in hours of audio, with the time left, if stderr is a terminal."""
    hours = None
    if os.isatty(2):
        hours = sum(_hours(recording) / expansions.get(recording, 1.0) for recording in recordings)
    form = "{desc}: {percentage:3.0f}%|{bar}| {n:.2f}/{total:.2f} h of audio [{elapsed}<{remaining}]"
    return tqdm(total=hours, desc="scoring", bar_format=form, disable=None, dynamic_ncols=True)


def _advance(bar: tqdm, hours: float) -> None:
    """Move the bar; raise the total if a file is longer than its header states, or tqdm would hide the total."""
    if bar.total is not None:
        bar.total = max(bar.total, bar.n + hours)
    bar.update(hours)


def _hours(recording: Path) -> float:
    try:
        info = audio_info(recording)
    except BadRecording:
        return 0.0
    return info.frames / info.sample_rate / 3600
