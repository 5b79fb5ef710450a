"""Exporting a checkpoint to ONNX or OpenVINO, with a check that the exported file computes what PyTorch computes."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dataloader.audio.decoding import BadRecording, read_audio
from dataloader.batches.embeddings import weighted
from dataloader.metadata import existing_paths
from factory.model_card import read_card
from inference.backends import BACKENDS, Forward
from inference.checkpoints import network_of
from inference.encoders import encoder_of_card
from inference.exported import SUFFIXES, WRITERS
from inference.inputs import find_recordings
from inference.predictor import inputs_of, plan_of
from inference.sources import source_of
from inference.window_plan import Grid, Windower
from utils.checkpoint import load_checkpoint
from utils.config import load_config
from utils.errors import DataError, UserError
from utils.files import whole
from utils.packages import require_package
from utils.run_folder import CONFIG, SPLIT

log = logging.getLogger(__name__)

LARGEST_DIFFERENCE = 1e-3  # of a logit, between PyTorch and the exported file
_RECORDINGS = 8  # that are compared
_SECONDS = 30.0  # of each


def output_path(checkpoint: Path, kind: str, output: Path | None) -> Path:
    """Where to write the exported file; without ``output``, beside the checkpoint.

    Raises:
        UserError: a package that the export needs is not installed, or the name of ``output`` has the wrong ending.
    """
    require_package("onnx", "both formats need it")
    if kind == "openvino":
        require_package("openvino", "or export --to onnx")
    else:
        require_package("onnxruntime", "it compares the file with PyTorch")
    suffix = SUFFIXES[kind]
    output = output or checkpoint.with_suffix(suffix)
    if output.suffix != suffix:
        raise UserError(f"{output}: the name of an {kind} file must end in {suffix}; choose such a name")
    output.parent.mkdir(parents=True, exist_ok=True)
    return output


def real_batches(checkpoint: Path, audio: Sequence[Path] | None) -> list[np.ndarray]:
    """Batches of network inputs from real recordings: from ``audio``, else from the run's own test split.

    Raises:
        DataError: no recording can be read.
    """
    card = read_card(load_checkpoint(checkpoint), checkpoint)
    recordings = find_recordings(audio) if audio else _own_recordings(checkpoint.parent)
    source, window_s = source_of(card), card.process.max_length_s
    plan = plan_of(card, Grid(window_s, window_s), source)
    encoder = encoder_of_card(card, checkpoint) if card.encoder else None
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
            inputs = inputs_of(windows, plan)
            batches.append(inputs if encoder is None else _examples(encoder(inputs).embeddings))
    if not batches:
        raise DataError("there is no recording to compare the exported file with; name some with --audio")
    return batches


def _examples(embeddings: np.ndarray) -> np.ndarray:
    """The windows of a recording as one example of a head."""
    return weighted(embeddings, np.ones(len(embeddings)))[None].astype(np.float32)


def export_checkpoint(checkpoint: Path, kind: str, output: Path, batches: Sequence[np.ndarray]) -> float:
    """Write the exported file if it computes what PyTorch computes.

    Returns:
        the largest difference of a logit over ``batches``.

    Raises:
        ExportError: the network cannot be written in this format.
        UserError: a logit differs by more than ``LARGEST_DIFFERENCE``. An earlier file at ``output`` stays.
    """
    trained = network_of(checkpoint)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
        draft = Path(folder) / output.name
        WRITERS[kind](trained, draft)
        forward = BACKENDS[kind](draft, torch.device("cpu")).forward
        difference = largest_difference(trained.network, forward, batches)
        if not difference <= LARGEST_DIFFERENCE:  # also if it is NaN
            raise UserError(
                f"{output}: a logit differs by {difference:.2g} from PyTorch's, more than {LARGEST_DIFFERENCE:g}; "
                "nothing is written; predict with --backend torch"
            )
        for suffix in (".bin", ".xml") if kind == "openvino" else (".onnx",):
            with whole(output.with_suffix(suffix)) as temporary:
                draft.with_suffix(suffix).replace(temporary)
    if trained.card.encoder:
        log.info("the file holds the head; prediction with it also needs the encoder, %s", trained.card.encoder["path"])
    return difference


def largest_difference(network: nn.Module, forward: Forward, batches: Sequence[np.ndarray]) -> float:
    """The largest difference of a logit between PyTorch and ``forward``; NaN if any logit is NaN."""
    with torch.inference_mode():
        differences = [np.abs(network(torch.from_numpy(one)).numpy() - forward(one)).max() for one in batches]
    return float(np.max(differences))  # the built-in max would lose a NaN


def _own_recordings(run: Path) -> list[Path]:
    """The existing recordings of the run's test split, or of all its splits where the test split is empty."""
    import pandas as pd

    if not (run / CONFIG).is_file() or not (run / SPLIT).is_file():
        return []
    config = load_config(run / CONFIG)
    table = pd.read_csv(run / SPLIT, dtype=str, keep_default_na=False)
    chosen = table[table["split"] == "test"] if (table["split"] == "test").any() else table
    return existing_paths(config, chosen["filename"])
