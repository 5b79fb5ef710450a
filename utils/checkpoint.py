"""What does a checkpoint hold, how is it saved, and how is a damaged one detected?

A checkpoint is a dict of plain values and tensors: ``torch.load(weights_only=True)`` reads it, so that a
checkpoint from a stranger cannot run code. A .pt file is a zip archive whose CRCs cover every tensor. torch does not
compare them; this file does.
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
        PermissionError: it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except PermissionError:
        raise  # the file may be undamaged
    except Exception as error:  # a flipped byte in the directory of a zip makes zipfile raise many kinds
        raise CheckpointError(f"{path}: damaged, or not a checkpoint ({error})") from None
    if damaged:
        raise CheckpointError(f"{path}: damaged: the content of {damaged} has changed; use another checkpoint")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # whatever torch raises, the cause is the file
        raise CheckpointError(f"{path}: not a checkpoint of plain values ({first_line(error)})") from None
    missing = [key for key in NEEDED if not isinstance(state, dict) or key not in state]
    if missing:
        raise CheckpointError(f"{path}: not a checkpoint of this program: no {', '.join(missing)}")
    return state


class Checkpoints:
    """The checkpoints of a run: ``last.pt``, the one before it (``prev.pt``) and ``best.pt``.

    Args:
        keep_best: false: only ``last.pt`` is kept.
    """

    def __init__(self, run_dir: Path, *, keep_best: bool):
        self.last, self.prev, self.best = (run_dir / name for name in (LAST, PREV, BEST))
        self._keep_best = keep_best
        self._last_is_damaged = False  # then only prev.pt is left
        self.scored = self.best if keep_best else self.last  # the checkpoint to score and to predict with

    def save(self, state: dict[str, Any], *, best: bool) -> None:
        """Write ``state`` as ``last.pt``, and as ``best.pt`` if it is the best.

        There is a complete ``last.pt`` at every moment. If the program dies between the two, ``best.pt`` may be of an
        epoch that ``last.pt`` has not reached; the resumed run then writes the same ``best.pt`` again.
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
        # Python opens the file, because torch's own writer does not report a full disk.
        try:
            with open(path, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())  # before best.pt becomes a link to it: an incomplete file replaces nothing
        except (OSError, RuntimeError) as error:
            # In torch.save a full disk becomes a RuntimeError about its archive, which was not closed.
            reason = error if isinstance(error, OSError) else error.__context__
            if not isinstance(reason, OSError):
                raise
            reason.filename = str(self.last)
            raise reason from None

    def load_last(self, device: torch.device) -> dict[str, Any]:
        """The newest checkpoint that is not damaged: ``last.pt``, or with a warning the one before it.

        Raises:
            CheckpointError: both are damaged or missing.
        """
        try:
            return load_checkpoint(self.last, device=device)
        except CheckpointError as error:
            if not self.prev.is_file():
                raise
            log.warning("%s; continuing from the previous checkpoint, %s", error, self.prev)
            state = load_checkpoint(self.prev, device=device)
            self._last_is_damaged = True
            return state
