"""Which head on a frozen encoder? [model] type, head and pool -> a module of embeddings."""

from collections.abc import Callable

from dataloader.encoders.embed import opened
from dataloader.encoders.files import digest_of, find_file
from dataloader.encoders.table import encoder_of
from factory.lookup import lookup
from models.embedding import EmbeddingClassifier
from utils.config import Model
from utils.errors import ConfigError, Problem

_HIDDEN = 512  # width of the mlp


def linear(size: int, n_classes: int, **options: object) -> EmbeddingClassifier:
    """One layer: with few recordings nothing beats it."""
    return EmbeddingClassifier(size, n_classes, **options)


def mlp(size: int, n_classes: int, **options: object) -> EmbeddingClassifier:
    """A hidden layer between."""
    return EmbeddingClassifier(size, n_classes, hidden=_HIDDEN, **options)


ENCODER_HEADS: dict[str, Callable[..., EmbeddingClassifier]] = {"default": linear, "linear": linear, "mlp": mlp}
_FOR_NETWORKS = ("drop_path", "frequency_channel", "wav2vec_layers", "freeze_epochs")


def check_encoder_model(model: Model) -> list[Problem]:
    """What is wrong with the [model] section of a head on an encoder, but for the encoder_ keys."""
    problems = []
    try:
        lookup("model", "head", model.head, ENCODER_HEADS)
    except ConfigError as error:
        problems += error.problems
    for key in _FOR_NETWORKS:
        if (value := getattr(model, key)) != (default := getattr(Model(), key)):
            text = (
                f"for networks that learn themselves; {model.type} is always frozen: leave it at {str(default).lower()}"
            )
            problems.append(Problem(text, "model", key, value))
    return problems


def encoder_card(model: Model) -> dict[str, object]:
    """What a checkpoint says of the encoder, whose weights it does not hold."""
    encoder = encoder_of(model)
    path = find_file(encoder, model.weights_path)
    return {"path": str(path), "digest": digest_of(path), "size": opened(encoder, path).size}


def build_encoder_model(model: Model, n_classes: int, *, size: int | None = None) -> EmbeddingClassifier:
    """Build the head on the encoder that ``model.type`` names: (batch, windows, 1 + size) -> (batch, n_classes).

    Args:
        size: of an embedding; None: the encoder's file is opened and says it.

    Raises:
        UserError: the encoder cannot be had, or is not what its type says.
    """
    if size is None:
        encoder = encoder_of(model)
        size = opened(encoder, find_file(encoder, model.weights_path)).size
    build = lookup("model", "head", model.head, ENCODER_HEADS)
    return build(size, n_classes, attention=model.pool == "attention", drop_rate=model.drop_rate)
