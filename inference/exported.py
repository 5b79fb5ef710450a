"""The format of exported files: an ONNX or OpenVINO network with its model card and a checksum.

The metadata of the network holds one JSON text under ``CARD_KEY``: the model card, and the SHA-256 of the checkpoint
that was exported. The file ends with a SHA-256 of all that stands before it (for OpenVINO also of the .bin file):
in a last metadata property of an ONNX file, in a comment of an .xml file.
"""

import hashlib
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from factory.model_card import CARD_KEY, ModelCard, read_card
from inference.checkpoints import TrainedNetwork
from utils.errors import CheckpointError, UserError, first_line
from utils.files import whole
from utils.packages import require_package

_VERSION = 2  # of the format
_BEFORE_VERSION_2 = "sha256"  # a key of the card's JSON; such files are read without a check of their bytes
_DIGEST_LENGTH = 64  # hexadecimal digits
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
_ENDS = {".onnx": b"", ".xml": b" -->\n"}  # what stands behind the checksum


class ExportError(UserError):
    """A network cannot be written in another format."""


class Metadata(NamedTuple):
    """What an exported file says of itself.

    Attributes:
        checkpoint: SHA-256 of the checkpoint that was exported.
    """

    card: ModelCard
    checkpoint: str


# Writing


def write_onnx(trained: TrainedNetwork, path: Path) -> None:
    """Write an ONNX file: the input (``Frontend.input_shape``, any batch size) -> logits (batch, classes).

    Raises:
        ExportError: ONNX has no operation for a part of the network.
    """
    card = trained.card
    images = torch.zeros(2, *card.frontend.input_shape(card.process))
    with whole(path) as temporary, warnings.catch_warnings(action="ignore"):
        # The tracing exporter needs no further package, and our networks have no branches that depend on values.
        try:
            torch.onnx.export(
                trained.network, (images,), str(temporary), dynamo=False, input_names=["images"],
                output_names=["logits"], dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
            )  # fmt: skip
        except RuntimeError as error:  # of the exporter, or of tracing
            why = first_line(error)
            raise ExportError(f"{card.model_type} cannot be exported ({why}); use --backend torch") from None
        with open(temporary, "ab") as file:  # protobuf messages of one type may be joined end to end
            file.write(_onnx_property(CARD_KEY, _card_text(trained)))
            placeholder = _onnx_property("sha256", "0" * _DIGEST_LENGTH)
            file.write(placeholder[:-_DIGEST_LENGTH])
        _append_checksum(temporary, path.suffix)


def _onnx_property(key: str, value: str) -> bytes:
    import onnx

    entry = onnx.StringStringEntryProto(key=key, value=value)
    return onnx.ModelProto(metadata_props=[entry]).SerializeToString()


def write_openvino(trained: TrainedNetwork, path: Path) -> None:
    """Write an OpenVINO network: ``path`` (.xml), and its weights beside it (.bin).

    Raises:
        ExportError: as of ``write_onnx``. After any error incomplete files may be left.
    """
    import openvino

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        between = Path(folder) / "model.onnx"
        write_onnx(trained, between)
        model = openvino.Core().read_model(str(between))
        model.set_rt_info(_card_text(trained), CARD_KEY)
        openvino.serialize(model, str(path))
        with open(path, "ab") as file:
            file.write(b"<!-- sha256 ")
        _append_checksum(path, path.suffix)


WRITERS: dict[str, Callable[[TrainedNetwork, Path], None]] = {"onnx": write_onnx, "openvino": write_openvino}


def _card_text(trained: TrainedNetwork) -> str:
    return json.dumps(trained.card.plain() | {"checkpoint": trained.digest, "version": _VERSION})


def _append_checksum(path: Path, suffix: str) -> None:
    digest = _digest(path.read_bytes(), path, suffix)
    with open(path, "ab") as file:
        file.write(digest + _ENDS[suffix])


def _digest(content: bytes, path: Path, suffix: str) -> bytes:
    """SHA-256 of ``content``, for OpenVINO also of the weights beside ``path``, as hexadecimal digits."""
    digest = hashlib.sha256(content)
    if suffix == ".xml":
        digest.update(path.with_suffix(".bin").read_bytes())
    return digest.hexdigest().encode()


# Reading


def read_metadata(text: str | None, path: Path) -> Metadata:
    """The metadata of an exported file, after a check of the whole file.

    Args:
        text: what the file holds under ``CARD_KEY``.

    Raises:
        CheckpointError: the file is damaged, or export.py of this program did not write it.
    """
    if not text:
        raise CheckpointError(f"{path}: there is no model card in it; export it with export.py")
    try:
        values = json.loads(text)
        checkpoint, old = str(values["checkpoint"]), _BEFORE_VERSION_2 in values
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path}: its model card cannot be read; export it again with export.py") from None
    if not old and not _is_undamaged(path):
        raise CheckpointError(f"{path}: damaged; export it again with export.py")
    return Metadata(read_card(values, path), checkpoint)


def _is_undamaged(path: Path) -> bool:
    content, end = path.read_bytes(), _ENDS[path.suffix]
    stored = content.removesuffix(end)[-_DIGEST_LENGTH:]
    return content.endswith(end) and stored == _digest(content.removesuffix(end)[:-_DIGEST_LENGTH], path, path.suffix)


def onnx_card_text(path: Path) -> str | None:
    """What an ONNX file holds under ``CARD_KEY``, read without ONNX Runtime.

    Raises:
        CheckpointError: it is not an ONNX file.
    """
    require_package("onnx", "or give a run, or what export.py --to openvino wrote")
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
        return next((entry.value for entry in model.metadata_props if entry.key == CARD_KEY), None)
    except Exception as error:  # protobuf raises a dozen kinds of error for a damaged file
        raise CheckpointError(f"{path}: damaged, or not an ONNX file ({library_reason(error)})") from None


def library_reason(error: Exception) -> str:
    """The first informative line of a library's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith("Exception from")), "")[:200]
