"""Sift through recordings with a trained run: scores for Kaggle, Raven, Audacity or whatever reads CSV."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from inference.choices import BACKENDS, COMBINATIONS, DEVICES, FORMATS
from utils.command import run_command

_LONGEST_ROW_S = 86_400.0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    several = {"nargs": "+", "action": "extend", "required": True}
    add("--run", type=Path, metavar="RUN_DIR", help="a run, or what export.py wrote; several are combined", **several)
    add("--input", metavar="PATH", help="recordings, folders (with all in them) or patterns", **several)
    add("--output", type=Path, required=True, metavar="FILE", help="a folder for raven and audacity of several")
    add("--format", choices=FORMATS, required=True)
    add("--window-s", type=_row, metavar="S", help="seconds a row; default: as trained, for a submission 5")
    add("--step-s", type=_positive, metavar="S", help="seconds from row to row; default: the same as --window-s")
    add("--combine", choices=COMBINATIONS, default="mean", help="several runs; rank: submissions only")
    add("--smooth", action="store_true", help="weigh neighbouring rows in: .1 .2 .4 .2 .1")
    add("--shift-tta", action="store_true", help="look also half a window earlier and later; twice the work")
    add(
        "--threshold",
        type=_share,
        metavar="SCORE",
        help="leave out lower scores; 0.25 for raven, audacity and --report",
    )
    add("--top-k", type=_count, metavar="K", help="keep the K best labels of each row")
    add("--merge", action="store_true", help="make consecutive detections of a label one; threshold 0.25")
    add("--sample-submission", type=Path, metavar="CSV", help="write its columns and rows, in its order")
    add("--report", type=Path, metavar="HTML", help="also a page with pictures and sound of the detections")
    add("--backend", choices=("auto", *BACKENDS), default="auto", help="auto: the fastest installed")
    add("--device", choices=DEVICES, default="auto")
    add("--resume", action="store_true", help="go on with a job that was stopped")
    add("--strict", action="store_true", help="exit code 1 if any recording could not be scored")
    options = parser.parse_args(arguments)
    if options.sample_submission and options.format != "submission":
        parser.error("--sample-submission goes with --format submission")
    if options.format == "submission" and (options.threshold is not None or options.top_k or options.merge):
        parser.error("a submission holds every score; --threshold, --top-k and --merge go with the other formats")
    if options.combine == "rank" and (options.format != "submission" or options.report):
        parser.error("a rank is no score, and no threshold fits it: --combine rank goes with --format submission alone")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    from inference import steps  # torch takes seconds to import: not for --help

    recordings = steps.find(options)
    predictor = steps.load(options)
    sample = steps.check_sample(options, predictor, recordings)
    with steps.open_job(options, predictor) as job:
        scored = steps.score(predictor, recordings, job)
        steps.write(options, predictor, recordings, scored, job, sample)
    print(f"written: {options.output}")
    return 1 if options.strict and len(scored) < len(recordings) else 0


def _number(text: str, kind: type, name: str) -> float:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not {name}") from None


def _positive(text: str) -> float:
    value = _number(text, float, "a number")
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _row(text: str) -> float:
    value = _positive(text)
    if value > _LONGEST_ROW_S:
        raise argparse.ArgumentTypeError(f"{text} s are more than a day")
    return value


def _share(text: str) -> float:
    value = _number(text, float, "a number")
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _count(text: str) -> int:
    value = _number(text, int, "a whole number")
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return value


if __name__ == "__main__":
    run_command(main)
