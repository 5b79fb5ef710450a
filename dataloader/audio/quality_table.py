"""Measure the sound of many recordings in parallel, and write a table that an interrupted run continues."""

import csv
import io
import logging
import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from dataloader.audio.quality import Quality, measure
from dataloader.cache.workers import run_jobs
from utils.errors import counted
from utils.files import write_text

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

_SAVE_EVERY_S = 10.0  # the work of this time is lost if the power fails
_CLIPPED_SHARE, _OFFSET, _SILENT_SHARE, _QUIET_DBFS = 0.001, 0.01, 0.1, -70.0  # beyond these a recording is named
_NAMED = 3  # recordings that a line names
_NARROW = 0.8  # of half the sample rate; lossy encoders cut a little below it, so this does not show a poor recording


Row = dict[str, Any]  # a row of the table: ``_KINDS``
_KINDS = {"filename": str, "size": int, "mtime_ns": int, "time_expansion": float}  # the columns and their types
_FILE = tuple(_KINDS)[1:]  # if these are the same as before, the recording is not measured again
_KINDS |= {field.name: field.type for field in fields(Quality)}


def measure_recordings(
    table: "pd.DataFrame", output: Path, *, n_workers: int, threads: bool, backend: str
) -> "pd.DataFrame":
    """Measure the recordings of a table that were not measured before, or have changed since.

    Args:
        table: with ``filename``, ``path`` and, if some were slowed down, ``time_expansion``.
        output: a CSV, ``filename``, ``size``, ``mtime_ns``, ``time_expansion`` and the fields of ``Quality``; it is
            updated every ten seconds and at the end, even after an error.
        n_workers, threads, backend: of [data]; see ``run_jobs``.

    Returns:
        The rows of these recordings, in the order of ``table``.
    """
    import pandas as pd

    known, rows, jobs = _read(output), {}, []
    expansions = table["time_expansion"] if "time_expansion" in table else [1.0] * len(table)
    for filename, path, expansion in zip(table["filename"], table["path"], expansions, strict=True):
        job = _job(filename, path, float(expansion))
        if filename in known and all(known[filename][name] == job[name] for name in _FILE):
            rows[filename] = known[filename]
        else:
            jobs.append(job)
    if jobs:
        log.info("measuring %s; %d are already measured", counted(len(jobs), "recording"), len(rows))
        _run(jobs, known, rows, output, n_workers, threads, backend)
    return pd.DataFrame([rows[name] for name in table["filename"]], columns=list(_KINDS))


def _run(
    jobs: Sequence[Row], known: dict[str, Row], rows: dict[str, Row], output: Path, n_workers: int, threads: bool,
    backend: str,
) -> None:  # fmt: skip
    """Measure the recordings, add them to ``rows``, and update the table."""
    saved_at = time.monotonic()
    results = run_jobs(_measured, jobs, n_workers=n_workers, threads=threads, backend=backend, died=_died)
    try:
        with closing(results), tqdm(total=len(jobs), unit="rec", desc="measuring", disable=None) as bar:
            for row in results:
                rows[row["filename"]] = known[row["filename"]] = row
                bar.update()
                if time.monotonic() - saved_at > _SAVE_EVERY_S:
                    _write(output, known)
                    saved_at = time.monotonic()
    finally:
        _write(output, known)


def _job(filename: str, path: str, time_expansion: float) -> Row:
    """The row of a recording before it is measured, and its path."""
    try:
        stat = os.stat(path)
        size, mtime_ns = stat.st_size, stat.st_mtime_ns
    except OSError:  # measuring will report what is wrong
        size = mtime_ns = -1
    return {"filename": filename, "size": size, "mtime_ns": mtime_ns, "time_expansion": time_expansion, "path": path}


def _measured(job: Row) -> Row:
    found = asdict(measure(job["path"], time_expansion=job["time_expansion"]))
    return job | {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in found.items()}


def _died(job: Row) -> Row:
    return job | asdict(Quality(problem="crashed: the process that decoded it died"))


def _read(path: Path) -> dict[str, Row]:
    """The rows of an earlier table by filename; none if there is none, or if it is of another kind."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != list(_KINDS):
                return {}
            complete = (row for row in reader if None not in row.values())
            return {row["filename"]: {name: kind(row[name]) for name, kind in _KINDS.items()} for row in complete}
    except (FileNotFoundError, ValueError, csv.Error):
        return {}


def _write(path: Path, rows: dict[str, Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(_KINDS), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[name] for name in sorted(rows))
    write_text(path, text.getvalue())


def quality_lines(frame: "pd.DataFrame") -> list[str]:
    """What to report about the recordings that were measured: a line for each kind of problem.

    Args:
        frame: of ``measure_recordings``.
    """
    half = frame["sample_rate"] / 2
    narrow = (frame["bandwidth_hz"] < _NARROW * half) & (frame["bandwidth_hz"] > 0)
    troubles = {
        "not readable, or not to the end": frame["problem"] != "",
        f"clipped in more than {_CLIPPED_SHARE:.1%} of the samples": frame["clipped_share"] > _CLIPPED_SHARE,
        f"digital silence for more than {_SILENT_SHARE:.0%} of the time": frame["silent_share"] > _SILENT_SHARE,
        "gaps, where the recorder dropped samples": frame["gaps"] > 0,
        f"very quiet, below {_QUIET_DBFS:.0f} dBFS": frame["rms_dbfs"] < _QUIET_DBFS,
        f"a constant offset (DC) of more than {_OFFSET:.0%} of full scale": frame["offset"].abs() > _OFFSET,
    }
    total = counted(len(frame), "recording")
    lines = [_line(what, frame[which], total) for what, which in troubles.items() if which.any()]
    for limit, affected in frame[narrow].groupby((frame["bandwidth_hz"] / 500).round() * 0.5, sort=True):
        why = f"as if recorded at a sample rate of {2 * limit:g} kHz, or cut by an encoder"
        lines.append(_line(f"nothing above {limit:g} kHz, {why}", affected, total))
    return lines or [f"sound: nothing to report of {total}"]


def _line(what: str, affected: "pd.DataFrame", total: str) -> str:
    names = affected["filename"].tolist()
    shown = ", ".join(names[:_NAMED]) + (" ..." if len(names) > _NAMED else "")
    return f"sound: {what}: {len(names)} of {total} ({shown})"
