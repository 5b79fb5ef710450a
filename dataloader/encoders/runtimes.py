"""How is the file of an encoder opened? TFLite, ONNX or TorchScript each become a function from windows to embeddings.

An encoder computes in the thread of its caller, so as many encoders as there are cores keep all cores busy.
"""

import contextlib
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dataloader.encoders.table import HIDDEN, Encoder
from utils.errors import UserError, first_line
from utils.streams import redirected


class EncoderOutput(NamedTuple):
    """The output of an encoder for some windows."""

    embeddings: np.ndarray  # (windows, size) float32
    scores: np.ndarray | None  # (windows, labels) float32, as in the file; None: it has no labels


Forward = Callable[[np.ndarray], EncoderOutput]  # of (windows, samples) float32


@dataclass(frozen=True)
class Opened:
    """An encoder ready to compute.

    Attributes:
        forward: may be called by one thread at a time.
        size: the length of the embedding.
        n_labels: the number of its own labels; 0: it has none.
    """

    encoder: Encoder
    path: Path
    forward: Forward
    size: int
    n_labels: int


def open_encoder(encoder: Encoder, path: Path, *, scores: bool = True) -> Opened:
    """Open the file of an encoder, and test it with a window of silence.

    Args:
        scores: whether the scores of its own labels are needed too.

    Raises:
        UserError: the file is damaged, or has other inputs or outputs than its type.
    """
    build = {".tflite": _tflite, ".onnx": _onnx}.get(path.suffix, _torchscript)
    try:
        forward = _at_its_level(build(encoder, path, encoder.scores if scores else None), encoder.peak)
    except UserError:
        raise
    except Exception as error:  # each runtime has many errors for a damaged file
        raise UserError(f"{path}: damaged, or not an encoder in this format ({first_line(error)})") from None
    try:
        output = forward(np.zeros((1, encoder.samples), np.float32))
    except UserError:
        raise
    except Exception as error:  # as above, when the input has another shape
        text = f"does not accept windows of {encoder.samples} samples, which {encoder.name} has ({first_line(error)})"
        raise UserError(f"{path}: {text}; change the type, or the file") from None
    _check(encoder, path, output)
    n_labels = 0 if output.scores is None else output.scores.shape[1]
    return Opened(encoder, path, forward, output.embeddings.shape[1], n_labels)


def _at_its_level(forward: Forward, peak: float | None) -> Forward:
    """``forward`` of windows without their mean and with ``peak`` as the largest value; silence stays silence."""
    if peak is None:
        return forward

    def of_leveled(windows: np.ndarray) -> EncoderOutput:
        centred = windows - windows.mean(axis=1, keepdims=True)
        largest = np.abs(centred).max(axis=1, keepdims=True)
        return forward(np.float32(peak) * centred / np.where(largest > 0, largest, 1))

    return of_leveled


def _check(encoder: Encoder, path: Path, output: EncoderOutput) -> None:
    embedding, scores = output
    for what, array, wanted in (("an embedding", embedding, encoder.size), ("scores", scores, encoder.n_labels)):
        if array is None:
            continue
        if array.ndim != 2 or len(array) != 1 or not array.size:
            raise UserError(
                f"{path}: output {encoder.embedding!r} has the shape {array.shape}, but {what} of a window is one row; "
                "name another output as [model] encoder_output"
            )
        if wanted and array.shape[1] != wanted:
            text = f"{what} of {array.shape[1]} numbers, and {encoder.name} has {wanted}"
            raise UserError(f"{path}: {text}; change the type, or the file")


def _tflite(encoder: Encoder, path: Path, scores: int | str | None) -> Forward:
    from ai_edge_litert.interpreter import Interpreter

    by_name = isinstance(encoder.embedding, str)
    # The warning is of keeping all tensors, which an embedding within the network needs.
    with _without_line("INFO: Created TensorFlow Lite"), warnings.catch_warnings(action="ignore"):
        interpreter = Interpreter(str(path), num_threads=1, experimental_preserve_all_tensors=by_name)
        interpreter.allocate_tensors()
    (source, *_), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if source["shape"][-1] != encoder.samples:
        raise _other_window(encoder, path, source["shape"])
    index = {tensor["name"]: tensor["index"] for tensor in interpreter.get_tensor_details()} if by_name else {}

    def tensor_of(output: int | str) -> int:
        if output == HIDDEN:
            return outputs[0]["index"] - 1
        if isinstance(output, int) and output < len(outputs):
            return outputs[output]["index"]
        if output in index:
            return index[output]
        raise _no_output(path, output, [tensor["name"] for tensor in outputs])

    wanted = [tensor_of(encoder.embedding), *([] if scores is None else [tensor_of(scores)])]

    def outputs_of(window: np.ndarray) -> list[np.ndarray]:
        interpreter.set_tensor(source["index"], window.reshape(source["shape"]))
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in wanted]

    return _one_by_one(outputs_of)


def _onnx(encoder: Encoder, path: Path, scores: int | str | None) -> Forward:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    source, names = session.get_inputs()[0], [output.name for output in session.get_outputs()]
    if isinstance(source.shape[-1], int) and source.shape[-1] != encoder.samples:
        raise _other_window(encoder, path, source.shape)
    wanted = [_name_of(path, names, encoder.embedding), *([] if scores is None else [_name_of(path, names, scores)])]

    def outputs_of(windows: np.ndarray) -> list[np.ndarray]:
        return session.run(wanted, {source.name: windows})

    if len(source.shape) == 2 and not isinstance(source.shape[0], int):  # it accepts any number of windows at once
        return lambda windows: _output(outputs_of(windows))
    shape = [size if isinstance(size, int) else 1 for size in source.shape[:-1]] + [-1]
    return _one_by_one(lambda window: outputs_of(window.reshape(shape)))


def _torchscript(encoder: Encoder, path: Path, scores: int | str | None) -> Forward:
    import torch

    network = torch.jit.load(str(path), map_location="cpu").eval()

    def forward(windows: np.ndarray) -> EncoderOutput:
        with torch.inference_mode():
            answer = network(torch.from_numpy(np.ascontiguousarray(windows)))
        by_name = answer if isinstance(answer, dict) else {}
        outputs = list(by_name.values()) or (list(answer) if isinstance(answer, tuple | list) else [answer])
        arrays = []
        for output in [encoder.embedding, *([] if scores is None else [scores])]:
            if isinstance(output, int) and output < len(outputs):
                arrays.append(outputs[output].float().numpy())
            elif output in by_name:
                arrays.append(by_name[output].float().numpy())
            else:
                raise _no_output(path, output, list(by_name) or [str(number) for number in range(len(outputs))])
        return _output(arrays)

    return forward


_stderr_is_mine = threading.Lock()  # as encoders are opened in several threads


@contextlib.contextmanager
def _without_line(start: str) -> Iterator[None]:
    """Leave out of stderr the lines that begin so: a C++ library writes them, and no setting of its turns them off."""
    with _stderr_is_mine, tempfile.TemporaryFile() as written:
        try:
            with redirected(2, written):
                yield
        finally:
            written.seek(0)
            for line in written:
                if not line.startswith(start.encode()):
                    os.write(2, line)


def _one_by_one(outputs_of: Callable[[np.ndarray], list[np.ndarray]]) -> Forward:
    """The function for many windows, from one that accepts a single window."""

    def forward(windows: np.ndarray) -> EncoderOutput:
        rows = [outputs_of(window) for window in windows]
        return _output([np.concatenate([row[number] for row in rows]) for number in range(len(rows[0]))])

    return forward


def _output(arrays: list[np.ndarray]) -> EncoderOutput:
    arrays = [np.asarray(array, np.float32) for array in arrays]
    return EncoderOutput(arrays[0], arrays[1] if len(arrays) > 1 else None)


def _name_of(path: Path, names: list[str], output: int | str) -> str:
    if isinstance(output, int) and output < len(names):
        return names[output]
    if output in names:
        return output
    raise _no_output(path, output, names)


def _no_output(path: Path, output: int | str, names: list[str]) -> UserError:
    known = ", ".join(f"{number} ({name})" if str(number) != name else name for number, name in enumerate(names))
    what = "an output of 6,522 numbers with its embedding before it" if output == HIDDEN else f"no output {output!r}"
    return UserError(f"{path}: {what}; it has {known}; name one as [model] encoder_output, or change the type")


def _other_window(encoder: Encoder, path: Path, shape: object) -> UserError:
    samples = list(shape)[-1]
    remedy = "change encoder_sample_rate or encoder_window_s" if encoder.name == "encoder" else "change the type"
    text = f"its windows have {samples} samples, but those of {encoder.name} have {encoder.samples}"
    return UserError(f"{path}: {text} ({encoder.window_s:g} s of {encoder.sample_rate} Hz); {remedy}, or the file")
