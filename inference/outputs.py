"""Can --output and --report be written, and would they overwrite something? This is checked before the work."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from inference.options import Options
from inference.tables import TABLES
from utils.errors import DataError
from utils.files import must_be_writable
from utils.run_folder import BEST, CONFIG, LAST


def resolve_outputs(options: Options) -> Options:
    """The options with output and report as the files that will be replaced: where one is a link, its target.

    Raises:
        DataError: one of them has no file name, or is a device.
    """
    report = None if options.report is None else _resolved(options.report)
    return replace(options, output=_resolved(options.output), report=report)


def _resolved(path: Path) -> Path:
    must_be_writable(path)
    if path.is_symlink() or path.name == "..":
        path = Path(os.path.realpath(path))
    if not Path(os.path.abspath(path)).name:
        raise DataError(f"{path}: this is not the name of a file; add one")
    return path


def check_outputs(options: Options, recordings: Sequence[Path]) -> None:
    """
    Raises:
        DataError: an output cannot be written, or would overwrite something that is read.
    """
    output, report = options.output, options.report
    in_folder = options.format in TABLES and (len(recordings) > 1 or output.is_dir())
    if output.is_dir() and not in_folder:
        raise DataError(f"{output}: this is a folder; with --format {options.format}, --output is a file")
    if in_folder and output.is_file():
        raise DataError(
            f"{output}: this is a file; with --format {options.format} and several recordings, --output is a folder"
        )
    if report is not None and report.is_dir():
        raise DataError(f"{report}: this is a folder; --report is a file")
    if report is not None:
        _must_not_nest(output, report, in_folder)
    for path in filter(None, (output, report)):
        must_be_writable(path)
    _must_overwrite_nothing(options, recordings)


def _must_not_nest(output: Path, report: Path, in_folder: bool) -> None:
    """
    Raises:
        DataError: one would have to be a folder that holds the other.
    """
    inner, outer = (Path(os.path.abspath(path)) for path in (report, output))
    if inner in outer.parents or (outer in inner.parents and not in_folder):
        raise DataError(f"{output} and {report}: one of --output and --report is inside the other; choose other paths")


def _must_overwrite_nothing(options: Options, recordings: Sequence[Path]) -> None:
    """
    Raises:
        DataError: output or report would overwrite a file that is read, or each other.
    """
    runs = [path for run in options.run for path in (run, run / BEST, run / LAST, run / CONFIG, _weights_of(run))]
    read = {"--input": recordings, "--run": runs, "--sample-submission": [options.sample_submission]}
    read |= {"--labels": [options.labels], "--species": [options.species]}
    taken = {os.path.realpath(path): name for name, paths in read.items() for path in paths if path is not None}
    for name, path in (("--output", options.output), ("--report", options.report)):
        if path is not None and (other := taken.setdefault(os.path.realpath(path), name)) != name:
            raise DataError(f"{path}: {name} would overwrite {other}; choose another name")


def _weights_of(run: Path) -> str:
    """The file of the weights, if this is an exported OpenVINO file."""
    return f"{os.path.splitext(run)[0]}.bin"
