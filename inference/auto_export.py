"""When does prediction export a run by itself? The ONNX file beside its checkpoint is made once and then reused."""

import atexit
import functools
import logging
import shutil
import tempfile
from pathlib import Path

from factory.model_card import CARD_KEY
from inference.checkpoints import network_of
from inference.exported import onnx_properties, read_metadata, write_onnx
from utils.command import explain_os_error
from utils.errors import CheckpointError
from utils.files import file_digest

log = logging.getLogger(__name__)


def onnx_file_of(checkpoint: Path) -> Path:
    """The checkpoint as an ONNX file. It is written now unless the file beside the checkpoint is already right.

    Where that folder cannot be written, the file goes to a temporary folder of this process.

    Raises:
        ExportError: the network cannot be written as ONNX.
    """
    path = checkpoint.with_suffix(".onnx")
    if path.is_file() and _is_export_of(file_digest(checkpoint), path):
        return path
    log.info("%s: exporting it once to %s", checkpoint, path)
    trained = network_of(checkpoint)
    try:
        write_onnx(trained, path)
    except OSError as error:  # the disk is full or read-only, as Kaggle's inputs are
        path = _temporary_folder() / f"{trained.digest[:16]}.onnx"
        log.warning("%s; exporting to %s, for this process only", explain_os_error(error), path)
        write_onnx(trained, path)
    return path


def _is_export_of(checkpoint_digest: str, path: Path) -> bool:
    try:
        return read_metadata(onnx_properties(path).get(CARD_KEY), path).checkpoint == checkpoint_digest
    except CheckpointError:  # damaged, or written by another program: it is made again
        return False


@functools.cache
def _temporary_folder() -> Path:
    """A folder that is removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="exported-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
