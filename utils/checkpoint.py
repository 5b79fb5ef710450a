"""What a checkpoint holds; how it is saved, and how a damaged one is found out.

A checkpoint is a dict of plain values and tensors: ``torch.load(weights_only=True)`` reads it, so one
from a stranger cannot run code. A .pt file is a zip archive whose CRCs cover every tensor; torch does
not compare them, we do.
"""

import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from utils.errors import CheckpointError, first_line
from utils.files import second_name, whole
from utils.run_folder import BEST, LAST, PREV

log = logging.getLogger(__name__)

NEEDED = ("model", "model_type", "epoch", "labels", "data_process", "standardize_over")


def load_checkpoint(path: Path | str, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read and check a checkpoint.

    Raises:
        CheckpointError: it is missing, damaged, not a checkpoint, or holds more than plain values.
        PermissionError: it must not be read.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except PermissionError:
        raise  # the file may be whole
    except Exception as error:  # a flipped byte in a zip's directory makes zipfile raise half a dozen kinds
        raise CheckpointError(f"{path}: damaged, or not a checkpoint ({error})") from None
    if damaged:
        raise CheckpointError(f"{path}: damaged: {damaged} is not what was written")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # whatever torch raises for a strange file, it is the file that is at fault
        raise CheckpointError(f"{path}: not a checkpoint of plain values ({first_line(error)})") from None
    missing = [key for key in NEEDED if not isinstance(state, dict) or key not in state]
    if missing:
        raise CheckpointError(f"{path}: not a checkpoint of this program: no {', '.join(missing)}")
    return state


class Checkpoints:
    """The checkpoints of a run: ``last.pt``, the one before it (``prev.pt``) and ``best.pt``.

    Args:
        keep_best: without it only ``last.pt`` is kept.
    """

    def __init__(self, run_dir: Path, *, keep_best: bool):
        self.last, self.prev, self.best = (run_dir / name for name in (LAST, PREV, BEST))
        self._keep_best = keep_best
        self._last_is_damaged = False  # so that prev.pt is all there is
        self.scored = self.best if keep_best else self.last  # what is scored and predicted with

    def save(self, state: dict[str, Any], *, best: bool) -> None:
        """Write ``state`` as ``last.pt``, and as ``best.pt`` if it is that.

        At every moment there is a whole ``last.pt``. A ``best.pt`` of an epoch whose ``last.pt`` was
        not reached is made again, equal, when the run goes on.
        """
        with whole(self.last) as temporary:
            self._write(state, temporary)
            if not self._keep_best:
                return
            if best:
                second_name(temporary, self.best)
            if self.last.exists() and not self._last_is_damaged:
                second_name(self.last, self.prev)
        self._last_is_damaged = False

    def _write(self, state: dict[str, Any], path: Path) -> None:
        # Into a file that Python opened: torch's own writer does not say that a disk is full.
        try:
            with open(path, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())  # before best.pt is a name of it: what cannot be kept replaces nothing
        except (OSError, RuntimeError) as error:
            # Within torch.save a full disk becomes a RuntimeError of its archive, which was not closed.
            reason = error if isinstance(error, OSError) else error.__context__
            if not isinstance(reason, OSError):
                raise
            reason.filename = str(self.last)
            raise reason from None

    def load_last(self, device: torch.device) -> dict[str, Any]:
        """The newest checkpoint that is whole: ``last.pt``, or with a warning the one before it.

        Raises:
            CheckpointError: neither is.
        """
        try:
            return load_checkpoint(self.last, device=device)
        except CheckpointError as error:
            if not self.prev.is_file():
                raise
            log.warning("%s; going on from the one before it, %s", error, self.prev)
            state = load_checkpoint(self.prev, device=device)
            self._last_is_damaged = True
            return state
