"""Which checkpoint of a run is used, and how is its trained network loaded?"""

import logging
from pathlib import Path
from typing import NamedTuple

import torch

from dataloader.batches.windows import image_size
from factory.encoders import build_encoder_model
from factory.model import build_model
from factory.model_card import ModelCard, read_card
from utils.checkpoint import load_checkpoint
from utils.config import load_config
from utils.errors import CheckpointError, ConfigError
from utils.files import file_digest
from utils.run_folder import BEST, CONFIG, LAST, THRESHOLDS

log = logging.getLogger(__name__)


class TrainedNetwork(NamedTuple):
    """A network with the weights of a checkpoint.

    Attributes:
        network: in evaluation mode.
        digest: SHA-256 of the checkpoint that was read.
        thresholds: as of ``thresholds_of``.
    """

    network: torch.nn.Module
    card: ModelCard
    digest: str
    thresholds: str | None = None


def checkpoint_of(run: Path) -> Path:
    """The checkpoint that prediction uses: best.pt, or last.pt where the run keeps no best.pt.

    Args:
        run: the folder of a run, or a checkpoint.

    Raises:
        CheckpointError: there is no such checkpoint.
    """
    if run.is_file():
        return run
    if (run / BEST).is_file():
        return run / BEST
    if not (run / CONFIG).is_file():
        raise CheckpointError(f"{run}: this is not a run; give the folder that train_classifier.py printed")
    if (run / LAST).is_file() and not load_config(run / CONFIG).callbacks.model_checkpoint:
        log.warning("%s: [callbacks] model_checkpoint = false, so its last epoch is used for prediction", run)
        return run / LAST
    raise CheckpointError(
        f"{run}: there is no best.pt yet; finish the first epoch with: python train_classifier.py --resume {run}"
    )


def network_of(checkpoint: Path, device: torch.device | str = "cpu") -> TrainedNetwork:
    """Load the trained network of a checkpoint.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, or its network cannot be built.
    """
    digest = None
    while digest is None or digest != file_digest(checkpoint):  # training may replace the file at the same time
        digest = file_digest(checkpoint)
        state = load_checkpoint(checkpoint, device="cpu")
    card = read_card(state, checkpoint)
    try:
        if card.encoder:
            network = build_encoder_model(card.model, len(card.labels), size=card.encoder["size"])
        else:
            network = build_model(card.model, len(card.labels), image_size=image_size(card.process))
        network.load_state_dict(state["model"])
    except ConfigError as error:
        raise CheckpointError(f"{checkpoint}: its network cannot be built: {error}") from None
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(f"{checkpoint}: its weights do not fit {card.model_type} ({reason})") from None
    network = network.eval().to(device, memory_format=torch.channels_last)
    return TrainedNetwork(network, card, digest, thresholds_of(checkpoint))


def thresholds_of(checkpoint: Path) -> str | None:
    """What evaluate.py fitted for the run of this checkpoint (``evaluation.decisions``), as text; None if nothing."""
    try:
        return (checkpoint.parent / THRESHOLDS).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
