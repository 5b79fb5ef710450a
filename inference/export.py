"""From a checkpoint to ONNX or OpenVINO: a file that knows its labels and how its images are made."""

import json
import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dataloader.audio.decoding import BadRecording, read_audio
from dataloader.metadata import AUDIO
from factory.model_card import CARD_KEY, ModelCard, read_card
from inference.backends import UNSEALED, ExportError, Forward, checkpoint_of, load, network_of, require_package, seal
from inference.inputs import find_recordings
from inference.predictor import inputs_of, plan_of
from inference.sources import source_of
from inference.window_plan import Grid, Windower
from utils.checkpoint import load_checkpoint
from utils.config import load_config
from utils.errors import DataError, UserError, first_line
from utils.files import whole
from utils.run_folder import CONFIG, SPLIT

log = logging.getLogger(__name__)

LARGEST_DIFFERENCE = 1e-3  # of a logit, between PyTorch and the exported file
_RECORDINGS = 8  # compared
_SECONDS = 30.0  # of each


def places(run: Path, kind: str, output: Path | None) -> tuple[Path, Path]:
    """The checkpoint to export, and where to.

    Raises:
        CheckpointError: no such run, or it has no checkpoint yet.
        UserError: the format's package is not installed, or the output's ending is not its own.
    """
    require_package("onnx", "both formats need it")
    if kind == "openvino":
        require_package("openvino", "or export --to onnx")
    else:
        require_package("onnxruntime", "to compare the file with PyTorch")
    ending = {"onnx": ".onnx", "openvino": ".xml"}[kind]
    checkpoint = checkpoint_of(run)
    output = output or checkpoint.with_suffix(ending)
    if output.suffix != ending:
        raise UserError(f"{output}: a file of {kind} ends in {ending}; choose such a name")
    output.parent.mkdir(parents=True, exist_ok=True)
    return checkpoint, output


def real_inputs(checkpoint: Path, audio: Sequence[Path] | None) -> list[np.ndarray]:
    """Batches of what the network takes, from real recordings: of ``audio``, else of the run's own test part.

    Raises:
        DataError: none can be read.
    """
    card = read_card(load_checkpoint(checkpoint), checkpoint)
    recordings = find_recordings(audio) if audio else _own_recordings(checkpoint.parent)
    source, window_s = source_of(card), card.process.max_length_s
    plan = plan_of(card, Grid(window_s, window_s), source)
    batches = []
    for recording in recordings[:_RECORDINGS]:
        try:
            waveform = read_audio(recording, source.sample_rate, duration_s=_SECONDS, strict=False)
        except BadRecording as bad:
            log.warning("%s: left out: %s", recording, bad)
            continue
        windower, stream = Windower([plan], [0]), source.stream()
        cuts = [windower.push([stream.push(waveform)]), windower.push([stream.finish()]), windower.finish(_SECONDS)]
        if windows := [window for cut in cuts for window in cut.windows[0]]:
            batches.append(inputs_of(windows, plan))
    if not batches:
        raise DataError("no recording to compare the exported file with; name some with --audio")
    return batches


def export(checkpoint: Path, kind: str, output: Path, images: Sequence[np.ndarray]) -> float:
    """Write the file, unless it computes something else than PyTorch; return the largest difference of a logit.

    Raises:
        UserError: it differs by more than ``LARGEST_DIFFERENCE``; what was there before stays.
    """
    network, card, digest = network_of(checkpoint)
    write = {"onnx": export_onnx, "openvino": export_openvino}[kind]
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
        draft = Path(folder) / output.name
        write(network, card, digest, draft)
        difference = largest_difference(network, load(draft, kind).forward, images)
        if not difference <= LARGEST_DIFFERENCE:  # nor if it is NaN
            raise UserError(
                f"{output}: a logit differs by {difference:.2g} from PyTorch's, more than {LARGEST_DIFFERENCE:g}; "
                "nothing is written; predict with --backend torch"
            )
        for ending in (".bin", ".xml") if kind == "openvino" else (".onnx",):
            with whole(output.with_suffix(ending)) as temporary:
                draft.with_suffix(ending).replace(temporary)
    return difference


def export_onnx(network: nn.Module, card: ModelCard, checkpoint_digest: str, path: Path) -> None:
    """Write ``network`` as an ONNX file: what it takes (``Frontend.input_shape``) -> logits (batch, classes).

    Args:
        card: kept in the file's metadata under ``CARD_KEY``, as JSON.
        checkpoint_digest: of the checkpoint it came from, kept with them, as is the file's own.

    Raises:
        ExportError: an operation of the network is not known to the format.
    """
    import onnx

    images = torch.zeros(2, *card.frontend.input_shape(card.process))
    with whole(path) as temporary, warnings.catch_warnings(action="ignore"):
        # The exporter that traces: it needs no further package, and our networks do not branch on values.
        try:
            torch.onnx.export(
                network, (images,), str(temporary), dynamo=False, input_names=["images"], output_names=["logits"],
                dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
            )  # fmt: skip
        except RuntimeError as error:  # those of the exporter, and of tracing
            why = first_line(error)
            raise ExportError(f"{card.model_type} cannot be exported ({why}); use --backend torch") from None
        entry = onnx.StringStringEntryProto(key=CARD_KEY, value=_unsealed(card, checkpoint_digest))
        with open(temporary, "ab") as file:  # parts of a protobuf message may stand one behind another
            file.write(onnx.ModelProto(metadata_props=[entry]).SerializeToString())
        seal(temporary)


def export_openvino(network: nn.Module, card: ModelCard, checkpoint_digest: str, path: Path) -> None:
    """Write ``network`` as an OpenVINO file, ``path`` (.xml) and its weights beside it (.bin).

    Raises:
        ExportError: as of ``export_onnx``; parts may be left, as after any error.
    """
    import openvino

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        between = Path(folder) / "model.onnx"
        export_onnx(network, card, checkpoint_digest, between)
        model = openvino.Core().read_model(str(between))
        model.set_rt_info(_unsealed(card, checkpoint_digest), CARD_KEY)
        openvino.serialize(model, str(path))
        seal(path)


def _unsealed(card: ModelCard, checkpoint_digest: str) -> str:
    return json.dumps(card.plain() | {"checkpoint": checkpoint_digest, "sha256": UNSEALED})


def largest_difference(network: nn.Module, forward: Forward, images: Sequence[np.ndarray]) -> float:
    """Of a logit between PyTorch and ``forward``, over batches of images."""
    with torch.inference_mode():
        differences = [np.abs(network(torch.from_numpy(one)).numpy() - forward(one)).max() for one in images]
    return float(np.max(differences))  # the built-in max would lose a NaN


def _own_recordings(run: Path) -> list[Path]:
    """Recordings of the run's test part (of all its parts where that is empty), if they are still there."""
    import pandas as pd

    if not (run / CONFIG).is_file() or not (run / SPLIT).is_file():
        return []
    config = load_config(run / CONFIG)
    table = pd.read_csv(run / SPLIT, dtype=str, keep_default_na=False)
    chosen = table[table["split"] == "test"] if (table["split"] == "test").any() else table
    folders = [config.paths.data_dir / AUDIO, config.paths.demo_dir / AUDIO]
    paths = [folder / name for folder in folders for name in chosen["filename"]]
    return [path for path in paths if path.is_file()]
