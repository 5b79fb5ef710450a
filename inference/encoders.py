"""How is a pretrained encoder used for prediction? With a trained head, or with its own labels without any training."""

import difflib
import functools
import logging
import queue
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.special import logit

from dataloader.encoders.files import digest_of, find_file, labels_of_package
from dataloader.encoders.runtimes import EncoderOutput, open_encoder
from dataloader.encoders.table import ENCODERS, Encoder, encoder_of
from factory.model_card import ModelCard
from utils.errors import CheckpointError, DataError, UserError, counted, unknown
from utils.files import read_lines
from utils.settings import DataProcess, Model

log = logging.getLogger(__name__)

_LABELS = "--labels takes a text file with one label on each line"
_LEAST_SCORE = 1e-7  # scores of 0 and 1 have no finite logit


class EncoderPool:
    """An encoder for any number of threads; each call uses a copy that no other call is using."""

    def __init__(self, encoder: Encoder, path: Path, *, scores: bool):
        self._open = functools.partial(open_encoder, encoder, path, scores=scores)
        self._free: queue.LifoQueue = queue.LifoQueue()
        self.path = path
        first = self._open()
        self.n_labels = first.n_labels
        self._free.put(first)

    def __call__(self, windows: np.ndarray) -> EncoderOutput:
        try:
            opened = self._free.get_nowait()
        except queue.Empty:
            opened = self._open()
        try:
            return opened.forward(windows)
        finally:
            self._free.put(opened)


# A trained head


def encoder_of_card(card: ModelCard, source: Path) -> EncoderPool:
    """The encoder that the head of a checkpoint was trained on.

    Raises:
        CheckpointError: its file is missing, or has other content.
        UserError: the runtime that reads the file is not installed.
    """
    encoder, path = encoder_of(card.model), Path(card.encoder["path"])
    if not path.is_file():
        try:
            path = find_file(encoder, None)
        except UserError as error:
            raise CheckpointError(f"{source}: the file of its encoder, {path}, does not exist ({error})") from None
    path = find_file(encoder, path)
    if digest_of(path) != card.encoder["digest"]:
        raise CheckpointError(
            f"{source}: it was trained on another encoder than {path} is now; put back the file of the training"
        )
    return EncoderPool(encoder, path, scores=False)


Values = Callable[[np.ndarray], np.ndarray]  # of windows or of a row -> logits or embeddings


def head_functions(head: Values, card: ModelCard, source: Path) -> tuple[Values, Values | None]:
    """``(forward, head)`` as of ``Loaded``; with ``pool = windows`` each window has logits and there is no ``head``.

    Args:
        head: ``(examples, windows, 1 + size)`` float32 -> logits ``(examples, classes)``.
    """
    encoder = encoder_of_card(card, source)

    def embed(windows: np.ndarray) -> np.ndarray:
        return encoder(windows).embeddings

    def logits(windows: np.ndarray) -> np.ndarray:
        embeddings = embed(windows)
        return head(np.concatenate([np.ones((len(embeddings), 1), np.float32), embeddings], axis=1)[:, None])

    return (logits, None) if card.model.pool == "windows" else (embed, head)


# An encoder with its own labels


def is_untrained(run: Path, labels: Path | None) -> bool:
    """Whether ``--run`` names an encoder of the table, or (with ``--labels``) the file of one.

    Raises:
        UserError: labels are given for a run that has its own, or the name is not quite that of an encoder.
    """
    if str(run) in ENCODERS and not run.exists():
        return True
    if labels is not None and run.is_dir():
        raise UserError(f"{run}: this run has its own labels; --labels is for the file of a pretrained encoder")
    if not run.exists() and difflib.get_close_matches(str(run), ENCODERS, 1):
        raise UserError(f"--run {run}: there is no such run, and as an encoder it is {unknown(str(run), [*ENCODERS])}")
    return labels is not None and run.is_file()


def untrained(run: Path, labels: Path | None) -> tuple[ModelCard, str, Path, Values]:
    """The card, the digest, the file and the logits of an encoder's own labels.

    Raises:
        UserError: its file or its runtime is missing, or it has no labels.
        DataError: the list of labels does not fit.
    """
    encoder, path = (_type_of(run), run) if run.is_file() else (ENCODERS[str(run)], None)
    try:
        path = find_file(encoder, path)
    except UserError as error:
        raise UserError(f"{error}; for prediction: --run FILE --labels FILE") from None
    if encoder.scores is None:
        raise UserError(f"{encoder.name}: it has no labels of its own; train a head on it ([model] type)")
    names = labels_of_package(encoder) if labels is None else read_lines(labels, _LABELS)
    if names is None:
        raise UserError(f"{path}: the list of its labels is not installed; give it with --labels FILE")
    pool = EncoderPool(encoder, path, scores=True)
    if len(names) != pool.n_labels:
        raise DataError(
            f"{labels or path}: {counted(len(names), 'label')}, but the encoder answers for {pool.n_labels}; "
            "give the list that belongs to it"
        )
    log.info("%s: licence %s; from %s; to cite: %s", encoder.name, encoder.licence, encoder.source, encoder.citation)

    def logits(windows: np.ndarray) -> np.ndarray:
        scores = pool(windows).scores
        if encoder.answers == "logits":
            return scores
        return logit(np.clip(scores, _LEAST_SCORE, 1 - _LEAST_SCORE))

    return _card(encoder, names), digest_of(path), path, logits


def _type_of(path: Path) -> Encoder:
    """Which encoder of the table has this file.

    Raises:
        UserError: none has.
    """
    reasons = []
    for encoder in ENCODERS.values():
        try:
            open_encoder(encoder, find_file(encoder, path))
            return encoder
        except UserError as error:
            reasons.append(str(error))
    raise UserError(
        f"{path}: this is none of the encoders that are known ({', '.join(ENCODERS)}); for the first: {reasons[0]}"
    )


def _card(encoder: Encoder, names: list[str]) -> ModelCard:
    """The model card; BirdNET's names are ``Scientific name_Common name``, and the label is the scientific name."""
    scientific, common = zip(*((name.partition("_")[0], name.partition("_")[2]) for name in names), strict=True)
    labels = scientific if len(set(scientific)) == len(names) else tuple(names)
    process = DataProcess(
        sample_rate=encoder.sample_rate, max_length_s=encoder.window_s, f_max=min(15_000.0, encoder.sample_rate / 2)
    )
    return ModelCard(Model(type=encoder.name), tuple(labels), scientific, common, process, "window")
