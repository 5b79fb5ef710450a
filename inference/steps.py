"""The steps of a prediction, in the order of predict.py: each takes what it needs from the options."""

import argparse
import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from dataloader.audio.decoding import BadRecording, audio_info
from inference import tables
from inference.inputs import find_recordings
from inference.predictor import Predictor
from inference.score_store import ScoreStore
from utils.errors import DataError, UserError, first_line
from utils.files import must_be_writable, remove_leftovers
from utils.lock import alone
from utils.run_folder import BEST, CONFIG, LAST

log = logging.getLogger(__name__)

_SUBMISSION_S = 5.0  # seconds of a row in BirdCLEF
_PARTLY = "%s: %s; what decodes of it is scored%s"
_BEHIND_A_HOLE = ", and times behind the hole are too early by up to as much"


def find(options: argparse.Namespace) -> list[Path]:
    """The recordings to score.

    Raises:
        DataError: none is there, two have one name in a submission, or output or report is no place to write to.
    """
    for name in ("output", "report"):
        if (path := getattr(options, name)) is not None:
            setattr(options, name, _place(path))
    output, report = options.output, options.report
    recordings = find_recordings(options.input)
    if options.format == "submission":
        tables.must_differ_in_name(recordings)
    in_folder = options.format in tables.TABLES and (len(recordings) > 1 or output.is_dir())
    if output.is_dir() and not in_folder:
        raise DataError(f"{output}: a folder; --output is a file for {options.format} of {len(recordings)} recordings")
    if in_folder and output.is_file():
        raise DataError(f"{output}: a file; --output is a folder for {options.format} of several recordings")
    if report is not None and report.is_dir():
        raise DataError(f"{report}: a folder; --report is a file")
    if report is not None:
        _must_not_nest(output, report, in_folder)
    for path in filter(None, (output, report)):
        must_be_writable(path)
    _must_overwrite_nothing(options, recordings)
    return recordings


def _place(path: Path) -> Path:
    """The path; where it is a link, what that leads to, as the file there is the one to be replaced.

    Raises:
        DataError: it has no name, or is a device.
    """
    must_be_writable(path)
    if path.is_symlink() or path.name == "..":
        path = Path(os.path.realpath(path))
    if not Path(os.path.abspath(path)).name:
        raise DataError(f"{path}: no name of a file; add one")
    return path


def _must_not_nest(output: Path, report: Path, in_folder: bool) -> None:
    """
    Raises:
        DataError: one would be a folder of the other.
    """
    inner, outer = (Path(os.path.abspath(path)) for path in (report, output))
    if inner in outer.parents or (outer in inner.parents and not in_folder):
        raise DataError(f"{output} and {report}: one of --output and --report lies in the other; choose other places")


def _must_overwrite_nothing(options: argparse.Namespace, recordings: list[Path]) -> None:
    """
    Raises:
        DataError: output or report would take the place of what is read, or of each other.
    """
    runs = [path for run in options.run for path in (run, run / BEST, run / LAST, run / CONFIG, _weights_of(run))]
    read = {"--input": recordings, "--run": runs, "--sample-submission": [options.sample_submission]}
    taken = {os.path.realpath(path): name for name, paths in read.items() for path in paths if path is not None}
    for name, path in (("--output", options.output), ("--report", options.report)):
        if path is not None and (other := taken.setdefault(os.path.realpath(path), name)) != name:
            raise DataError(f"{path}: {name} would overwrite {other}; choose another name")


def _weights_of(run: Path) -> str:
    """Where they are, if this is an exported file of OpenVINO."""
    return f"{os.path.splitext(run)[0]}.bin"


def load(options: argparse.Namespace) -> Predictor:
    """The models, ready to score."""
    window_s = options.window_s or (_SUBMISSION_S if options.format == "submission" else None)
    predictor = Predictor(
        options.run, window_s=window_s, step_s=options.step_s, shift_tta=options.shift_tta,
        backend=options.backend, device=options.device,
    )  # fmt: skip
    names = ", ".join(f"{model.card.model_type} ({model.backend})" for model in predictor.models)
    log.info("%s: %d classes, rows of %g s", names, len(predictor.labels), predictor.grid.window_s)
    return predictor


def check_sample(options: argparse.Namespace, predictor: Predictor, recordings: list[Path]) -> tables.Sample | None:
    """The sample submission, if there is one: it must fit the run and the recordings."""
    if options.sample_submission is None:
        return None
    sample = tables.read_sample(options.sample_submission, predictor.labels)
    tables.must_have_all(sample, recordings)
    tables.must_fit(sample, predictor.grid)
    return sample


@contextlib.contextmanager
def open_job(options: argparse.Namespace, predictor: Predictor) -> Iterator[ScoreStore]:
    """Where scores are kept until all are there; no other job may write the same output meanwhile.

    Says, whatever stops the job, how to go on with what is kept.
    """
    settings = {
        "--run": [model.digest for model in predictor.models],
        "--window-s": predictor.grid.window_s,
        "--step-s": predictor.grid.step_s,
        "--shift-tta": predictor.grid.shift_tta,
        "--backend": [model.backend for model in predictor.models],
    }
    output = Path(os.path.abspath(options.output))
    output.parent.mkdir(parents=True, exist_ok=True)
    busy = f"{output}: another predict.py is at work on it; wait for it, or choose another --output"
    with alone(output, busy):
        job = ScoreStore(options.output, settings, resume=options.resume)
        for place in filter(None, (options.output, options.report)):  # what a killed job was about to write
            if (folder := place if place.is_dir() else Path(os.path.abspath(place)).parent).is_dir():
                remove_leftovers(folder)
        try:
            yield job
        except BaseException:  # a full disk, Ctrl-C, a bug: what is scored outlives them all
            if not job.is_empty:
                log.warning("what is scored is kept: go on with the same command and --resume")
            raise


def score(predictor: Predictor, recordings: list[Path], job: ScoreStore) -> list[Path]:
    """Score what is not scored yet, and say what is wrong with any; return the recordings that are scored.

    Raises:
        DataError: not one recording could be scored.
    """
    todo = [recording for recording in recordings if recording not in job]
    if len(todo) < len(recordings):
        log.info("going on: %d of %d recordings are scored already", len(recordings) - len(todo), len(recordings))
        for path, problem in job.problems(recordings):
            log.warning(_PARTLY, path, problem, _caution(problem))
    bad = set()
    with _bar(todo) as bar, _memory():
        for path, result in predictor.predict_files(todo):
            if isinstance(result, BadRecording):
                bad.add(path)
                log.warning("%s: left out: %s", path, result)
            else:
                job.keep(result)
                if result.problem is not None:
                    log.warning(_PARTLY, path, result.problem, _caution(str(result.problem)))
                _advance(bar, result.seconds / 3600)
    if len(bad) == len(recordings):
        job.remove()
        raise DataError(f"no recording could be scored ({len(bad)} tried); nothing is written")
    log.info("%d recordings scored, %d left out", len(recordings) - len(bad), len(bad))
    return [recording for recording in recordings if recording not in bad]


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    """Word for a person that there was too little."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is one; on a CPU it is a plain one
        known = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
        if not known:
            raise
        text = "end other programs; --device cpu needs no memory of a GPU, and a shorter --window-s less"
        raise UserError(f"out of memory ({first_line(error)}); {text}") from None


def _caution(problem: str) -> str:
    """What to beware of in the scores of a recording with that problem."""
    return _BEHIND_A_HOLE if problem.startswith("hole:") else ""


def write(
    options: argparse.Namespace, predictor: Predictor, recordings: list[Path], scored: list[Path], job: ScoreStore,
    sample: tables.Sample | None,
) -> None:  # fmt: skip
    """Write the output, and the report if one is wanted; then nothing needs to be kept."""
    for path in filter(None, (options.output, options.report)):
        path.parent.mkdir(parents=True, exist_ok=True)
    card = predictor.models[0].card
    detection_filter = tables.DetectionFilter(options.threshold, options.top_k, options.merge)
    if options.merge or options.format in tables.TABLES:
        detection_filter = detection_filter.or_default()
    results = job.results(scored, options.combine, options.smooth)
    if options.format == "submission":
        tables.write_submission(options.output, results, card, predictor.grid, sample)
    elif options.format == "csv":
        tables.write_csv(options.output, results, card, detection_filter)
    else:
        tables.write_tables(options.output, results, card, detection_filter, options.format, recordings)
    if options.report is not None:
        from inference.report import write_report

        results = job.results(scored, options.combine, options.smooth)
        write_report(
            options.report,
            results,
            card,
            detection_filter.or_default(),
            [one.card.model_type for one in predictor.models],
        )
        log.info("report: %s", options.report)
    job.remove()


def _bar(recordings: list[Path]) -> tqdm:
    """A bar in hours of audio, with the time left, where there is a terminal."""
    hours = sum(map(_hours, recordings)) if os.isatty(2) else None
    form = "{desc}: {percentage:3.0f}%|{bar}| {n:.2f}/{total:.2f} h of audio [{elapsed}<{remaining}]"
    return tqdm(total=hours, desc="scoring", bar_format=form, disable=None, dynamic_ncols=True)


def _advance(bar: tqdm, hours: float) -> None:
    """Move on; the total follows where a header has promised less than there was, as tqdm would forget it."""
    if bar.total is not None:
        bar.total = max(bar.total, bar.n + hours)
    bar.update(hours)


def _hours(recording: Path) -> float:
    try:
        info = audio_info(recording)
    except BadRecording:
        return 0.0
    return info.frames / info.sample_rate / 3600
