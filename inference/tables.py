"""How are scores written for other programs? As Kaggle submissions, CSV, Raven selection tables, Audacity labels.

Each table is written completely or not at all. Times and frequencies in it are those of the file as it plays, so that
they fit what Raven or Audacity shows; of a file with a time expansion those of the sound are shorter and higher.
"""

import csv
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from dataloader.metadata import NOCALL
from dataloader.tables.birdclef import OLD_SUBMISSIONS
from factory.model_card import ModelCard
from inference.detections import Detection, DetectionFilter, Result, detections
from inference.window_plan import Grid
from utils.errors import DataError, counted
from utils.files import fitting_name, printable, whole, write_text

log = logging.getLogger(__name__)


class _Rows:
    """A file whose rows end in a line feed.

    csv.writer quotes only the characters of its own line terminator. With both characters in it, a name that holds
    either one is quoted, and the rows still end in a line feed alone.
    """

    def __init__(self, file: TextIO):
        self._file = file

    def write(self, row: str) -> None:
        self._file.write(row.removesuffix("\r\n") + "\n")


def write_csv(path: Path, results: Iterable[Result], card: ModelCard, detection_filter: DetectionFilter) -> None:
    """``file,start_s,end_s,label,score``: a row for each detection; without a filter, for each label of each window."""
    with whole(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(_Rows(file), lineterminator="\r\n")
        writer.writerow(("file", "start_s", "end_s", "label", "score"))
        for result in results:
            name, factor = printable(result.path), result.time_expansion
            writer.writerows(
                (name, *(_seconds(time * factor) for time in one[:2]), card.labels[one.label], f"{one.score:.6g}")
                for one in detections(result, detection_filter)
            )


# Kaggle


@dataclass(frozen=True)
class SampleSubmission:
    """The columns and rows that Kaggle expects, in their order."""

    path: Path
    labels: tuple[str, ...]
    row_ids: tuple[str, ...]


def read_sample(path: Path, labels: Sequence[str]) -> SampleSubmission:
    """Read a sample submission and compare its columns with the labels of the run.

    Raises:
        DataError: the file is missing, or is another kind of table, or has none of the run's species.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            row_ids = tuple(row[0] for row in rows if row)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; --sample-submission takes Kaggle's sample_submission.csv") from None
    except (UnicodeDecodeError, csv.Error):
        raise DataError(f"{path}: this is not a CSV table; give Kaggle's sample_submission.csv") from None
    if tuple(header) in OLD_SUBMISSIONS:
        raise DataError(
            f"{path}: a submission of BirdCLEF 2021 or 2022 ({', '.join(header)}); predict.py writes those of 2023 and "
            "later, with a column for each species; write --format csv and convert it"
        )
    if header[:1] != ["row_id"] or len(header) < 2 or len(set(header)) < len(header):
        raise DataError(f"{path}: its columns must be row_id and one for each species; it begins with {header[:3]}")
    if not row_ids:
        raise DataError(f"{path}: it has no rows; give a file that lists the rows to write, or no --sample-submission")
    expected = tuple(header[1:])
    if not (shared := set(expected) & set(labels)):
        raise DataError(
            f"{path}: none of its {len(expected)} species is among the {len(labels)} of the run "
            f"({expected[0]} ..., the run has {labels[0]} ...); give the file of the run's own competition"
        )
    if missing := [label for label in expected if label not in shared]:
        log.warning("the run does not know %d species, which get the prior: %s", len(missing), ", ".join(missing))
    if extra := [label for label in labels if label not in shared and label != NOCALL]:
        log.warning("%s has no column for %d of the run's species: %s", path, len(extra), ", ".join(extra))
    return SampleSubmission(path, expected, row_ids)


def must_have_all(sample: SampleSubmission, recordings: Iterable[Path]) -> None:
    """
    Raises:
        DataError: the sample submission lists a recording that is not among the inputs.
    """
    inputs = {printable(recording.stem) for recording in recordings}
    wanted = dict.fromkeys(row_id.rpartition("_")[0] for row_id in sample.row_ids)
    if missing := [stem for stem in wanted if stem not in inputs]:
        raise DataError(
            f"{sample.path}: {len(missing)} of its {len(wanted)} recordings are missing from the inputs, "
            f"the first is {missing[0]}; add their folder to --input"
        )


def must_fit(sample: SampleSubmission, grid: Grid) -> None:
    """
    Raises:
        DataError: a row of the sample submission ends where no window can end.
    """
    impossible = [row_id for row_id in sample.row_ids if not _is_end(row_id.rpartition("_")[2], grid)]
    if impossible:
        raise DataError(
            f"{sample.path}: {len(impossible)} of its {len(sample.row_ids)} rows end where no window ends, the first "
            f"is {impossible[0]}; set --window-s and --step-s to the values of the competition (5 and 5)"
        )


def _is_end(text: str, grid: Grid) -> bool:
    """Whether this is the end second of some row, as it is written in a row_id."""
    try:
        number = round((float(text) - grid.window_s) / grid.step_s)
    except (ValueError, OverflowError):
        return False
    return number >= 0 and text == _end_of(number, grid)


def _end_of(number: int, grid: Grid) -> str:
    """The end second of a row, as it is written in a row_id."""
    return _seconds(number * grid.step_s + grid.window_s)


def must_differ_in_name(recordings: Iterable[Path]) -> None:
    """
    Raises:
        DataError: two recordings would have the same row_ids.
    """
    seen: dict[str, Path] = {}
    for recording in recordings:
        if (other := seen.setdefault(recording.stem, recording)) is not recording:
            raise DataError(
                f"{other} and {recording} have the same name, and so the same row_ids; leave one of them out"
            )


def write_submission(
    path: Path, results: Iterable[Result], card: ModelCard, grid: Grid, sample: SampleSubmission | None
) -> None:
    """``row_id`` and a column for each species; a row_id is ``<stem>_<end second>``.

    With a sample submission, the columns and rows are those of the sample, in its order. What cannot be predicted
    (a species that the run does not know, a recording that cannot be read, a row after the end of a truncated
    recording) gets the prior: one over the number of species.
    """
    labels = sample.labels if sample else tuple(sorted(set(card.labels) - {NOCALL}))  # nocall is no species
    index = {label: number for number, label in enumerate(card.labels)}
    columns = [index.get(label, -1) for label in labels]
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
    for number, scores in enumerate(result.values):
        # Not end_s: a last row that is moved back to end with the recording keeps the row_id of its regular window.
        yield f"{printable(result.path.stem)}_{_end_of(number, grid)}", scores


def _as_in(
    sample: SampleSubmission, rows: Iterable[tuple[str, np.ndarray]], prior: np.float32
) -> Iterator[tuple[str, np.ndarray]]:
    scored = dict(rows)
    if unknown := [row_id for row_id in sample.row_ids if row_id not in scored]:
        stems = dict.fromkeys(row_id.rpartition("_")[0] for row_id in unknown)
        rows_text, names = counted(len(unknown), "row"), ", ".join(stems)
        log.warning("%s got the prior, because these recordings could not be read that far: %s", rows_text, names)
    if left := len(scored.keys() - set(sample.row_ids)):
        log.warning("%s not listed in %s: left out", counted(left, "row"), sample.path)
    for row_id in sample.row_ids:
        yield row_id, scored.get(row_id, np.full(len(sample.labels), prior))


# Raven and Audacity: a table for each recording

RAVEN_COLUMNS = (
    "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)",
    "Common Name", "Species Code", "Confidence", "Begin Path", "File Offset (s)",
)  # fmt: skip


def raven_table(result: Result, card: ModelCard, detection_filter: DetectionFilter) -> str:
    """A selection table of Raven Pro: tab-separated, with one selection for each detection."""
    factor = result.time_expansion
    high = min(card.process.f_max, result.sample_rate / 2) / factor
    low = min(card.process.f_min / factor, high)
    lines = ["\t".join(RAVEN_COLUMNS)]
    for number, one in enumerate(_birds(result, card, detection_filter), 1):
        label, start, end = card.labels[one.label], f"{one.start_s * factor:.3f}", f"{one.end_s * factor:.3f}"
        values = (
            number, "Spectrogram 1", 1, start, end, f"{low:.1f}", f"{high:.1f}", card.common_names[one.label] or label,
            label, f"{one.score:.4f}", printable(os.path.abspath(result.path)), start,
        )  # fmt: skip
        lines.append("\t".join(_cell(value) for value in values))
    return "\n".join(lines) + "\n"


def audacity_table(result: Result, card: ModelCard, detection_filter: DetectionFilter) -> str:
    """A label track of Audacity: start, end and label, separated by tabs, without a header."""
    factor = result.time_expansion
    return "".join(
        f"{one.start_s * factor:.6f}\t{one.end_s * factor:.6f}\t{_cell(card.labels[one.label])}\n"
        for one in _birds(result, card, detection_filter)
    )


def _birds(result: Result, card: ModelCard, detection_filter: DetectionFilter) -> Iterator[Detection]:
    """The detections of a recording without the class nocall."""
    return (one for one in detections(result, detection_filter) if card.labels[one.label] != NOCALL)


def _cell(value: object) -> str:
    """The text of a cell; tabs and line breaks in a name become blanks."""
    return " ".join(str(value).splitlines()).replace("\t", " ")


TABLES: dict[str, tuple[str, Callable[[Result, ModelCard, DetectionFilter], str]]] = {
    "raven": (".selections.txt", raven_table),
    "audacity": (".labels.txt", audacity_table),
}


def write_tables(
    path: Path, results: Iterable[Result], card: ModelCard, detection_filter: DetectionFilter, kind: str,
    recordings: Sequence[Path],
) -> None:  # fmt: skip
    """Write a table at ``path`` for one recording; for several, or if a folder is there, a table for each in it."""
    _, table = TABLES[kind]
    paths = table_paths(path, recordings, kind)
    for result in results:
        paths[result.path].parent.mkdir(parents=True, exist_ok=True)
        write_text(paths[result.path], table(result, card, detection_filter))


def table_paths(path: Path, recordings: Sequence[Path], kind: str) -> dict[Path, Path]:
    """For each recording, the path of its table. In a folder the tables keep the folders of their recordings.

    A name that would be too long for a file is shortened and ends in a digest.
    """
    if len(recordings) == 1 and not path.is_dir():
        return {recordings[0]: path}
    ending, _ = TABLES[kind]
    above = os.path.commonpath([os.path.abspath(recording.parent) for recording in recordings])
    paths = {}
    for recording in recordings:
        relative = Path(os.path.relpath(os.path.abspath(recording), above))
        paths[recording] = path / relative.with_name(fitting_name(relative.name, ending))
    return paths


def _seconds(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
