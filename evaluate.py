"""Score a run, or a table of any tool, against labels: figures with intervals, by class; and fit thresholds."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from utils.command import run_command

log = logging.getLogger(__name__)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(arguments)
    options.aim = _aim(parser, options)
    if (options.predictions is None) == (options.run is None):
        parser.error("name --run, or --predictions with --labels")
    if (options.predictions is None) != (options.labels is None):
        parser.error("--predictions needs --labels, and --labels needs --predictions")
    if options.predictions is not None and (options.data or options.fit_thresholds or options.calibrated):
        parser.error("--data, --fit-thresholds and --calibrated need --run")
    if options.fit_thresholds and options.aim is None:
        parser.error("--fit-thresholds needs an aim: --precision P, --recall R, --f1 or --false-alarms-per-hour N")
    if options.fit_thresholds and (options.threshold is not None or options.calibrated or options.output):
        parser.error("--fit-thresholds only writes to the run; leave out --threshold, --calibrated and --output")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--run", type=Path, nargs="+", metavar="RUN_DIR", help="a run, or a folder of folds, which are pooled")
    add("--data", type=Path, metavar="DIR", help="score the run on these recordings; default: its own test subset")
    add("--predictions", type=Path, metavar="TABLE", help="scores of any tool: submission.csv, CSV or Raven tables")
    add(
        "--labels",
        type=Path,
        metavar="TABLE",
        help="row_id and a column of 0 and 1 for each class, or a folder of data",
    )
    add("--output", type=Path, metavar="DIR", help="also write scores.json, tables (CSV) and pictures there")
    add(
        "--fit-thresholds",
        action="store_true",
        help="keep thresholds and calibration in the run, on its validation subset",
    )
    add("--precision", type=_share, metavar="P", help="fit or use thresholds for this precision")
    add("--recall", type=_share, metavar="R", help="... for this recall")
    add("--f1", action="store_true", help="... for the best F1")
    add("--false-alarms-per-hour", type=_positive, metavar="N", help="... for so many false alarms in an hour")
    add("--threshold", type=_threshold, metavar="SCORE", help="one for all classes, or auto: the run's newest")
    add("--calibrated", action="store_true", help="evaluate the probabilities that the run's calibration gives")
    add("--window-s", type=_positive, metavar="S", help="seconds of a window; default: as trained, or 5")
    add(
        "--set",
        dest="overrides",
        metavar="section.key=value",
        action="append",
        default=[],
        help="a setting for reading --data or a folder of --labels, such as data.label_from=folder:1",
    )
    add(
        "--min-positives",
        type=_count,
        default=1,
        metavar="N",
        help="leave out classes with fewer; default: %(default)s",
    )
    add(
        "--backend",
        choices=("auto", "torch", "onnx", "openvino"),
        default="auto",
        help="default: the fastest installed",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    from inference import evaluating as steps  # pandas and torch take seconds to import: not for --help

    found = steps.load(options)
    if options.fit_thresholds:
        for path in steps.fit_thresholds(options, found):
            print(f"thresholds: {path}")
        log.info("to show them on the page of the run: python -m training.run_page %s", " ".join(map(str, options.run)))
        return 0
    steps.report(options, [(scored, steps.judge(options, scored)) for scored in found])
    return 0


def _aim(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[str, float | None] | None:
    """The aim of the thresholds: its kind and value."""
    kinds = ("precision", "recall", "false_alarms_per_hour")
    given = [(kind, getattr(options, kind)) for kind in kinds if getattr(options, kind) is not None]
    given += [("f1", None)] if options.f1 else []
    if len(given) > 1 or (given and options.threshold is not None):
        parser.error("choose one of --precision, --recall, --f1, --false-alarms-per-hour and --threshold")
    return given[0] if given else None


def _number(text: str, kind: type = float) -> float:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a number") from None


def _share(text: str) -> float:
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _positive(text: str) -> float:
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _count(text: str) -> int:
    value = _number(text, int)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return value


def _threshold(text: str) -> float | str:
    if text == "auto":
        return text
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is neither auto nor between 0 and 1")
    return value


if __name__ == "__main__":
    run_command(main)
