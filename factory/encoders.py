"""Which head on a frozen encoder? [model] type, head and pool -> a module of embeddings."""

from collections.abc import Callable

from dataloader.encoders.embed import opened
from dataloader.encoders.files import digest_of, find_file
from dataloader.encoders.table import encoder_of
from factory.lookup import lookup
from models.embedding import EmbeddingClassifier
from utils.errors import ConfigError, Problem
from utils.settings import Model

_HIDDEN = 512  # width of the hidden layer of mlp


def linear(size: int, n_classes: int, **options: object) -> EmbeddingClassifier:
    """One layer; with few recordings nothing was better."""
    return EmbeddingClassifier(size, n_classes, **options)


def mlp(size: int, n_classes: int, **options: object) -> EmbeddingClassifier:
    """A hidden layer, then the last layer."""
    return EmbeddingClassifier(size, n_classes, hidden=_HIDDEN, **options)


ENCODER_HEADS: dict[str, Callable[..., EmbeddingClassifier]] = {"default": linear, "linear": linear, "mlp": mlp}
_FOR_NETWORKS = ("drop_path", "frequency_channel", "wav2vec_layers", "freeze_epochs")


def check_encoder_model(model: Model) -> list[Problem]:
    """The problems of the [model] section of a head on an encoder, without those of the encoder_ keys."""
    problems = []
    try:
        lookup("model", "head", model.head, ENCODER_HEADS)
    except ConfigError as error:
        problems += error.problems
    for key in _FOR_NETWORKS:
        if (value := getattr(model, key)) != (default := getattr(Model(), key)):
            text = f"is for trained networks, but {model.type} is frozen; leave it at {str(default).lower()}"
            problems.append(Problem(text, "model", key, value))
    return problems


def encoder_card(model: Model) -> dict[str, object]:
    """What a checkpoint holds about the encoder in place of its weights."""
    encoder = encoder_of(model)
    path = find_file(encoder, model.weights_path)
    return {"path": str(path), "digest": digest_of(path), "size": opened(encoder, path).size}


def build_encoder_model(model: Model, n_classes: int, *, size: int | None = None) -> EmbeddingClassifier:
    """Build the head on the encoder that ``model.type`` names: (batch, windows, 1 + size) -> (batch, n_classes).

    Args:
        size: the length of an embedding; None: the encoder's file is opened to get it.

    Raises:
        UserError: the encoder is not available, or does not match its type.
    """
    if size is None:
        encoder = encoder_of(model)
        size = opened(encoder, find_file(encoder, model.weights_path)).size
    build = lookup("model", "head", model.head, ENCODER_HEADS)
    return build(size, n_classes, attention=model.pool == "attention", drop_rate=model.drop_rate)
