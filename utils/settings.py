"""The settings and their defaults: one typed, frozen class for each section of a config file.

A field has the name of its key, its type holds the bounds of its value, and the comment beside it is what
``docs/settings.md`` says about it.
"""

import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

SOURCE = "source."  # the name of a section [source.NAME] begins with this


@dataclass(frozen=True)
class Bounds:
    """The legal range of a number; ``low`` and ``high`` are legal themselves, ``above`` is not."""

    low: float | None = None
    high: float | None = None
    above: float | None = None

    def complaint(self, value: float) -> str | None:
        """What is wrong with ``value``, or None if it is legal."""
        if self.above is not None and not value > self.above:
            return f"must be above {self.above:g}"
        if self.low is not None and not value >= self.low:
            return f"must be at least {self.low:g}"
        if self.high is not None and not value <= self.high:
            return f"must be at most {self.high:g}"
        return None


Count = Annotated[int, Bounds(low=1)]
CountOrNone = Annotated[int, Bounds(low=0)]  # 0 switches it off
Share = Annotated[float, Bounds(low=0.0, high=1.0)]
Positive = Annotated[float, Bounds(above=0.0)]
NotNegative = Annotated[float, Bounds(low=0.0)]
Seconds = Annotated[float, Bounds(above=0.0, high=1e6)]  # of sound; above 11 days the number of samples overflows
Alpha = Annotated[float, Bounds(above=0.0, high=1e6)]  # of a Beta distribution, whose draws overflow far above
Ratio = Annotated[float, Bounds(low=-100.0, high=100.0)]  # dB


@dataclass(frozen=True, kw_only=True)
class Testing:
    """[testing]: a short trial on a part of the data, or on synthetic birds where there are no data."""

    # true: a short trial on a part of the data, or on synthetic birds where there are none; false: all of the data
    testing: bool = False
    # recordings of a trial: whole classes, the largest first and at least two, until there are this many
    data_samples_for_testing: Count = 120


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """[callbacks]: what is recorded about a run, and where."""

    # trackers that also receive settings and scores: tensorboard, neptune, or both separated by a comma
    trackers: str = ""
    neptune_logger: bool = False  # true: send settings and scores to Neptune too
    # offline (into the run folder, no account needed), online or debug
    neptune_mode: Literal["offline", "online", "debug"] = "offline"
    neptune_project: str = ""  # workspace/name; needed for online
    # the environment variable NEPTUNE_API_TOKEN is the better place for it; it is never written to a run
    neptune_token: str = field(default="", repr=False)
    # true: keep the best epoch as best.pt; false: keep only last.pt, which is then scored
    model_checkpoint: bool = True
    # the score that decides which epoch is best: val_loss, val_macro_auc, val_top1 or val_cmap
    model_checkpoint_type: str = "val_macro_auc"
    model_checkpoint_verbose: bool = True  # true: log a line for each new best epoch

    @property
    def tracker_names(self) -> list[str]:
        """The names in ``trackers``, and neptune where ``neptune_logger`` asks for it, each once."""
        names = [name.strip() for name in self.trackers.split(",") if name.strip()]
        return list(dict.fromkeys(names + ["neptune"] * self.neptune_logger))


@dataclass(frozen=True, kw_only=True)
class Paths:
    """[paths]: the folders of the project."""

    data_dir: Path = Path("data")  # the recordings and their labels; docs/data.md shows which layouts are read
    runs_dir: Path = Path("runs")  # each run makes a folder of its own in it
    demo_dir: Path = Path("demo")  # synthetic birds, which a trial makes when it finds no data


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """[trainer]: the training loop."""

    # the same seed gives the same run (on a CPU to the last digit)
    seed: Annotated[int, Bounds(low=0, high=2**31 - 1)] = 1
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # auto (a GPU where there is one), cpu, cuda or mps
    batch_size_train: Count = 16  # windows in a batch of training, over all processes together
    batch_size_val: Count = 64  # windows in a batch of validation
    batch_size_test: Count = 64  # windows in a batch of the test
    num_workers: CountOrNone = 0  # processes that read batches; 0: the main process reads, which is enough for a CPU
    # passes over the training windows; a last batch that is not full is left out. With augment_random_crop a pass
    # has crops_per_segment windows of each segment
    n_epochs: Count = 24
    # batches whose gradients are added up for one step; raise it when a large batch does not fit in memory
    accumulate: Count = 1
    grad_clip: NotNegative = 5.0  # largest norm of the gradient; 0: no limit
    # decay of a moving average of the weights in each step, such as 0.999; the average is then scored; 0: no average
    ema: Annotated[float, Bounds(low=0.0, high=0.99999)] = 0.0
    average_last: CountOrNone = 0  # score the mean of the weights of this many last epochs; 0: no mean
    early_stop: CountOrNone = 0  # stop after this many epochs without a better model_checkpoint_type; 0: never
    amp: bool = True  # mixed precision on a GPU: bf16, or fp16 on a GPU without it
    # bf16 on a CPU that computes it in hardware (AVX-512 BF16, AMX): faster for full convolutions, as in a ResNet, but
    # not for depthwise ones, as in a MobileNet
    amp_on_cpu: bool = False
    # torch.compile: takes a minute or more at the start for steps that may be faster on a GPU; on the CPU that was
    # tried they were not
    compile: bool = False
    # true: equal runs on a GPU too, which costs speed; on a CPU equal runs are always equal
    deterministic: bool = False
    # keep all spectrograms in GPU memory: yes, no, or auto (if they take at most half of what is free)
    cache_on_device: Literal["auto", "yes", "no"] = "auto"
    save_every_minutes: NotNegative = 10.0  # minutes between saves within an epoch; 0: save only when an epoch ends
    max_minutes: NotNegative = 0.0  # save and stop after this many minutes; 0: no limit


@dataclass(frozen=True, kw_only=True)
class Agent:
    """[agent]: the loss, the optimizer and the learning rate.

    ``lr_warmup_end`` is the highest rate of every schedule, and the constant rate without lr_decay.
    """

    loss: str = "bce"  # bce (each species on its own), cross_entropy (species compete) or focal
    # focal: the weight of species that are present against those that are absent; below 0: no weight
    focal_alpha: Annotated[float, Bounds(low=-1.0, high=1.0)] = 0.25
    focal_gamma: NotNegative = 2.0  # focal: how strongly the loss of confident right answers is reduced; 0: not at all
    optimizer: str = "adamw"  # adam, adamw, sgd or radam
    # pulls the weights, but not biases and norms, towards 0; adam and sgd add it to the gradient and need 0 to 0.0001
    weight_decay: NotNegative = 0.05
    lr_decay: bool = True  # false: the rate is lr_warmup_end throughout
    lr_decay_type: str = "warmup_cosine"  # warmup_cosine, cosine, exponential, plateau or one_cycle
    lr_start: NotNegative = 0.0001  # first rate of warmup_cosine and one_cycle
    # highest rate of every schedule, and the constant rate without lr_decay; the recipes use 0.001 to 0.003, and 0.0001
    # for wav2vec2_base; sgd needs about 0.1
    lr_warmup_end: Positive = 0.002
    lr_end: NotNegative = 0.00001  # last rate of warmup_cosine, cosine and one_cycle
    # epochs from lr_start to lr_warmup_end (warmup_cosine); a run that is no longer than this has a tenth of its epochs
    lr_warmup_epochs: NotNegative = 2.0
    # the learning rate of the backbone, as a multiple of the head's
    backbone_lr_factor: Annotated[float, Bounds(above=0.0, high=1.0)] = 1.0
    # exponential: the rate is multiplied by this after each epoch
    exp_gamma: Annotated[float, Bounds(above=0.0, high=1.0)] = 0.9
    # plateau: the rate is multiplied by this when val_loss stops improving
    plateau_factor: Annotated[float, Bounds(above=0.0, high=0.99)] = 0.5
    plateau_patience: CountOrNone = 3  # plateau: epochs without a better val_loss before the rate is lowered
    lr_verbose: bool = False  # true: log the rate of each epoch


@dataclass(frozen=True, kw_only=True)
class Model:
    """[model]: the network."""

    # an image model of timm, a network on the waveform, or an encoder; docs/recipes.md names some
    type: str = "mobilenetv3_small_100"
    transfer_learning: bool = True  # true: start from pretrained weights (weights_path, else a download)
    # weights to start from: a file of timm or of another port of the network (.pt, .pth, .bin, .safetensors), or
    # best.pt of a run of the same type, whatever its species
    weights_path: Path | None = None
    # default (the network's own), gem (generalised mean with a learned exponent) or sed (attention over the scores of
    # frames); on encoders linear (the default) or mlp
    head: str = "default"
    encoder_sample_rate: CountOrNone = 0  # type = encoder: the sample rate in Hz that the file of weights_path expects
    encoder_window_s: NotNegative = 0.0  # type = encoder: the length in seconds of the window that it expects
    # type = encoder: which of its outputs is the embedding, by name or number; empty: the first
    encoder_output: str = ""
    # encoders: what an example is: the mean of the embeddings of a recording's windows, their weighted mean with
    # learned weights (attention), or each window on its own (windows)
    pool: Literal["windows", "mean", "attention"] = "mean"
    # epochs at the start in which only the head learns, and the pretrained weights and norms stay as they are; 0: none;
    # n_epochs: all
    freeze_epochs: CountOrNone = 0
    # share of the features dropped before the head in training; 0: the network's own default, mostly none
    drop_rate: Annotated[float, Bounds(low=0.0, high=0.9)] = 0.0
    # share of the blocks skipped in training; 0: the network's own default, mostly none
    drop_path: Annotated[float, Bounds(low=0.0, high=0.9)] = 0.0
    # true: a second input channel shows the network how high each mel band is
    frequency_channel: bool = False
    wav2vec_layers: CountOrNone = 0  # wav2vec2: how many layers of the transformer are used, from the first on; 0: all
    # wav2vec2: true: the convolutions before the transformer keep their pretrained weights. They are always learned
    # where they begin at random, and in a trial without weights_path
    freeze_encoder: bool = True


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """The keys that [data] and each [source.NAME] have: how the labels of recordings are written down."""

    # how data_dir holds recordings and labels: auto (detected and reported), birdclef, folders (one for each species),
    # table (any CSV, TSV or Parquet) or annotations (Raven, Audacity); docs/data.md shows each
    layout: Literal["auto", "birdclef", "folders", "table", "annotations"] = "auto"
    # layout = table: the file, where data_dir holds several tables or none; folders, annotations: the file that
    # describes the recordings (recordist, place, split)
    table: Path | None = None
    columns: str = ""  # your own names of columns, such as label: species, start: begin
    label: str = ""  # the label of every recording that no table labels
    label_from: str = ""  # folder:N: the label is the name of the N-th folder below data_dir
    negative_folders: str = "negative"  # recordings below a folder of this name are false alarms, without any species
    label_map: Path | None = None  # CSV with the columns old,new; it may join labels, and an empty new drops one
    filter: str = ""  # which recordings are used, by column, such as rating >= 3, collection = XC
    # what a species is where an annotated recording has no annotation of it: absent, unknown (ignored by the loss), or
    # left_out (windows without annotations are not used for training)
    unannotated: Literal["absent", "unknown", "left_out"] = "absent"
    # the only species that were annotated, such as robin;wren, so that all others are unknown; empty: all species were
    # annotated. A column annotated_for sets it for each recording
    annotated_for: str = ""
    time_expansion: Positive = 1.0  # how many times slower the files play than the original sound; 10 for many bats


@dataclass(frozen=True, kw_only=True)
class Source(_Layout):
    """[source.NAME]: one of several sources that together make the data set, in place of data_dir of [paths].

    The ``filename`` of its recordings begins with ``NAME/``. Its keys mean what they mean in [data], for this source
    alone.
    """

    data_dir: Path | None = None  # the folder of its recordings
    weight: Positive = 1.0  # how often its training windows are used; 2: twice as often as others


@dataclass(frozen=True, kw_only=True)
class Data(_Layout):
    """[data]: how recordings are found, where prepared ones are kept, and how they are divided."""

    # a window has a label if at least this many seconds of an annotation, or half of the annotation, lie in it
    min_overlap_s: Positive = 0.25
    # training windows without a label that are used for each window with one (annotated recordings)
    empty_windows: NotNegative = 1.0
    # the cache of spectrograms: a folder for each choice of [data_process]
    output_dir: Path = Path("cache/spectrograms")
    hash_path: Path = Path("cache/last_key")  # a file that holds the name of the cache folder last prepared
    num_workers: Count = 2  # workers that prepare recordings
    multi_threading: bool = False  # true: those workers are threads; false: processes
    # where those workers run: local, or dask (a cluster at DASK_SCHEDULER_ADDRESS), which must be installed
    backend: Literal["local", "dask"] = "local"
    # recordings that occur more than once, found by content: keep (in the same subset) or drop; listed in
    # duplicates.csv
    duplicates: Literal["keep", "drop"] = "keep"
    min_samples_in_class: Count = 5  # good recordings that a class needs; smaller classes are left out
    # share of the recordings to train on; 1.0: all, and there are no scores
    train_ratio: Annotated[float, Bounds(above=0.0, high=1.0)] = 0.7
    test_val_ratio: Share = 0.5  # share of the rest that is the test set; what is left validates
    # divide the recordings into this many folds, the same for every seed, in place of the two shares above; 0: no folds
    folds: CountOrNone = 0
    # which fold is the test set; all others train and none validates, so the last epoch is scored
    fold: Count = 1
    # recordings that must stay in one subset: those of one group (recordist and place, or group_id), author, folder or
    # file
    group_by: Literal["group", "author", "folder", "file"] = "group"
    # use only this many training recordings of each class, drawn by the seed, to learn what fewer would give; 0: all
    train_per_class: CountOrNone = 0
    # share of each class's training recordings that is used, the quietest first; 1.0: all
    keep_quietest: Annotated[float, Bounds(above=0.0, high=1.0)] = 1.0
    # how much more often windows of small classes are used; 0: each once in an epoch; 0.5: drawn with the probability
    # (windows of their class)^-0.5; 1: all classes equally often
    balance_power: Share = 0.0
    # recordings of a class with fewer training recordings than this are repeated until there are this many; 0: no
    rare_to: CountOrNone = 0
    # a class with more training recordings than this gives only as many windows as this many would, and other windows
    # in each epoch; 0: all
    class_cap: CountOrNone = 0
    # augment_random_crop: a longer recording is cut into segments of equal length, each at most this long
    segment_max_s: Seconds = 60.0
    crops_per_segment: Count = 1  # augment_random_crop: windows of each segment in an epoch
    shuffle: bool = True  # true: a new training order each epoch; false: the order of the table in every epoch
    # the model's input is standardised over the window or over the whole recording
    standardize_over: Literal["window", "recording"] = "window"
    min_recording_s: NotNegative = 0.5  # seconds; a shorter recording is a bad one
    max_bad_share: Share = 0.1  # preparing stops when more than this share of the recordings is bad


@dataclass(frozen=True, kw_only=True)
class Labels:
    """[labels]: what the labels of the table mean in training. Scores always use the species in the foreground only."""

    # species in the background: ignore (absent), mask (unknown: ignored by the loss), soft or hard (present)
    secondary: Literal["ignore", "mask", "soft", "hard"] = "ignore"
    # soft: the target of species in the background; hard gives them the target of the foreground
    secondary_weight: Annotated[float, Bounds(above=0.0, high=1.0)] = 0.3
    # target of the species in the foreground
    primary_weight: Annotated[float, Bounds(above=0.0, high=1.0)] = 1.0
    # share of the targets that is spread evenly over all classes (label smoothing)
    smoothing: Annotated[float, Bounds(low=0.0, high=0.9)] = 0.0
    # recordings labelled nocall: true: they are a class of their own; false: they are examples without any species
    nocall: bool = False


@dataclass(frozen=True, kw_only=True)
class DataProcess:
    """[data_process]: how a waveform becomes a log-mel image.

    A field here changes the cached arrays and so the cache key, except max_length_s and mode,
    which choose windows. Worker counts and paths live elsewhere.
    """

    # Hz; recordings are resampled to this rate, and what is above half of it is lost (bats need 256000, and
    # hop_length, n_fft, f_min and f_max to match)
    sample_rate: Annotated[int, Bounds(low=1000)] = 32_000
    # mel bands; fewer are coarser and faster: from random weights on a few hundred recordings 48 did better
    n_mels: Count = 128
    n_fft: Annotated[int, Bounds(low=16)] = 1024  # samples that a frame is computed from
    hop_length: Count = 500  # samples from frame to frame; 500 at 32 kHz: 64 frames a second
    f_min: NotNegative = 40.0  # Hz, lower end of the lowest band
    f_max: Positive = 15_000.0  # Hz, upper end of the highest band; at most half of sample_rate
    max_length_s: Seconds = 5.0  # seconds of a window: what the model sees at once
    # slice: windows one after another; single: only the first of each recording (predict.py scores all of them)
    mode: Literal["slice", "single"] = "slice"
    # per_frequency (each band over time), per_clip (all bands together) or none
    standardize: Literal["per_frequency", "per_clip", "none"] = "per_frequency"
    # dB re full scale; everything below is set to this
    floor_db: Annotated[float, Bounds(low=-200.0, high=0.0)] = -100.0
    # dB; a band that varies less is divided by this, so that codec noise is not amplified; 10 in configs/small_cpu.ini
    min_deviation_db: Positive = 3.0
    # seconds read of a recording to train and score; 0: all (predict.py always reads all of it)
    max_recording_s: Annotated[float, Bounds(low=0.0, high=1e6)] = 0.0


CHOOSES_WINDOWS = frozenset({"max_length_s", "mode"})  # fields of DataProcess that are not in the cache key


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """[augmentation]: changes to training windows. A key that ends in _p is the chance of a window to be changed.

    A background is added to the power before standardising; all else changes images, whose unit is a band's standard
    deviation. Between a min and a max, values are drawn evenly.
    """

    data_augmentation: bool = True  # false switches all of this section off; [mixing] has its own switches
    # true: windows start anywhere in a recording, others in each epoch, as in all recipes of configs/; false: as mode
    # of [data_process] says
    augment_random_crop: bool = False
    background_p: Share = 0.0  # add a segment of the recordings in background_dir, such as wind, rain and streams
    background_dir: Path | None = None  # any folder with sound files; they are read when training starts
    # minutes of them that are kept in memory, about 1 MB each; the rest is not read
    background_minutes: Annotated[float, Bounds(low=0.1)] = 60.0
    background_min_snr_db: Ratio = 3.0  # dB of the window above the background, at least
    background_max_snr_db: Ratio = 30.0  # dB of the window above the background, at most
    augment_add_noise: bool = True  # white noise on the image
    # largest standard deviation of that noise, in deviations of a band (in dB where standardize = none)
    noise_max_deviation: Annotated[float, Bounds(low=0.0, high=1000.0)] = 0.5
    augment_spec_augment: bool = True  # hide stretches of time and of frequency (SpecAugment)
    time_masks: CountOrNone = 3  # stretches of time that are hidden in a window
    time_mask_max_s: Annotated[float, Bounds(above=0.0, high=3600.0)] = 1.0  # seconds of the longest stretch
    frequency_masks: CountOrNone = 3  # stretches of frequency that are hidden in a window
    frequency_mask_max_bands: Count = 24  # bands of the widest stretch
    xy_masks_p: Share = 0.0  # hide stretches whose number is drawn for each window (XY masking)
    xy_time_masks: CountOrNone = 12  # stretches of time: from 1 to this many; 0: none
    xy_frequency_masks: CountOrNone = 3  # stretches of frequency: from 1 to this many; 0: none
    xy_mask_min: Count = 8  # frames or bands of the narrowest stretch
    xy_mask_max: Count = 16  # frames or bands of the widest stretch

    @property
    def crops(self) -> bool:
        """Whether training windows begin anywhere in a recording."""
        return self.data_augmentation and self.augment_random_crop

    @property
    def adds_background(self) -> bool:
        return self.data_augmentation and self.background_p > 0


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """[mixing]: two training windows become one. A key that ends in _p is the chance of a window to be mixed.

    The partner's share of a mixture is drawn from Beta(alpha, alpha). Labels are ``max`` (both windows' labels count in
    full) or ``linear`` (they are weighted by the shares, which suits cross_entropy).
    """

    # add the partner's sound, on power before standardising; the labels of both windows count in full
    power_mix_p: Share = 0.0
    # alpha for the partner's share of the power; 4: within about 3 dB of the loudness in the recordings; large: exactly
    # as loud as in the recordings
    power_mix_alpha: Alpha = 4.0
    mixup_p: Share = 0.0  # weighted mean of the two standardised images
    # alpha for the partner's share; large: half and half, which suits labels = max; 1: any share alike; 0.4: mostly one
    # of the two windows, which suits linear
    mixup_alpha: Alpha = 4.0
    # max (both count in full) or linear (weighted by share; for cross_entropy)
    mixup_labels: Literal["max", "linear"] = "max"
    cutmix_p: Share = 0.0  # replace a stretch of time by that of the partner (horizontal CutMix)
    cutmix_alpha: Alpha = 1.0  # alpha for the share of the window that is replaced; 1: any share alike
    cutmix_labels: Literal["max", "linear"] = "linear"  # max or linear, as for mixup


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every setting, by section. A field has the name of its section."""

    testing: Testing = Testing()
    callbacks: Callbacks = Callbacks()
    paths: Paths = Paths()
    trainer: TrainerSettings = TrainerSettings()
    agent: Agent = Agent()
    model: Model = Model()
    data: Data = Data()
    labels: Labels = Labels()
    data_process: DataProcess = DataProcess()
    augmentation: Augmentation = Augmentation()
    mixing: Mixing = Mixing()
    sources: tuple[tuple[str, Source], ...] = ()  # name and settings of each [source.NAME]
    file: Path | None = field(default=None, compare=False)  # the file that it was read from
    written: frozenset[tuple[str, str]] = field(default=frozenset(), compare=False)  # (section, key) given by the user

    def section(self, name: str) -> Any:
        """The section of this name; a section ``source.NAME`` that is not there has the defaults."""
        if name.startswith(SOURCE):
            return dict(self.sources).get(name.removeprefix(SOURCE), Source())
        return getattr(self, name)

    @property
    def section_names(self) -> list[str]:
        return [*SECTIONS, *(SOURCE + name for name, _ in self.sources)]


SOURCE_NAME = re.compile(r"[A-Za-z0-9][\w-]*")  # filenames begin with it, and a folder of the cache has this name
SECTIONS: Mapping[str, type] = {
    section.name: section.type for section in fields(Config) if section.name not in ("sources", "file", "written")
}
KEYS: Mapping[str, Mapping[str, Any]] = {
    name: typing.get_type_hints(cls, include_extras=True) for name, cls in SECTIONS.items()
}
SOURCE_KEYS: Mapping[str, Any] = typing.get_type_hints(Source, include_extras=True)
SECRETS = frozenset({("callbacks", "neptune_token")})  # never written anywhere


def as_text(value: Any) -> str:
    """The value of a setting as it is written in a file."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)
