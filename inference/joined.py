"""How do a frozen encoder and the head that was trained on it become one ONNX file?

Its input and its first outputs are those of the encoder's file. One more output, ``LOGITS``, holds the logits of the
head. They are of all windows together, as of one recording in which each counts the same: ``(1, classes)``.
With ``pool = windows``, or an encoder that takes one window at a time, they are of each window. In predict.py a window
may count less than the others in a row, so it also needs the head by itself: the metadata hold it under ``HEAD_KEY``,
as ONNX in base64.
"""

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dataloader.encoders.runtimes import open_encoder
from dataloader.encoders.table import encoder_of
from factory.model_card import ModelCard
from inference.checkpoints import TrainedNetwork
from inference.exported import ExportError, onnx_network, save_onnx
from utils.errors import first_line

HEAD_KEY = "bird_classifier_head"
_PREFIX = "head/"  # of all names in the head, so that none is a name in the encoder
LOGITS = f"{_PREFIX}logits"
_OPSETS = range(9, 21)  # versions of ONNX's operators that PyTorch's tracing exporter writes


class HeadOfOneRecording(nn.Module):
    """A head as a function of the embeddings of one recording: ``(windows, size)`` -> logits; see the top."""

    def __init__(self, head: nn.Module, *, each_window: bool):
        super().__init__()
        self.head, self.each_window = head, each_window
        self.eval()

    def forward(self, embeddings: Tensor) -> Tensor:
        weighted = torch.cat([torch.ones_like(embeddings[:, :1]), embeddings], dim=1)
        return self.head(weighted[:, None] if self.each_window else weighted[None])


def write_joined(trained: TrainedNetwork, encoder_file: Path, path: Path) -> None:
    """Write encoder and head as one ONNX file.

    Raises:
        ExportError: they cannot be joined; the message says why.
    """
    import onnx

    size, name = trained.card.encoder["size"], trained.card.model_type
    examples = {"images": {0: "batch", 1: "windows"}, "logits": {0: "batch"}}
    alone = onnx_network(trained.network, torch.ones(2, 3, 1 + size), examples, name)
    try:
        model = onnx.load(str(encoder_file))
        opset = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
        of_recording = HeadOfOneRecording(trained.network, each_window=trained.card.model.pool == "windows")
        axes = {"embeddings": {0: "windows"}, "logits": {0: "rows"}}
        content = onnx_network(of_recording, torch.ones(3, size), axes, name, min(max(opset, _OPSETS[0]), _OPSETS[-1]))
        head = onnx.version_converter.convert_version(onnx.load_from_string(content), opset)
        _join(model, head, _embedding_of(model, trained.card))
        onnx.checker.check_model(model)
        joined = model.SerializeToString()
    except Exception as error:  # onnx and protobuf raise a dozen kinds of error, for files above 2 GB among others
        raise ExportError(f"{encoder_file}: the head cannot be joined with it ({first_line(error)})") from None
    save_onnx(joined, trained, path, {HEAD_KEY: base64.b64encode(alone).decode()})


def _embedding_of(model, card: ModelCard) -> str:
    """The name of the output that is the embedding."""
    output = encoder_of(card.model).embedding
    return model.graph.output[output].name if isinstance(output, int) else output


def _join(model, head, embedding: str) -> None:
    """Add the nodes of ``head`` to ``model``: what the head takes is the encoder's output ``embedding``."""
    import onnx

    head = onnx.compose.add_prefix(head, _PREFIX)
    taken = head.graph.input[0].name
    model.graph.node.add(op_type="Cast", input=[embedding], output=[taken]).attribute.append(
        onnx.helper.make_attribute("to", onnx.TensorProto.FLOAT)  # some encoders compute in float16
    )
    model.graph.node.extend(head.graph.node)
    model.graph.initializer.extend(head.graph.initializer)
    model.graph.output.extend(head.graph.output)


def joined_logits(path: Path, card: ModelCard, windows: np.ndarray) -> np.ndarray:
    """The output ``LOGITS`` of a joined file, of windows ``(windows, samples)``."""
    encoder = replace(encoder_of(card.model), embedding=LOGITS, size=None)
    return open_encoder(encoder, path, scores=False).forward(windows).embeddings
