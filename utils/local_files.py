"""How are a run's scores written into its folder? metrics.csv and metrics.jsonl by epoch, then summary.json."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from utils.errors import DataError
from utils.files import write_text
from utils.run_folder import EPOCHS, METRICS, SUMMARY
from utils.tracker import HeldOutScores, plain

COLUMNS = ("epoch", "lr", "train_loss", "val_loss", "val_macro_auc", "val_top1", "val_cmap")  # of metrics.csv


class LocalFiles:
    """``metrics.csv``, ``metrics.jsonl`` and ``summary.json`` in the run folder.

    The CSV has no times and every float to its last bit, so that equal runs give equal bytes. The JSON lines have the
    whole row, with the speed. A file is always replaced as a whole.

    Args:
        run_dir: the run folder; it exists.
        keep_epochs: epochs that were finished before this start. Rows of later epochs, from a run that died after
            them, are removed, because these epochs will be trained again.

    Raises:
        DataError: an existing file was not written by this class.
    """

    def __init__(self, run_dir: Path | str, *, keep_epochs: int = 0):
        self._csv, self._jsonl, self._summary = (Path(run_dir) / name for name in (METRICS, EPOCHS, SUMMARY))
        header = ",".join(COLUMNS)
        self._csv_lines = [header, *_kept(self._csv, keep_epochs, _epoch_of_csv, skip=header)]
        self._json_lines = _kept(self._jsonl, keep_epochs, _epoch_of_json)
        self._write()

    def log_epoch(self, row: Mapping[str, float | int | None]) -> None:
        numbers = plain(row)
        cells = (numbers.get(column) for column in COLUMNS)
        self._csv_lines.append(",".join("" if cell is None else repr(cell) for cell in cells))
        self._json_lines.append(json.dumps(numbers, allow_nan=False))
        self._write()

    def log_test(self, test: HeldOutScores) -> None:
        """Nothing to do: training writes ``test_scores.csv``."""

    def log_summary(self, summary: Mapping[str, object]) -> None:
        write_text(self._summary, json.dumps(plain(summary), indent=2, allow_nan=False) + "\n")

    def close(self) -> None:
        """Nothing to do: every call has written complete files."""

    def _write(self) -> None:
        for path, lines in ((self._csv, self._csv_lines), (self._jsonl, self._json_lines)):
            write_text(path, "".join(f"{line}\n" for line in lines))


def _kept(path: Path, keep_epochs: int, epoch_of: Callable[[str], int], skip: str | None = None) -> list[str]:
    """The lines of ``path`` up to epoch ``keep_epochs``, without the first one if that is ``skip``."""
    if keep_epochs < 1 or not path.exists():
        return []
    kept = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if number == 1 and line == skip:
            continue
        try:
            epoch = epoch_of(line)
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path}: line {number} is not a row of scores; correct or remove the file") from None
        if epoch <= keep_epochs:
            kept.append(line)
    return kept


def _epoch_of_csv(line: str) -> int:
    cells = line.split(",")
    if len(cells) != len(COLUMNS):
        raise ValueError
    return int(cells[0])


def _epoch_of_json(line: str) -> int:
    return int(json.loads(line)["epoch"])
