"""Scores -> the tables that others read: Kaggle's submission, CSV, Raven selection tables, Audacity labels.

Each is written whole or not at all.
"""

import csv
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from dataloader.metadata import NOCALL
from factory.model_card import ModelCard
from inference.window_plan import Grid
from utils.errors import DataError
from utils.files import whole, write_text

log = logging.getLogger(__name__)

DEFAULT_THRESHOLD = 0.25  # of Raven and Audacity tables, and of --merge, unless one is given


@dataclass(frozen=True)
class Result:
    """The rows of one recording.

    Attributes:
        start_s, end_s: ``(rows,)``, seconds.
        scores: ``(rows, classes)``, in the order of the card' labels.
        seconds, sample_rate: of the recording.
    """

    path: Path
    start_s: np.ndarray
    end_s: np.ndarray
    scores: np.ndarray
    seconds: float
    sample_rate: int


@dataclass(frozen=True)
class DetectionFilter:
    """Which scores are told.

    Args:
        threshold: the least score; None: all.
        top_k: of each row at most so many labels, the best; None: all.
        merge: tell consecutive detections of a label as one, with the highest of their scores.
    """

    threshold: float | None = None
    top_k: int | None = None
    merge: bool = False

    def or_default(self) -> "DetectionFilter":
        """The same, with ``DEFAULT_THRESHOLD`` where nothing thins."""
        if self.threshold is None and self.top_k is None:
            return DetectionFilter(DEFAULT_THRESHOLD, None, self.merge)
        return self


class Detection(NamedTuple):
    """A label somewhere in a recording; ``label`` is its index."""

    start_s: float
    end_s: float
    label: int
    score: float


def detections(result: Result, detection_filter: DetectionFilter) -> Iterator[Detection]:
    """What is told of a recording, by time and then by label."""
    found = (one for row in range(len(result.scores)) for one in _of_row(result, row, detection_filter))
    return iter(_merged(found)) if detection_filter.merge else found


def _of_row(result: Result, row: int, detection_filter: DetectionFilter) -> Iterator[Detection]:
    scores = result.scores[row]
    kept = np.ones(scores.shape, dtype=bool)
    if detection_filter.threshold is not None:
        kept &= scores >= detection_filter.threshold
    if detection_filter.top_k is not None:
        kept &= np.argsort(-scores, kind="stable").argsort() < detection_filter.top_k
    start_s, end_s = float(result.start_s[row]), float(result.end_s[row])
    return (Detection(start_s, end_s, int(label), float(scores[label])) for label in np.flatnonzero(kept))


def _merged(found: Iterable[Detection]) -> list[Detection]:
    done: list[Detection] = []
    last: dict[int, int] = {}  # label -> where its last detection stands in ``done``
    for one in found:
        place = last.get(one.label)
        if place is not None and one.start_s <= done[place].end_s + 1e-6:
            before = done[place]
            done[place] = Detection(
                before.start_s, max(before.end_s, one.end_s), one.label, max(before.score, one.score)
            )
        else:
            last[one.label] = len(done)
            done.append(one)
    return done


class _Rows:
    """A file whose rows end in a line feed, for a csv.writer that is told of both: it quotes only what ends rows."""

    def __init__(self, file: TextIO):
        self._file = file

    def write(self, row: str) -> None:
        self._file.write(row.removesuffix("\r\n") + "\n")


def write_csv(path: Path, results: Iterable[Result], card: ModelCard, detection_filter: DetectionFilter) -> None:
    """``file,start_s,end_s,label,score``; a row for every label of every window unless thinned."""
    with whole(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(_Rows(file), lineterminator="\r\n")
        writer.writerow(("file", "start_s", "end_s", "label", "score"))
        for result in results:
            name = words(result.path)
            writer.writerows(
                (name, _seconds(one.start_s), _seconds(one.end_s), card.labels[one.label], f"{one.score:.6g}")
                for one in detections(result, detection_filter)
            )


# Kaggle


@dataclass(frozen=True)
class Sample:
    """A sample submission: the columns and rows that are expected, in their order."""

    path: Path
    labels: tuple[str, ...]
    row_ids: tuple[str, ...]


def read_sample(path: Path, labels: Sequence[str]) -> Sample:
    """Read a sample submission and compare its columns with the labels of the run.

    Raises:
        DataError: missing, not such a table, or of other species.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            row_ids = tuple(row[0] for row in rows if row)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; --sample-submission takes Kaggle's sample_submission.csv") from None
    except (UnicodeDecodeError, csv.Error):
        raise DataError(f"{path}: not a CSV table; give Kaggle's sample_submission.csv") from None
    if header[:1] != ["row_id"] or len(header) < 2 or len(set(header)) < len(header):
        raise DataError(f"{path}: its columns should be row_id and one for each species; it begins with {header[:3]}")
    if not row_ids:
        raise DataError(f"{path}: it has no rows; give one that names the rows to write, or leave it out")
    expected = tuple(header[1:])
    if not (shared := set(expected) & set(labels)):
        raise DataError(
            f"{path}: none of its {len(expected)} species is among the {len(labels)} of the run "
            f"({expected[0]} ... against {labels[0]} ...); is it of another competition?"
        )
    if missing := [label for label in expected if label not in shared]:
        log.warning("the run does not know %d species; they get their prior: %s", len(missing), ", ".join(missing))
    if extra := [label for label in labels if label not in shared and label != NOCALL]:
        log.warning("%s has no column for %d species of the run: %s", path, len(extra), ", ".join(extra))
    return Sample(path, expected, row_ids)


def must_have_all(sample: Sample, recordings: Iterable[Path]) -> None:
    """
    Raises:
        DataError: a recording that the sample names is not among the inputs.
    """
    given = {words(recording.stem) for recording in recordings}
    wanted = dict.fromkeys(row_id.rpartition("_")[0] for row_id in sample.row_ids)
    if missing := [stem for stem in wanted if stem not in given]:
        raise DataError(
            f"{sample.path}: {len(missing)} of its {len(wanted)} recordings are not among the inputs, "
            f"the first is {missing[0]}; add their folder to --input"
        )


def must_fit(sample: Sample, grid: Grid) -> None:
    """
    Raises:
        DataError: a row of the sample is of no window, however long its recording is.
    """
    strange = [row_id for row_id in sample.row_ids if not _is_end(row_id.rpartition("_")[2], grid)]
    if strange:
        raise DataError(
            f"{sample.path}: {len(strange)} of its {len(sample.row_ids)} rows end where no window does, the first is "
            f"{strange[0]}; choose --window-s and --step-s as the competition does, 5 and 5"
        )


def _is_end(text: str, grid: Grid) -> bool:
    """Is this how the end second of some row is written?"""
    try:
        number = round((float(text) - grid.window_s) / grid.step_s)
    except (ValueError, OverflowError):
        return False
    return number >= 0 and text == _end_of(number, grid)


def _end_of(number: int, grid: Grid) -> str:
    """The end second in the row_id of a recording's row."""
    return _seconds(number * grid.step_s + grid.window_s)


def must_differ_in_name(recordings: Iterable[Path]) -> None:
    """
    Raises:
        DataError: two recordings would have the same row_ids.
    """
    seen: dict[str, Path] = {}
    for recording in recordings:
        if (other := seen.setdefault(recording.stem, recording)) is not recording:
            raise DataError(f"{other} and {recording} have one name, and so one row_id; leave one of them out")


def write_submission(path: Path, results: Iterable[Result], card: ModelCard, grid: Grid, sample: Sample | None) -> None:
    """``row_id`` and a column for each species; a row_id is ``<stem>_<end second>``.

    With a sample: its columns and rows, in its order. What the run cannot know of it (a species, a
    recording that could not be read, a row behind where a recording was cut off) gets its prior, one
    over the number of species.
    """
    labels = sample.labels if sample else tuple(sorted(set(card.labels) - {NOCALL}))  # which is no species
    place = {label: number for number, label in enumerate(card.labels)}
    columns = [place.get(label, -1) for label in labels]
    known = np.array([column >= 0 for column in columns])
    prior = np.float32(1 / len(labels))
    rows = (
        (row_id, np.where(known, scores[columns], prior))
        for result in results
        for row_id, scores in _rows_of(result, grid)
    )
    with whole(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(_Rows(file), lineterminator="\r\n")
        writer.writerow(("row_id", *labels))
        for row_id, scores in _as_in(sample, rows, prior) if sample else rows:
            writer.writerow((row_id, *(f"{score:.6g}" for score in scores)))


def _rows_of(result: Result, grid: Grid) -> Iterator[tuple[str, np.ndarray]]:
    for number, scores in enumerate(result.scores):
        # Not end_s: a last row that was pushed back by the recording's end keeps the name of the window it stands for.
        yield f"{words(result.path.stem)}_{_end_of(number, grid)}", scores


def _as_in(
    sample: Sample, rows: Iterable[tuple[str, np.ndarray]], prior: np.float32
) -> Iterator[tuple[str, np.ndarray]]:
    scored = dict(rows)
    if unknown := [row_id for row_id in sample.row_ids if row_id not in scored]:
        stems = dict.fromkeys(row_id.rpartition("_")[0] for row_id in unknown)
        log.warning(
            "%d rows get the prior, as these recordings could not be read that far: %s", len(unknown), ", ".join(stems)
        )
    if left := len(scored.keys() - set(sample.row_ids)):
        log.warning("%d rows that %s does not name are left out", left, sample.path)
    for row_id in sample.row_ids:
        yield row_id, scored.get(row_id, np.full(len(sample.labels), prior))


# Raven and Audacity: a table for each recording

RAVEN_COLUMNS = (
    "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)",
    "Common Name", "Species Code", "Confidence", "Begin Path", "File Offset (s)",
)  # fmt: skip


def raven_table(result: Result, card: ModelCard, detection_filter: DetectionFilter) -> str:
    """A selection table of Raven Pro: tab-separated, a selection for each detection."""
    high = min(card.process.f_max, result.sample_rate / 2)
    low = min(card.process.f_min, high)
    lines = ["\t".join(RAVEN_COLUMNS)]
    for number, one in enumerate(_birds(result, card, detection_filter), 1):
        values = (
            number, "Spectrogram 1", 1, f"{one.start_s:.3f}", f"{one.end_s:.3f}", f"{low:.1f}", f"{high:.1f}",
            card.common_names[one.label] or card.labels[one.label], card.labels[one.label], f"{one.score:.4f}",
            words(os.path.abspath(result.path)), f"{one.start_s:.3f}",
        )  # fmt: skip
        lines.append("\t".join(_cell(value) for value in values))
    return "\n".join(lines) + "\n"


def audacity_table(result: Result, card: ModelCard, detection_filter: DetectionFilter) -> str:
    """A label track of Audacity: start, end and label, tab-separated, without a header."""
    return "".join(
        f"{one.start_s:.6f}\t{one.end_s:.6f}\t{_cell(card.labels[one.label])}\n"
        for one in _birds(result, card, detection_filter)
    )


def _birds(result: Result, card: ModelCard, detection_filter: DetectionFilter) -> Iterator[Detection]:
    """The detections of a table; that no bird calls is none."""
    return (one for one in detections(result, detection_filter) if card.labels[one.label] != NOCALL)


def _cell(value: object) -> str:
    """What fits between two tabs: a name may hold tabs and line breaks."""
    return " ".join(str(value).splitlines()).replace("\t", " ")


TABLES: dict[str, tuple[str, Callable[[Result, ModelCard, DetectionFilter], str]]] = {
    "raven": (".selections.txt", raven_table),
    "audacity": (".labels.txt", audacity_table),
}


def write_tables(
    path: Path,
    results: Iterable[Result],
    card: ModelCard,
    detection_filter: DetectionFilter,
    kind: str,
    recordings: Sequence[Path],
) -> None:
    """A table at ``path`` for one recording, unless a folder is there; else a table for each, in their own folders."""
    ending, table = TABLES[kind]
    above = os.path.commonpath([os.path.abspath(recording.parent) for recording in recordings])
    for result in results:
        place = path
        if len(recordings) > 1 or path.is_dir():
            place = path / (os.path.relpath(os.path.abspath(result.path), above) + ending)
            place.parent.mkdir(parents=True, exist_ok=True)
        write_text(place, table(result, card, detection_filter))


def words(path: Path | str) -> str:
    """A path as text; bytes that are not UTF-8 are told by their numbers, so that two names stay two."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def _seconds(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
