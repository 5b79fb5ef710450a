"""What is the format of exported files? An ONNX or OpenVINO network with its model card and a checksum.

The metadata of the network holds one JSON text under ``CARD_KEY``: the model card, the SHA-256 of the checkpoint that
was exported, and the thresholds of the run, if there are any. The file ends with a SHA-256 of everything before it
(for OpenVINO also of the .bin file): in a last metadata property of an ONNX file, in a comment of an .xml file.
"""

import hashlib
import io
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from factory.model_card import CARD_KEY, ModelCard, read_card
from inference.checkpoints import TrainedNetwork
from utils.errors import CheckpointError, UserError, first_line
from utils.files import whole
from utils.packages import require_package
from utils.streams import redirected

_VERSION = 2  # of the format
_BEFORE_VERSION_2 = "sha256"  # a key of the card's JSON; such files are read without a check of their bytes
_DIGEST_LENGTH = 64  # hexadecimal digits
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
_ENDS = {".onnx": b"", ".xml": b" -->\n"}  # the bytes after the checksum


class ExportError(UserError):
    """A network cannot be written in another format."""


class Metadata(NamedTuple):
    """What an exported file states about itself.

    Attributes:
        checkpoint: SHA-256 of the checkpoint that was exported.
        thresholds: those of the run, as text.
    """

    card: ModelCard
    checkpoint: str
    thresholds: str | None


# Writing


def write_onnx(trained: TrainedNetwork, path: Path) -> None:
    """Write an ONNX file: the input (``Frontend.input_shape``, any batch size) -> logits (batch, classes).

    Of a model on an encoder it holds the head: (batch, windows, 1 + size), of any number of windows -> logits.

    Raises:
        ExportError: ONNX has no operation for something in the network.
    """
    card = trained.card
    if card.encoder:  # the file is the head; the encoder stays a file of its own, whose path is in the card
        example, axes = torch.ones(2, 3, 1 + card.encoder["size"]), {0: "batch", 1: "windows"}
    else:
        example, axes = torch.zeros(2, *card.frontend.input_shape(card.process)), {0: "batch"}
    axes = {"images": axes, "logits": {0: "batch"}}
    save_onnx(onnx_network(trained.network, example, axes, card.model_type), trained, path)


def save_onnx(network: bytes, trained: TrainedNetwork, path: Path, properties: Mapping[str, str] | None = None) -> None:
    """Write an ONNX network with the metadata that every exported file has, and with ``properties`` of its own."""
    content = network + onnx_property(CARD_KEY, _card_text(trained))
    for key, value in (properties or {}).items():
        content += onnx_property(key, value)
    # The checksum is the value of one more property; protobuf messages of one type may be joined end to end.
    content += onnx_property("sha256", "0" * _DIGEST_LENGTH)[:-_DIGEST_LENGTH]
    with whole(path) as temporary:
        temporary.write_bytes(content + _digest(content) + _ENDS[".onnx"])


def onnx_network(
    network: nn.Module, example: Tensor, axes: Mapping[str, Mapping[int, str]], name: str, opset: int | None = None
) -> bytes:
    """A network as ONNX.

    Args:
        example: of its input.
        axes: the names of the input and of the output, each with its axes of any length.
        name: of the network, for the error.
        opset: the version of ONNX's operators; None: PyTorch's usual one.

    Raises:
        ExportError: ONNX has no operation for something in the network.
    """
    buffer, (input_name, output_name) = io.BytesIO(), axes
    # When an export fails, torch's C++ code prints the graph to stdout, which is for results.
    with warnings.catch_warnings(action="ignore"), open(os.devnull, "w") as nowhere, redirected(1, nowhere):
        # The tracing exporter needs no further package, and our networks have no branches that depend on values.
        try:
            torch.onnx.export(
                network, (example,), buffer, dynamo=False, input_names=[input_name], output_names=[output_name],
                dynamic_axes=axes, opset_version=opset,
            )  # fmt: skip
        except Exception as error:  # of an operation that it does not know, the exporter raises any kind of error
            raise ExportError(f"{name} cannot be exported to ONNX ({first_line(error)}); use --backend torch") from None
    return buffer.getvalue()


def onnx_property(key: str, value: str) -> bytes:
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
    content = path.read_bytes() + b"<!-- sha256 "
    path.write_bytes(content + _digest(content, _weights_of(path)) + _ENDS[".xml"])


WRITERS: dict[str, Callable[[TrainedNetwork, Path], None]] = {"onnx": write_onnx, "openvino": write_openvino}


def _card_text(trained: TrainedNetwork) -> str:
    values = trained.card.plain() | {"checkpoint": trained.digest, "version": _VERSION}
    return json.dumps(values | ({"thresholds": trained.thresholds} if trained.thresholds else {}))


def _weights_of(path: Path) -> bytes:
    """The weights that belong to an exported file but are not in it."""
    return path.with_suffix(".bin").read_bytes() if path.suffix == ".xml" else b""


def _digest(content: bytes, weights: bytes = b"") -> bytes:
    """SHA-256 as hexadecimal digits."""
    digest = hashlib.sha256(content)
    digest.update(weights)
    return digest.hexdigest().encode()


# Reading


def read_metadata(text: str | None, path: Path) -> Metadata:
    """The metadata of an exported file, after a check of all its bytes.

    Args:
        text: what the file holds under ``CARD_KEY``.

    Raises:
        CheckpointError: the file is damaged, or export.py of this program did not write it.
    """
    if not text:
        raise CheckpointError(f"{path}: there is no model card in it; export it with export.py")
    try:
        values = json.loads(text)
        checkpoint, old, thresholds = str(values["checkpoint"]), _BEFORE_VERSION_2 in values, values.get("thresholds")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{path}: its model card cannot be read; export it again with export.py") from None
    if not old and not _is_undamaged(path):
        raise CheckpointError(f"{path}: damaged; export it again with export.py")
    return Metadata(read_card(values, path), checkpoint, thresholds)


def _is_undamaged(path: Path) -> bool:
    content, end = path.read_bytes(), _ENDS[path.suffix]
    if not content.endswith(end):
        return False
    content = content.removesuffix(end)
    return content[-_DIGEST_LENGTH:] == _digest(content[:-_DIGEST_LENGTH], _weights_of(path))


def onnx_properties(path: Path) -> dict[str, str]:
    """The metadata of an ONNX file, read without ONNX Runtime.

    Raises:
        CheckpointError: it is not an ONNX file.
    """
    require_package("onnx", "or give a run, or what export.py --to openvino wrote")
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
        return {entry.key: entry.value for entry in model.metadata_props}
    except Exception as error:  # protobuf raises a dozen kinds of error for a damaged file
        raise CheckpointError(f"{path}: damaged, or not an ONNX file ({library_reason(error)})") from None


def library_reason(error: Exception) -> str:
    """The first informative line of a library's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith("Exception from")), "")[:200]
