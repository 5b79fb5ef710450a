"""What computes logits from images: PyTorch, ONNX Runtime or OpenVINO, each alike.

A backend is called by several threads at once, each with a batch of its own: on a CPU, no thread then waits
for another within a layer.
"""

import atexit
import functools
import hashlib
import importlib.util
import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dataloader.batches.windows import image_size
from factory.model import build_model
from factory.model_card import CARD_KEY, ModelCard, read_card
from utils.checkpoint import load_checkpoint
from utils.command import explain_os_error
from utils.config import load_config
from utils.errors import CheckpointError, ConfigError, UserError, unknown
from utils.run_folder import BEST, CONFIG, LAST
from utils.utils import choose_device, cores

log = logging.getLogger(__name__)

Forward = Callable[[np.ndarray], np.ndarray]  # (batch, 1, n_mels, frames) or (batch, samples) -> logits

INSTALL = {"onnx": "onnxruntime", "openvino": "openvino"}  # backend -> the package that it needs
_CPU_BATCH, _GPU_BATCH = 4, 64  # on a CPU 8 and 16 were slower, and need more memory
FASTEST = ("onnx", "openvino")  # on a CPU, before torch; benchmarks/predict.py
UNSEALED = "0" * 64  # where the digest of an exported file will be


class ExportError(UserError):
    """A network cannot be written in another format."""


@dataclass(frozen=True)
class Loaded:
    """A model ready to compute.

    Attributes:
        source: the file its weights came from.
        digest: of the checkpoint they came from; that file may hold others by now.
        workers: threads that should call ``forward`` at once.
        batch: windows that each should call it with.
    """

    source: Path
    digest: str
    card: ModelCard
    forward: Forward
    backend: str
    workers: int
    batch: int


def load(path: Path, backend: str = "auto", device: str = "auto") -> Loaded:
    """Load a run (its folder, or one of its checkpoints) or an exported file.

    Args:
        backend: ``torch``, ``onnx``, ``openvino``, or ``auto``: PyTorch on a GPU, else the fastest installed.

    Raises:
        CheckpointError: no such run, damaged, or without what prediction needs.
        UserError: the backend is not installed, or cannot take such a file.
    """
    if backend not in (*BACKENDS, "auto"):
        raise UserError(f"--backend {backend}: {unknown(backend, ['auto', *BACKENDS])}")
    torch_device = _device(device, backend)
    if path.suffix in (".onnx", ".xml"):
        if not path.is_file():
            raise CheckpointError(f"{path}: no such exported file")
        if device == "cuda":
            raise UserError(f"--device cuda: {path} is computed on the CPU; give the run, or --device cpu")
        name = _of_exported(path, backend)
    else:
        path = checkpoint_of(path)
        name = _of_run(backend, torch_device)
    try:
        return BACKENDS[name](path, torch_device)
    except ExportError as error:
        if backend != "auto":
            raise
        log.warning("%s", error)
        return torch_backend(path, torch_device)


def _device(device: str, backend: str) -> torch.device:
    """
    Raises:
        UserError: there is no such device, or the backend does not use it.
    """
    if device == "cuda" and backend in INSTALL:
        raise UserError(f"--device cuda: --backend {backend} computes on the CPU; use --backend torch, or --device cpu")
    try:
        return choose_device(device)
    except ConfigError:
        raise UserError(f"--device {device}: no CUDA device here; use cpu or auto") from None


def checkpoint_of(run: Path) -> Path:
    """The checkpoint that a run is predicted with: best.pt, or last.pt of a run that keeps no best.

    Raises:
        CheckpointError: there is none.
    """
    if run.is_file():
        return run
    if (run / BEST).is_file():
        return run / BEST
    if not (run / CONFIG).is_file():
        raise CheckpointError(f"{run}: no run is there; give the folder that train_classifier.py printed")
    if (run / LAST).is_file() and not load_config(run / CONFIG).callbacks.model_checkpoint:
        log.warning("%s: [callbacks] model_checkpoint = false, so this predicts with its last epoch", run)
        return run / LAST
    raise CheckpointError(
        f"{run}: it has no best.pt yet; finish its first epoch with: python train_classifier.py --resume {run}"
    )


def installed(backend: str) -> bool:
    return backend == "torch" or importlib.util.find_spec(INSTALL[backend]) is not None


def network_of(checkpoint: Path, device: torch.device | str = "cpu") -> tuple[torch.nn.Module, ModelCard, str]:
    """The trained network of a checkpoint, ready to compute, its card, and the digest of what was read."""
    digest = None
    while digest is None or digest != file_digest(checkpoint):  # training may put another in its place meanwhile
        digest = file_digest(checkpoint)
        state = load_checkpoint(checkpoint, device="cpu")
    card = read_card(state, checkpoint)
    try:
        network = build_model(card.model, len(card.labels), image_size=image_size(card.process))
        network.load_state_dict(state["model"])
    except ConfigError as error:
        raise CheckpointError(f"{checkpoint}: its network cannot be built: {error}") from None
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(f"{checkpoint}: its weights do not fit {card.model_type} ({reason})") from None
    return network.eval().to(device, memory_format=torch.channels_last), card, digest


def _of_run(backend: str, device: torch.device) -> str:
    if backend == "auto":
        if device.type == "cuda":
            return "torch"
        able = importlib.util.find_spec("onnx") is not None
        return next((name for name in FASTEST if able and installed(name)), "torch")
    if backend in INSTALL:
        _require(backend)
        require_package("onnx", "a run is exported before that; or give an exported file, or use --backend torch")
    return backend


def _of_exported(path: Path, backend: str) -> str:
    able = ("onnx", "openvino") if path.suffix == ".onnx" else ("openvino",)
    if backend == "auto":
        backend = next((name for name in able if installed(name)), able[0])
    if backend not in able:
        raise UserError(f"{path}: --backend {backend} does not read this file; use --backend {' or '.join(able)}")
    _require(backend)
    return backend


def _require(backend: str) -> None:
    require_package(INSTALL[backend], "or use --backend torch with a run")


def require_package(package: str, otherwise: str) -> None:
    """
    Raises:
        UserError: it is not installed; ``otherwise`` says what could be done instead.
    """
    if importlib.util.find_spec(package) is None:
        raise UserError(f"{package} is not installed; install it with pip install {package} ({otherwise})")


# The backends. On a CPU each call uses one thread, and there are as many calls at once as cores.


def torch_backend(path: Path, device: torch.device) -> Loaded:
    network, card, digest = network_of(path, device)

    def forward(images: np.ndarray) -> np.ndarray:
        if device.type == "cpu" and torch.get_num_threads() > 1:
            torch.set_num_threads(1)  # of the calling thread
        with torch.inference_mode():
            batch = torch.from_numpy(images).to(device)
            if batch.ndim == 4:
                batch = batch.contiguous(memory_format=torch.channels_last)
            return network(batch).float().cpu().numpy()

    workers, batch = (cores(), _CPU_BATCH) if device.type == "cpu" else (1, _GPU_BATCH)
    return Loaded(path, digest, card, forward, "torch", workers, batch)


def onnx_backend(path: Path, device: torch.device) -> Loaded:
    import onnxruntime

    exported = path if path.suffix == ".onnx" else _exported(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(exported), options, providers=["CPUExecutionProvider"])
        text = session.get_modelmeta().custom_metadata_map.get(CARD_KEY)
    except Exception as error:  # protobuf and the runtime have a dozen errors for a damaged file
        raise CheckpointError(f"{exported}: damaged, or not an ONNX file ({_reason(error)})") from None
    card, digest = _card_in(text, exported)
    name = session.get_inputs()[0].name

    def forward(images: np.ndarray) -> np.ndarray:
        return session.run(None, {name: images})[0]

    return Loaded(path, digest, card, forward, "onnx", cores(), _CPU_BATCH)


def openvino_backend(path: Path, device: torch.device) -> Loaded:
    import openvino

    exported = path if path.suffix in (".onnx", ".xml") else _exported(path)
    if exported.suffix == ".onnx":
        text = _onnx_metadata(exported)
    elif b"<net" not in _head(exported):  # OpenVINO would try it as all it knows, and each would complain
        raise CheckpointError(f"{exported}: damaged, or not a file of OpenVINO")
    elif not (weights := exported.with_suffix(".bin")).is_file():
        raise CheckpointError(f"{weights}: no such file; the weights of {exported.name} belong beside it")
    core = openvino.Core()
    try:
        model = core.read_model(str(exported))
    except RuntimeError as error:
        raise CheckpointError(f"{exported}: damaged, or not a file of OpenVINO ({_reason(error)})") from None
    if exported.suffix == ".xml":
        text = model.get_rt_info(CARD_KEY).value if model.has_rt_info(CARD_KEY) else None
    card, digest = _card_in(text, exported)
    settings = {"NUM_STREAMS": cores(), "INFERENCE_NUM_THREADS": cores(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", settings)

    def forward(images: np.ndarray) -> np.ndarray:
        request = compiled.create_infer_request()  # one belongs to one thread; making it costs microseconds
        return np.array(request.infer({0: images}, share_inputs=True)[0])

    return Loaded(path, digest, card, forward, "openvino", cores(), _CPU_BATCH)


BACKENDS = {"torch": torch_backend, "onnx": onnx_backend, "openvino": openvino_backend}


def _exported(checkpoint: Path) -> Path:
    """The checkpoint as an ONNX file beside it, made now unless it is there; elsewhere if that cannot be written.

    Raises:
        ExportError: the network cannot be written as ONNX.
    """
    from inference.export import export_onnx

    path = checkpoint.with_suffix(".onnx")
    if path.is_file() and _is_export_of(file_digest(checkpoint), path):
        return path
    log.info("%s: exporting it to %s, once", checkpoint, path)
    network, card, digest = network_of(checkpoint)
    try:
        export_onnx(network, card, digest, path)
    except OSError as error:  # a run on a disk that is full or read-only, as Kaggle's inputs are
        path = _place_for_this_process() / f"{digest[:16]}.onnx"
        log.warning("%s; exporting to %s, for this time only", explain_os_error(error), path)
        export_onnx(network, card, digest, path)
    return path


def _is_export_of(checkpoint_digest: str, path: Path) -> bool:
    try:
        return _card_in(_onnx_metadata(path), path)[1] == checkpoint_digest
    except CheckpointError:  # damaged, or not of this program: it is made again
        return False


@functools.cache
def _place_for_this_process() -> Path:
    """A folder that vanishes with the process."""
    folder = tempfile.mkdtemp(prefix="exported-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _onnx_metadata(path: Path) -> str | None:
    require_package("onnx", "or give a run, or what export.py --to openvino wrote")
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
        return next((entry.value for entry in model.metadata_props if entry.key == CARD_KEY), None)
    except Exception as error:  # see onnx_backend
        raise CheckpointError(f"{path}: damaged, or not an ONNX file ({_reason(error)})") from None


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(1000)


def _card_in(text: str | None, path: Path) -> tuple[ModelCard, str]:
    """The card in an exported file's metadata, and the digest of the checkpoint that it came from."""
    if not text:
        raise CheckpointError(f"{path}: it holds no labels; export it with export.py")
    try:
        known = json.loads(text)
        checkpoint, digest = str(known["checkpoint"]), str(known["sha256"])
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path}: its labels cannot be read; export it again with export.py") from None
    if len(digest) != len(UNSEALED) or _digest_of_exported(path, digest) != digest:
        raise CheckpointError(f"{path}: damaged, or of an earlier version; export it again with export.py")
    return read_card(known, path), checkpoint


def seal(path: Path) -> None:
    """Put the digest of an exported file into it, where its card say ``UNSEALED``: no byte is left out."""
    before, _, after = path.read_bytes().rpartition(UNSEALED.encode())
    path.write_bytes(before + _digest_of_exported(path, UNSEALED).encode() + after)


def _digest_of_exported(path: Path, sealed: str) -> str:
    """SHA-256 of an exported file as it was before ``sealed`` came into it; for OpenVINO with the weights beside it."""
    digest = hashlib.sha256(path.read_bytes().replace(sealed.encode(), UNSEALED.encode()))
    if path.suffix == ".xml":
        digest.update(path.with_suffix(".bin").read_bytes())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    """The line of a library's message that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith("Exception from")), "")[:200]
