"""How is a checkpoint exported to ONNX or OpenVINO, with a check that the file computes what PyTorch computes?"""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dataloader.audio.decoding import BadRecording, read_audio
from dataloader.batches.embeddings import weighted
from dataloader.encoders.table import encoder_of
from dataloader.metadata import existing_paths
from factory.model_card import read_card
from inference.backends import BACKENDS, Forward
from inference.checkpoints import TrainedNetwork, network_of
from inference.encoders import encoder_of_card
from inference.exported import SUFFIXES, WRITERS, ExportError
from inference.inputs import find_recordings
from inference.joined import LOGITS, HeadOfOneRecording, joined_logits, write_joined
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
    """Batches of windows as the model takes them, each of one recording, from ``audio`` or the run's own test split.

    Raises:
        DataError: no recording can be read.
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
        raise DataError("there is no recording to compare the exported file with; name some with --audio")
    return batches


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
        if trained.card.encoder:
            difference = _write_on_encoder(trained, checkpoint, kind, draft, batches)
        else:
            WRITERS[kind](trained, draft)
            difference = largest_difference(trained.network, _forward_of(kind, draft), batches)
        if not difference <= LARGEST_DIFFERENCE:  # also if it is NaN
            raise UserError(
                f"{output}: a logit differs by {difference:.2g} from PyTorch's, more than {LARGEST_DIFFERENCE:g}; "
                "nothing is written; predict with --backend torch"
            )
        for suffix in (".bin", ".xml") if kind == "openvino" else (".onnx",):
            with whole(output.with_suffix(suffix)) as temporary:
                draft.with_suffix(suffix).replace(temporary)
    return difference


def _forward_of(kind: str, path: Path) -> Forward:
    return BACKENDS[kind](path, torch.device("cpu")).forward


def _write_on_encoder(
    trained: TrainedNetwork, checkpoint: Path, kind: str, path: Path, batches: Sequence[np.ndarray]
) -> float:
    """Write a head with its encoder where both can be one ONNX file, else the head; return the largest difference."""
    encoder = encoder_of_card(trained.card, checkpoint)
    embeddings = [encoder(windows).embeddings for windows in batches]
    differences = []
    try:
        if kind != "onnx" or encoder.path.suffix != ".onnx":
            raise ExportError("only an ONNX file of an encoder and --to onnx give one file with both")
        write_joined(trained, encoder.path, path)
        log.info("the file holds the encoder and the head: sound -> %s", LOGITS)
        if peak := encoder_of(trained.card.model).peak:
            log.info("other programs must take its mean from each window, and give it a largest value of %g", peak)
        answers = [joined_logits(path, trained.card, windows) for windows in batches]
        one_by_one = any(len(logits) > 1 for logits in answers)  # pool = windows, or the encoder takes one at a time
        head = HeadOfOneRecording(trained.network, each_window=one_by_one)
        answers = iter(answers)
        differences.append(largest_difference(head, lambda _: next(answers), embeddings))
    except ExportError as error:
        log.warning("the file holds the head alone, and prediction with it also needs %s: %s", encoder.path, error)
        WRITERS[kind](trained, path)
    examples = [weighted(one, np.ones(len(one)))[None].astype(np.float32) for one in embeddings]
    differences.append(largest_difference(trained.network, _forward_of(kind, path), examples))
    return float(np.max(differences))


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
