"""How are a run's scores shown in TensorBoard? As curves, precision-recall curves and pictures of the worst errors."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from utils.packages import require_package
from utils.settings import Callbacks, Config
from utils.tracker import HeldOutScores, plain, public_settings

if TYPE_CHECKING:
    import numpy as np


class TensorBoard:
    """Event files in ``<run_dir>/tensorboard``, for ``tensorboard --logdir``.

    Scores and losses by epoch, the settings with the summary as hyper-parameters, precision-recall curves of the
    test recordings, and the spectrograms of those with the largest errors.

    Args:
        keep_epochs: epochs that were finished before this start; what a run that died has logged of later ones is
            hidden.

    Raises:
        UserError: the package tensorboard is not installed.
    """

    def __init__(self, callbacks: Callbacks, run_dir: Path | str, config: Config, keep_epochs: int = 0):
        require_package("tensorboard", "or remove it from [callbacks] trackers")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of its dependencies
            from torch.utils.tensorboard import SummaryWriter

        purge = keep_epochs + 1 if keep_epochs else None
        self._writer = SummaryWriter(str(Path(run_dir) / "tensorboard"), purge_step=purge)
        self._settings = {
            f"{section}.{key}": value if isinstance(value, bool | int | float) else str(value)
            for section, key, value in public_settings(config)
        }

    def log_epoch(self, row: Mapping[str, float | int | None]) -> None:
        for name, number in plain(row).items():
            if name != "epoch" and number is not None:
                self._writer.add_scalar(_grouped(name), number, row["epoch"])
        self._writer.flush()

    def log_test(self, test: HeldOutScores) -> None:
        self._writer.add_pr_curve("test/all classes", test.targets.ravel() > 0, test.scores.ravel())
        for column, label in enumerate(test.labels):
            present = test.targets[:, column] > 0
            if present.any():
                self._writer.add_pr_curve(f"test classes/{label}", present, test.scores[:, column])
        for number, (title, db) in enumerate(test.pictures, 1):
            self._writer.add_image(f"most wrong/{number} {title}", _grey(db), dataformats="HW")

    def log_summary(self, summary: Mapping[str, object]) -> None:
        numbers = {name: value for name, value in plain(summary).items() if isinstance(value, int | float)}
        self._writer.add_hparams(
            self._settings, {f"summary/{name}": one for name, one in numbers.items()}, run_name="."
        )
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _grouped(name: str) -> str:
    """``val_macro_auc`` -> ``val/macro_auc``, so that TensorBoard draws related scores side by side."""
    for group in ("train", "val", "test"):
        if name.startswith(f"{group}_"):
            return f"{group}/{name.removeprefix(f'{group}_')}"
    return f"run/{name}"


def _grey(db: "np.ndarray") -> "np.ndarray":
    """A spectrogram as a picture, low frequencies at the bottom, ``(n_mels, frames)`` uint8."""
    low, high = float(db.min()), float(db.max())
    return ((db[::-1] - low) / max(high - low, 1e-6) * 255).astype("uint8")
