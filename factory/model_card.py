"""What does a trained model state about itself: its labels, and how its training images were computed?"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from factory.frontend import Frontend, frontend_of
from factory.model import model_of, model_settings
from utils.errors import CheckpointError
from utils.settings import Data, DataProcess, Model

CARD_KEY = "bird_classifier"  # the key of the metadata in an exported file


@dataclass(frozen=True)
class ModelCard:
    """All that prediction needs beside the weights; it never comes from the user's present config.

    Attributes:
        model: the settings that shape the network.
        labels: the classes, in the order of the logits.
        process: the settings of the spectrogram, and the length of a window.
        standardize_over: ``window`` or ``recording``.
        min_recording_s: seconds of the shortest recording that the run used; a shorter one is not scored either.
        encoder: for a head on a frozen encoder: ``path`` and ``digest`` of its file, and the ``size`` of an embedding.
    """

    model: Model
    labels: tuple[str, ...]
    scientific_names: tuple[str, ...]
    common_names: tuple[str, ...]
    process: DataProcess
    standardize_over: str
    min_recording_s: float = Data.min_recording_s
    encoder: Mapping[str, Any] | None = None

    @property
    def model_type(self) -> str:
        return self.model.type

    @property
    def frontend(self) -> Frontend:
        """The kind of its input, such as images or waveforms."""
        return frontend_of(self.model.type)

    @property
    def spectrogram(self) -> DataProcess:
        """The settings that make the spectrogram, without those of windows; equal for models that can share it."""
        default = DataProcess()
        return replace(self.process, max_length_s=default.max_length_s, mode=default.mode, max_recording_s=0.0)

    def plain(self) -> dict[str, Any]:
        """The same in plain values, as in a checkpoint."""
        return {
            "model_type": self.model_type,
            "model_settings": model_settings(self.model),
            "labels": list(self.labels),
            "scientific_names": list(self.scientific_names),
            "common_names": list(self.common_names),
            "data_process": asdict(self.process),
            "standardize_over": self.standardize_over,
            "min_recording_s": self.min_recording_s,
            **({"encoder": dict(self.encoder)} if self.encoder else {}),
        }


def read_card(state: Mapping[str, Any], source: Path) -> ModelCard:
    """The card in a checkpoint or in the metadata of an exported file.

    Raises:
        CheckpointError: some of it is missing, or is of another version of this program.
    """
    try:
        labels = tuple(state["labels"])
        process = DataProcess(**state["data_process"])
        card = ModelCard(
            model=model_of(state),
            labels=labels,
            scientific_names=tuple(state.get("scientific_names", labels)),
            common_names=tuple(state.get("common_names", labels)),
            process=process,
            standardize_over=state["standardize_over"],
            min_recording_s=float(state.get("min_recording_s", Data.min_recording_s)),
            encoder=state.get("encoder"),
        )
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{source}: something is missing, or of another version ({error}); use another checkpoint"
        ) from None
    if not labels or len(card.scientific_names) != len(labels) or len(card.common_names) != len(labels):
        raise CheckpointError(f"{source}: damaged: it has no labels, or another number of names than of labels")
    return card
