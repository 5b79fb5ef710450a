"""Which network? [model] type -> an image network of timm, Wav2Vec2, or a head on a frozen encoder."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import torch
from torch import nn

from dataloader.encoders.table import is_encoder
from factory import pretrained, wav2vec
from factory.encoders import build_encoder_model, check_encoder_model
from factory.image_model import ImageSize, build_image_model, check_image_model, wrong_size
from factory.wav2vec import WAVEFORM_MODELS, build_waveform_model, check_waveform_model
from models.classifier import ImageClassifier
from models.embedding import EmbeddingClassifier
from models.wav2vec import WaveformClassifier
from utils.errors import CheckpointError, ConfigError, Problem, first_line
from utils.settings import Model

# The settings of initial weights and of which are trained first; all others shape the network.
_OF_THE_START = ("transfer_learning", "weights_path", "freeze_epochs")


def model_settings(model: Model) -> dict[str, object]:
    """The settings of [model] that a checkpoint keeps: all that shape the network, as plain values."""
    return {key: value for key, value in asdict(model).items() if key not in _OF_THE_START}


def model_of(card: Mapping[str, Any]) -> Model:
    """The [model] section of a checkpoint, to build its network without any pretrained weights.

    A checkpoint from before ``model_settings`` has only the type.

    Raises:
        CheckpointError: it has a setting that this version of the program does not know.
    """
    settings = card.get("model_settings", {"type": card["model_type"]})
    if strange := settings.keys() - {field.name for field in fields(Model)}:
        raise CheckpointError(f"from a newer version: [model] {', '.join(sorted(strange))}; update this program")
    return Model(**settings, transfer_learning=False)


def check_model(model: Model, *, fetch: bool = True) -> None:
    """Check [model] as far as is possible without building the network.

    Args:
        fetch: false: the weights come from a checkpoint, so ``weights_path`` does not have to exist any more.

    Raises:
        ConfigError: with all problems.
    """
    if is_encoder(model.type):
        problems = check_encoder_model(model)
    else:
        check = check_waveform_model if model.type in WAVEFORM_MODELS else check_image_model
        problems = check(model) + pretrained.check_weights(model, fetch=fetch)
    if problems:
        raise ConfigError(problems)


def build_model(
    model: Model, n_classes: int, *, image_size: ImageSize | None = None, testing: bool = False, fetch: bool = True
) -> nn.Module:
    """Build the network that ``model.type`` names: (batch, 1, n_mels, frames) -> logits (batch, n_classes).

    The input of one of ``WAVEFORM_MODELS`` is (batch, samples), and that of a head on an encoder is embeddings; see
    ``factory.frontend``. Pretrained weights come from ``weights_path``, else from timm's download. timm adds up the
    three colours of the first layer, and adds a new head if the number of classes differs. A frequency channel has no
    effect at first, so that it does not disturb the pretrained weights.

    Args:
        image_size: for networks of a fixed size, such as most transformers; others ignore it.
        testing: if no weights can be downloaded, use random weights with a warning.
        fetch: false: random weights, which those of a checkpoint will replace.

    Raises:
        ConfigError: the name is unknown, its weights cannot be downloaded, a file does not fit, the network cannot be
            built for this image size, or its features do not fit the head.
    """
    check_model(model, fetch=fetch)
    if is_encoder(model.type):
        return build_encoder_model(model, n_classes)
    if model.type in WAVEFORM_MODELS:
        return build_waveform_model(model, n_classes, testing=testing, fetch=fetch)
    return build_image_model(model, n_classes, image_size, testing=testing, fetch=fetch)


def head_of(network: nn.Module) -> nn.Module:
    """The classifier of a network of ``build_model``, which is new if the rest is pretrained."""
    ours = isinstance(network, ImageClassifier | WaveformClassifier | EmbeddingClassifier)
    head = network.head if ours else None
    return head if head is not None else getattr(network, "backbone", network).get_classifier()


def dry_run(model: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Give ``model`` one empty batch, so that a wrong shape is reported before hours of preprocessing.

    Args:
        input_shape: (batch, 1, n_mels, frames), or (batch, samples).

    Raises:
        ConfigError: the network does not accept such an input.
    """
    training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(input_shape, device=device))
    except Exception as error:  # the networks of timm raise many kinds of errors
        name = getattr(getattr(model, "backbone", model), "pretrained_cfg", {}).get("architecture")
        if len(input_shape) == 2:
            fault, remedy = ("too short", "raise") if input_shape[1] < wav2vec.SEES else ("not accepted", "change")
            text = f"a window of {input_shape[1]} samples is {fault} ({first_line(error)}); {remedy} it"
            raise ConfigError(Problem(text, "data_process", "max_length_s")) from None
        raise ConfigError(wrong_size(name, input_shape[-2:], error)) from None
    finally:
        model.train(training)
