"""Which options does predict.py have? This file imports nothing slow, so that --help is fast."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.choices import BACKENDS, COMBINATIONS, DEFAULT_THRESHOLD, DEVICES, FORMATS, RECORDING
from utils.arguments import at_least, positive, share, threshold, threshold_or_auto

_LONGEST_ROW_S = 86_400.0
_LARGEST_EXPANSION = 1000.0


@dataclass(frozen=True)
class Options:
    """What the user asked for; each field has the name of its option, and means what its help says."""

    run: list[Path]
    input: list[str]
    output: Path
    format: str
    window_s: float | str | None
    step_s: float | None
    combine: str
    smooth: bool
    shift_tta: bool
    time_expansion: float | None
    threshold: float | str | None
    precision: float | None
    calibrated: bool
    species: Path | None
    top_k: int | None
    merge: bool
    stop_threshold: float | None
    longest_s: float | None
    labels: Path | None
    sample_submission: Path | None
    report: Path | None
    backend: str
    device: str
    resume: bool
    strict: bool

    @property
    def aim(self) -> str | None:
        """The aim whose fitted thresholds are used, as ``evaluation.decisions`` names it; ``auto``: the newest."""
        if self.precision is not None:
            return f"precision={self.precision:g}"
        return self.threshold if isinstance(self.threshold, str) else None

    @property
    def plain_threshold(self) -> float | None:
        """The threshold that is the same for all classes, if one is given."""
        return None if isinstance(self.threshold, str) else self.threshold


def parse(description: str, arguments: Sequence[str] | None) -> Options:
    """Read the command line. A mistake ends the process with exit code 2, before anything slow is imported."""
    parser = argparse.ArgumentParser(description=description)
    _add_what_and_where(parser)
    _add_rows_and_scores(parser)
    _add_filters(parser)
    _add_execution(parser)
    options = Options(**vars(parser.parse_args(arguments)))
    if problem := _contradiction(options):
        parser.error(problem)
    return options


def _add_what_and_where(parser: argparse.ArgumentParser) -> None:
    add, several = parser.add_argument, {"nargs": "+", "action": "extend", "required": True}
    add(
        "--run", type=Path, metavar="RUN_DIR", **several,
        help="the folder of a run, a file that export.py wrote, or a pretrained encoder (birdnet_v2.4, birdnet_v3, "
        "or its file with --labels) that needs no training; the scores of several are combined",
    )  # fmt: skip
    add("--labels", type=Path, metavar="FILE", help="the labels of an encoder's file, one on each line")
    add("--input", metavar="PATH", help="recordings, folders (searched recursively) or patterns", **several)
    add(
        "--output", type=Path, required=True, metavar="FILE",
        help="the table; for raven and audacity with several recordings, a folder with one table each",
    )  # fmt: skip
    add("--format", choices=FORMATS, required=True)
    add(
        "--sample-submission", type=Path, metavar="CSV",
        help="a submission gets the columns and rows of this file, in its order",
    )  # fmt: skip
    add("--report", type=Path, metavar="HTML", help="also write a page with pictures and sound of the detections")


def _add_rows_and_scores(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--window-s", type=_row, metavar="S",
        help=f"seconds of a row, or {RECORDING!r} for one row a recording; default: as in training, 5 for a submission",
    )  # fmt: skip
    add("--step-s", type=positive, metavar="S", help="seconds from row to row; default: the value of --window-s")
    add("--combine", choices=COMBINATIONS, default="mean", help="how to combine several runs; rank: submissions only")
    add("--smooth", action="store_true", help="average neighbouring rows with the weights .1 .2 .4 .2 .1")
    add(
        "--shift-tta", action="store_true",
        help="also score windows half a window earlier and later; takes twice the time",
    )  # fmt: skip
    add(
        "--time-expansion", type=_expansion, metavar="X",
        help="the recordings play X times slower than the original sound, as those of many bat detectors do (10); "
        "default: what each recording states itself (GUANO, Wildlife Acoustics), else 1",
    )  # fmt: skip


def _add_filters(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--threshold", type=threshold_or_auto, metavar="SCORE|auto",
        help="leave out lower scores; auto: the thresholds that evaluate.py fitted last for each class of the run; "
        "default: none for csv, 0.25 for raven, audacity, --merge and --report",
    )  # fmt: skip
    add(
        "--precision", type=share, metavar="P",
        help="use the thresholds that evaluate.py --fit-thresholds --precision P fitted for the run",
    )  # fmt: skip
    add(
        "--calibrated", action="store_true",
        help="write probabilities in place of scores, by the calibration that evaluate.py fitted; thresholds still "
        "apply to the scores",
    )  # fmt: skip
    add(
        "--species", type=Path, metavar="FILE",
        help="keep only the species of this text file (one on each line); for a list by place and week, see the geo "
        "model of the package birdnet",
    )  # fmt: skip
    add("--top-k", type=at_least(1), metavar="K", help="keep the K best labels of each row")
    add("--merge", action="store_true", help="join consecutive detections of a label into one")
    add(
        "--stop-threshold", type=threshold, metavar="SCORE",
        help="with --merge: a detection goes on as long as scores are at least this; default: the value of --threshold",
    )  # fmt: skip
    add("--longest-s", type=positive, metavar="S", help="with --merge: cut longer detections; default: 60 seconds")


def _add_execution(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--backend", choices=("auto", *BACKENDS), default="auto", help="auto: the fastest one that is installed")
    add("--device", choices=DEVICES, default="auto")
    add("--resume", action="store_true", help="continue a job that was stopped")
    add("--strict", action="store_true", help="exit with code 1 if a recording could not be scored, or not to its end")


def _contradiction(options: Options) -> str | None:
    """Which options contradict each other; None if none do."""
    if options.sample_submission and options.format != "submission":
        return "--sample-submission needs --format submission"
    if options.window_s == RECORDING and (options.format == "submission" or options.step_s):
        return f"--window-s {RECORDING} gives one row a recording, so it excludes --step-s and --format submission"
    if options.threshold is not None and options.precision is not None:
        return "--threshold and --precision exclude each other; use one of them"
    filtered = options.threshold is not None or options.precision is not None or options.top_k or options.merge
    if options.format == "submission" and filtered:
        return "a submission holds every score; use --threshold, --precision, --top-k and --merge with other formats"
    if not options.merge and (options.stop_threshold is not None or options.longest_s):
        return "--stop-threshold and --longest-s need --merge"
    if options.stop_threshold is not None and options.stop_threshold > _least_start(options):
        return "--stop-threshold must not be above --threshold (0.25 if it is not given)"
    if options.combine == "rank" and options.calibrated:
        return "--combine rank gives ranks, which cannot be calibrated; leave out --calibrated"
    if options.combine == "rank" and (options.format != "submission" or options.report):
        return "--combine rank gives ranks, to which no threshold applies; use it with --format submission, no --report"
    return None


def _least_start(options: Options) -> float:
    """The lowest score with which a merged detection can start."""
    if options.aim is not None:
        return 1.0  # each class has its own, which is known only when the run is loaded
    if options.threshold is None:
        return 1.0 if options.top_k else DEFAULT_THRESHOLD
    return options.threshold


def _expansion(text: str) -> float:
    value = positive(text)
    if value > _LARGEST_EXPANSION:
        raise argparse.ArgumentTypeError(f"{text} is above {_LARGEST_EXPANSION:g}")
    return value


def _row(text: str) -> float | str:
    if text == RECORDING:
        return text
    value = positive(text)
    if value > _LONGEST_ROW_S:
        raise argparse.ArgumentTypeError(f"{text} s is more than a day")
    return value
