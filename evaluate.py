"""Score a run, or a table of any tool, against labels: figures with intervals, by class; and fit thresholds."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from inference.choices import BACKENDS
from utils.arguments import at_least, positive, share, threshold_or_auto
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
        "--labels", type=Path, metavar="TABLE",
        help="row_id and a column of 0 and 1 for each class, or a folder of data",
    )  # fmt: skip
    add("--output", type=Path, metavar="DIR", help="also write scores.json, tables (CSV) and pictures there")
    add(
        "--fit-thresholds", action="store_true",
        help="fit thresholds and a calibration on the validation subset, and save them in the run",
    )  # fmt: skip
    add("--precision", type=share, metavar="P", help="fit or use thresholds for this precision")
    add("--recall", type=share, metavar="R", help="... for this recall")
    add("--f1", action="store_true", help="... for the best F1")
    add("--false-alarms-per-hour", type=positive, metavar="N", help="... for so many false alarms in an hour")
    add("--threshold", type=threshold_or_auto, metavar="SCORE", help="one for all classes, or auto: the run's newest")
    add("--calibrated", action="store_true", help="evaluate the probabilities that the run's calibration gives")
    add("--window-s", type=positive, metavar="S", help="seconds of a window; default: as trained, or 5")
    add(
        "--set", dest="overrides", metavar="section.key=value", action="append", default=[],
        help="a setting for reading --data or a folder of --labels, such as data.label_from=folder:1",
    )  # fmt: skip
    add(
        "--min-positives", type=at_least(1), default=1, metavar="N",
        help="leave out classes with fewer; default: %(default)s",
    )  # fmt: skip
    add("--backend", choices=("auto", *BACKENDS), default="auto", help="default: the fastest installed")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    from inference import evaluating as steps  # pandas and torch take seconds to import: not for --help

    scores = steps.load(options)
    if options.fit_thresholds:
        from inference.fitting import fit_thresholds

        for path in fit_thresholds(scores, *options.aim):
            print(f"thresholds: {path}")
        log.info("to show them on the page of the run: python -m training.run_page %s", " ".join(map(str, options.run)))
    else:
        for scored in scores:
            steps.report(options, scored, steps.judge(options, scored))
    return 0


def _aim(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[str, float | None] | None:
    """The kind of the aim that the thresholds are for, and its value; None if the options name none."""
    kinds = ("precision", "recall", "false_alarms_per_hour")
    aims = [(kind, getattr(options, kind)) for kind in kinds if getattr(options, kind) is not None]
    aims += [("f1", None)] if options.f1 else []
    if len(aims) > 1 or (aims and options.threshold is not None):
        parser.error("choose one of --precision, --recall, --f1, --false-alarms-per-hour and --threshold")
    return aims[0] if aims else None


if __name__ == "__main__":
    run_command(main)
