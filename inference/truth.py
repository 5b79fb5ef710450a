"""Which labels does each row of scores have? The labels of a data set, for recordings or for windows."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dataloader.audio.decoding import BadRecording, audio_info
from dataloader.batches.timed import TimedLabels
from dataloader.batches.windows import window_starts
from dataloader.metadata import NOCALL, class_labels, class_names
from dataloader.tables import schema
from dataloader.tables.groups import choose_groups
from dataloader.tables.sources import join_sources, read_source, sources_of
from evaluation.matching import Truth, normal
from evaluation.reading import stem_of
from evaluation.table import PRESENT, UNKNOWN
from utils.config import load_config
from utils.errors import DataError
from utils.run_folder import CONFIG
from utils.settings import Config

log = logging.getLogger(__name__)


def read_data(folder: Path, overrides: Sequence[str] = ()) -> tuple[Config, pd.DataFrame]:
    """The recordings and labels of a data set in any layout, with ``seconds`` of each recording.

    Args:
        overrides: settings of [data] for reading it, such as ``data.label_from=folder:1``.

    Raises:
        DataError: it is not a data set, or none of its recordings can be read.
    """
    with tempfile.TemporaryDirectory() as empty:
        (Path(empty) / CONFIG).write_text("")
        config = load_config(Path(empty) / CONFIG, [*overrides, f"paths.data_dir={folder.resolve()}"])
    table = join_sources({name: read_source(name, source) for name, source in sources_of(config).items()})
    table["group"], _ = choose_groups(table, config.data.group_by)
    table["labels"] = [tuple(label for label in labels if label != NOCALL) for labels in table["labels"]]
    seconds = []
    for path, factor in zip(table["path"], table[schema.TIME_EXPANSION], strict=True):
        try:
            info = audio_info(Path(path), time_expansion=factor)
            seconds.append(info.frames / info.sample_rate)
        except BadRecording as bad:
            log.warning("%s: left out: %s", path, bad)
            seconds.append(np.nan)
    table["seconds"] = seconds
    if table["seconds"].isna().all():
        raise DataError(f"{folder}: none of its {len(table)} recordings can be read")
    return config, only_timed(table[table["seconds"].notna()].sort_values("filename", ignore_index=True), str(folder))


def only_timed(data: pd.DataFrame, source: str) -> pd.DataFrame:
    """The recordings whose labels have times, if there are any; scores of others could not be compared."""
    if schema.ANNOTATIONS not in data:
        return data
    timed = np.array([isinstance(annotations, tuple) for annotations in data[schema.ANNOTATIONS]])
    if not timed.any():
        return data
    if not timed.all():
        text = "%s: %d of %d recordings have labels without times and are left out; only those with times are scored"
        log.warning(text, source, (~timed).sum(), len(data))
    return data[timed].reset_index(drop=True)


class Targets:
    """The targets of each row of a recording, by labels with times if there are any, else by those of the recording.

    Args:
        data: recordings with ``labels``, ``secondary_labels``, and ``annotations`` where they have times.
        labels: the classes.
        min_overlap_s: as of [data] min_overlap_s, seconds.
    """

    def __init__(self, data: pd.DataFrame, labels: Sequence[str], min_overlap_s: float):
        self._times = TimedLabels(data, labels, min_overlap_s)
        self.timed = bool(self._times.timed.any())
        columns = {label: number for number, label in enumerate(labels)}
        self._of_recordings = np.zeros((len(data), len(labels)), dtype=np.int8)
        secondary = data["secondary_labels"] if "secondary_labels" in data else [()] * len(data)
        for row, (foreground, background) in enumerate(zip(data["labels"], secondary, strict=True)):
            for names, value in ((background, UNKNOWN), (foreground, PRESENT)):  # the background may be inaudible
                self._of_recordings[row, [columns[name] for name in names if name in columns]] = value

    def of(self, row: int, start_s: np.ndarray, end_s: np.ndarray) -> np.ndarray:
        """``(rows, classes)`` of a recording, which is a row of the data."""
        if not self.timed:
            return np.broadcast_to(self._of_recordings[row], (len(start_s), self._of_recordings.shape[1]))
        targets = [self._times.targets(row, start, end) for start, end in zip(start_s, end_s, strict=True)]
        return np.array(targets, dtype=np.int8).reshape(len(start_s), self._of_recordings.shape[1])


def truth_of_data(data: pd.DataFrame, window_s: float, min_overlap_s: float, source: str) -> Truth:
    """A row for each recording, or for each window if labels have times.

    Raises:
        DataError: two recordings have the same name, because tables name recordings without their folders.
    """
    stems = _different_stems(data["filename"], source)
    labels = class_labels(data)
    targets = Targets(data, labels, min_overlap_s)
    starts, ends, of_rows = [], [], []
    for row, seconds in enumerate(data["seconds"]):
        start = _window_starts(seconds, window_s) if targets.timed else np.zeros(1)
        end = np.minimum(start + window_s, seconds) if targets.timed else np.array([seconds])
        starts.append(start)
        ends.append(end)
        of_rows.append(targets.of(row, start, end))
    recording = np.repeat(np.arange(len(data)), [len(start) for start in starts])
    expansion = data[schema.TIME_EXPANSION].to_numpy()  # tables of scores have times of the file as it plays
    return Truth(
        source=source,
        labels=tuple(labels),
        targets=np.concatenate(of_rows),
        stems=tuple(stems[row] for row in recording),
        start_s=np.concatenate(starts) * expansion[recording],
        end_s=np.concatenate(ends) * expansion[recording],
        groups=dict(zip(stems, data["group"], strict=True)),
        names=_names_of(data, labels),
        timed=targets.timed,
        seconds=dict(zip(stems, data["seconds"] * expansion, strict=True)),
    )


def _different_stems(filenames: Sequence[str], source: str) -> list[str]:
    """The names of recordings without folders and endings.

    Raises:
        DataError: two of them are the same.
    """
    first: dict[str, str] = {}
    for name in filenames:
        if (other := first.setdefault(stem_of(name), name)) is not name:
            raise DataError(
                f"{source}: {other} and {name} have the same name, so a table of scores does not show which one is "
                "meant; rename one"
            )
    return list(first)


def _names_of(data: pd.DataFrame, labels: Sequence[str]) -> dict[str, str]:
    """The label of each label, scientific name and common name, in the form in which names are compared."""
    return {
        normal(name): row.label
        for row in class_names(data, labels).itertuples()
        for name in (row.common_name, row.scientific_name, row.label)
    }


def _window_starts(seconds: float, window_s: float) -> np.ndarray:
    """The starts of the windows of a recording in seconds, as in predict.py; counted in milliseconds."""
    return np.array(window_starts(max(1, round(seconds * 1000)), max(1, round(window_s * 1000)))) / 1000
