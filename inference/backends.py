"""Which backends compute logits, and how do they load a model? PyTorch, ONNX Runtime and OpenVINO.

Several threads call a backend at the same time, each with its own batch. On a CPU each call uses one thread, and there
are as many calls at once as cores, so that no thread waits for another one within a layer.
"""

import base64
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from dataloader.encoders.files import digest_of
from factory.model_card import CARD_KEY, ModelCard
from inference.auto_export import onnx_file_of
from inference.checkpoints import checkpoint_of, network_of, thresholds_of
from inference.encoders import head_functions, is_untrained, untrained
from inference.exported import ExportError, library_reason, onnx_properties, read_metadata
from inference.joined import HEAD_KEY
from utils.errors import CheckpointError, ConfigError, UserError, unknown
from utils.packages import is_installed, require_package
from utils.utils import choose_device, cores

log = logging.getLogger(__name__)

Forward = Callable[[np.ndarray], np.ndarray]  # (batch, 1, n_mels, frames) or (batch, samples) -> logits

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}  # backend -> the package that it needs
FASTEST = ("onnx", "openvino")  # on a CPU, before torch: benchmarks/predict.py
_CPU_BATCH, _GPU_BATCH = 4, 64  # on a CPU, batches of 8 and 16 were slower and needed more memory


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to compute.

    Attributes:
        source: the file that holds its weights.
        digest: SHA-256 of the checkpoint that the weights come from, as it was when it was read.
        forward: window inputs -> logits; with ``head``: window inputs -> embeddings.
        workers: number of threads that should call ``forward`` at the same time.
        batch: number of windows for each call.
        thresholds: the thresholds and the calibration of the run (``evaluation.decisions``), as text; None if there are
            none.
        head: for a model that pools the windows of a row before it classifies them: ``(rows, windows, 1 + size)``, the
            weight of each window and its embedding -> logits ``(rows, classes)``.
    """

    source: Path
    digest: str
    card: ModelCard
    forward: Forward
    backend: str
    workers: int
    batch: int
    thresholds: str | None = None
    head: Forward | None = None


def load(path: Path, backend: str = "auto", device: str = "auto", labels: Path | None = None) -> Loaded:
    """Load a run (its folder, or one of its checkpoints), an exported file, or a pretrained encoder.

    Args:
        path: for an encoder its name, or with ``labels`` its file.
        labels: the list of an encoder's own labels.
        backend: ``torch``, ``onnx``, ``openvino``, or ``auto``: PyTorch on a GPU, else the fastest one installed.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        CheckpointError: there is no such run, or it is damaged, or it lacks what prediction needs.
        UserError: the backend is not installed, or cannot read such a file.
    """
    if backend not in (*BACKENDS, "auto"):
        raise UserError(f"--backend {backend}: {unknown(backend, ['auto', *BACKENDS])}")
    torch_device = _device(device, backend)
    if is_untrained(path, labels):
        return encoder_backend(path, labels)
    if path.suffix in (".onnx", ".xml"):
        if not path.is_file():
            raise CheckpointError(f"{path}: no such exported file")
        if device == "cuda":
            raise UserError(f"--device cuda: {path} runs on the CPU only; give the run, or use --device cpu")
        return _with_encoder(BACKENDS[_backend_for_exported(path, backend)](path, torch_device))
    path = checkpoint_of(path)
    try:
        return _with_encoder(BACKENDS[_backend_for_run(backend, torch_device)](path, torch_device))
    except ExportError as error:
        if backend != "auto":
            raise
        log.warning("%s", error)
        return _with_encoder(torch_backend(path, torch_device))


def is_available(backend: str) -> bool:
    """Whether the package that the backend needs is installed."""
    return backend == "torch" or is_installed(PACKAGES[backend])


def _device(device: str, backend: str) -> torch.device:
    """
    Raises:
        UserError: there is no such device, or the backend does not use it.
    """
    if device == "cuda" and backend in PACKAGES:
        raise UserError(f"--device cuda: --backend {backend} computes on the CPU; use --backend torch, or --device cpu")
    try:
        return choose_device(device)
    except ConfigError:
        raise UserError(f"--device {device}: this machine has no CUDA device; use cpu or auto") from None


def _backend_for_run(backend: str, device: torch.device) -> str:
    if backend == "auto":
        if device.type == "cuda" or not is_installed("onnx"):
            return "torch"
        return next((name for name in FASTEST if is_available(name)), "torch")
    if backend in PACKAGES:
        _require(backend)
        require_package("onnx", "it exports the run; or give an exported file, or use --backend torch")
    return backend


def _backend_for_exported(path: Path, backend: str) -> str:
    able = ("onnx", "openvino") if path.suffix == ".onnx" else ("openvino",)
    if backend == "auto":
        backend = next((name for name in able if is_available(name)), able[0])
    if backend not in able:
        raise UserError(f"{path}: --backend {backend} cannot read this file; use --backend {' or '.join(able)}")
    _require(backend)
    return backend


def _require(backend: str) -> None:
    require_package(PACKAGES[backend], "or use --backend torch with a run")


def torch_backend(path: Path, device: torch.device) -> Loaded:
    network, card, digest, thresholds = network_of(path, device)

    def forward(images: np.ndarray) -> np.ndarray:
        if device.type == "cpu" and torch.get_num_threads() > 1:
            torch.set_num_threads(1)  # of the calling thread
        with torch.inference_mode():
            batch = torch.from_numpy(images).to(device)
            if batch.ndim == 4:
                batch = batch.contiguous(memory_format=torch.channels_last)
            return network(batch).float().cpu().numpy()

    workers, batch = (cores(), _CPU_BATCH) if device.type == "cpu" or card.encoder else (1, _GPU_BATCH)
    return Loaded(path, digest, card, forward, "torch", workers, batch, thresholds)


def encoder_backend(run: Path, labels: Path | None) -> Loaded:
    """A pretrained encoder with its own labels."""
    card, digest, path, logits = untrained(run, labels)
    return Loaded(path, digest, card, logits, path.suffix[1:], cores(), _CPU_BATCH)


def onnx_backend(path: Path, device: torch.device) -> Loaded:
    exported = path if path.suffix == ".onnx" else onnx_file_of(path)
    session, properties = _onnx_session(str(exported), exported)
    card, digest, thresholds = read_metadata(properties.get(CARD_KEY), exported)
    if HEAD_KEY in properties:
        session, _ = _onnx_session(base64.b64decode(properties[HEAD_KEY]), exported)
        card = _with_encoder_inside(card, exported)
    name = session.get_inputs()[0].name

    def forward(images: np.ndarray) -> np.ndarray:
        return session.run(None, {name: images})[0]

    thresholds = thresholds if path == exported else thresholds_of(path)
    return Loaded(path, digest, card, forward, "onnx", cores(), _CPU_BATCH, thresholds)


def _onnx_session(content: str | bytes, path: Path):
    """``(session, metadata)`` of an ONNX file, or of the bytes of one.

    Raises:
        CheckpointError: it is damaged.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        # Without its fallback, which prints lines to stdout when it cannot read a file.
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        return session, session.get_modelmeta().custom_metadata_map
    except Exception as error:  # protobuf and the runtime raise a dozen kinds of error for a damaged file
        raise CheckpointError(f"{path}: damaged, or not an ONNX file ({library_reason(error)})") from None


def _with_encoder_inside(card: ModelCard, path: Path) -> ModelCard:
    """The card of a file that holds the encoder as well as its head (``inference.joined``)."""
    return replace(card, encoder={**card.encoder, "path": str(path), "digest": digest_of(path)})


def openvino_backend(path: Path, device: torch.device) -> Loaded:
    import openvino

    exported = path if path.suffix in (".onnx", ".xml") else onnx_file_of(path)
    core = openvino.Core()
    if exported.suffix == ".onnx":
        properties = onnx_properties(exported)  # before OpenVINO: its reader reports less about a damaged file
    else:
        _must_be_openvino(exported)
    try:
        joined = exported.suffix == ".onnx" and HEAD_KEY in properties
        model = core.read_model(io.BytesIO(base64.b64decode(properties[HEAD_KEY])) if joined else str(exported))
        if exported.suffix == ".xml":
            properties = {CARD_KEY: model.get_rt_info(CARD_KEY).value} if model.has_rt_info(CARD_KEY) else {}
    except Exception as error:  # for a damaged file it raises several kinds of error, that of bad UTF-8 among them
        raise CheckpointError(f"{exported}: damaged, or not an OpenVINO file ({library_reason(error)})") from None
    card, digest, thresholds = read_metadata(properties.get(CARD_KEY), exported)
    if joined:
        card = _with_encoder_inside(card, exported)
    settings = {"NUM_STREAMS": cores(), "INFERENCE_NUM_THREADS": cores(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", settings)

    def forward(images: np.ndarray) -> np.ndarray:
        request = compiled.create_infer_request()  # one thread may use it; creating one takes microseconds
        return np.array(request.infer({0: images}, share_inputs=True)[0])

    thresholds = thresholds if path == exported else thresholds_of(path)
    return Loaded(path, digest, card, forward, "openvino", cores(), _CPU_BATCH, thresholds)


BACKENDS = {"torch": torch_backend, "onnx": onnx_backend, "openvino": openvino_backend}


def _with_encoder(loaded: Loaded) -> Loaded:
    """The same for a model on an encoder, whose own ``forward`` is the head: first the encoder, then the head."""
    if not loaded.card.encoder:
        return loaded
    forward, head = head_functions(loaded.forward, loaded.card, loaded.source)
    return replace(loaded, forward=forward, head=head)


def _must_be_openvino(path: Path) -> None:
    """
    Raises:
        CheckpointError: it is another kind of file, or its weights are missing.
    """
    with open(path, "rb") as file:
        if b"<net" not in file.read(1000):  # OpenVINO would try every format it knows, each with an error of its own
            raise CheckpointError(f"{path}: damaged, or not an OpenVINO file")
    if not (weights := path.with_suffix(".bin")).is_file():
        raise CheckpointError(f"{weights}: no such file; the weights of {path.name} must be in the same folder")
