"""What does a tracker receive from a run? The settings, the scores of each epoch and of the test, and the summary."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from utils.settings import SECRETS, Config

if TYPE_CHECKING:
    import numpy as np


class HeldOutScores(NamedTuple):
    """The test recordings of a run.

    Attributes:
        targets, scores: ``(recordings, classes)``; a target is 1 or 0.
        pictures: the spectrograms that the model is most wrong about: a title, and ``(n_mels, frames)`` in dB.
    """

    labels: Sequence[str]
    targets: "np.ndarray"
    scores: "np.ndarray"
    pictures: Sequence[tuple[str, "np.ndarray"]]


class Tracker(Protocol):
    """Something that records the scores of a run."""

    def log_epoch(self, row: Mapping[str, float | int | None]) -> None:
        """Record the numbers of one epoch; ``row["epoch"]`` counts from 1, None means that there is no score."""

    def log_test(self, test: HeldOutScores) -> None:
        """Record the scores of the test recordings."""

    def log_summary(self, summary: Mapping[str, object]) -> None:
        """Record the summary of the run."""

    def close(self) -> None:
        """Finish writing. Nothing is logged afterwards."""


def public_settings(config: Config) -> Iterator[tuple[str, str, object]]:
    """Section, key and value of each setting except the secrets."""
    for section in config.section_names:
        for key, value in vars(config.section(section)).items():
            if (section, key) not in SECRETS:
                yield section, key, value


def plain(value: object) -> object:
    """``value`` in the types of JSON: numpy's numbers become Python's, those that are not finite None, paths text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "item"):  # a scalar of numpy or torch
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
