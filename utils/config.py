"""The settings: one typed, frozen class a section. The only file that knows INI.

Text stops here. ``load_config`` turns a file and its overrides into a ``Config`` whose every value
has the type its field names, or reports everything that is wrong with it at once.
"""

import configparser
import functools
import logging
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from utils.config_checks import SOURCE, contradictions, give_way
from utils.config_history import update
from utils.errors import ConfigError, Problem, unknown

log = logging.getLogger(__name__)

OVERRIDE = "--set"  # the source of a setting of the command line


@dataclass(frozen=True)
class Bounds:
    """The legal range of a number, both ends included unless ``above`` is used."""

    low: float | None = None
    high: float | None = None
    above: float | None = None

    def complaint(self, value: float) -> str | None:
        """What is wrong with ``value``; None if nothing is."""
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
Seconds = Annotated[float, Bounds(above=0.0, high=1e6)]  # of sound: above 11 days, samples are more than can be counted
Alpha = Annotated[float, Bounds(above=0.0, high=1e6)]  # of a Beta; far above, its draws overflow
Gain = Annotated[float, Bounds(above=0.0, high=100.0)]  # dB; far above, float32 ends
Ratio = Annotated[float, Bounds(low=-100.0, high=100.0)]  # dB


@dataclass(frozen=True, kw_only=True)
class Testing:
    """[testing]: a short trial on a part of the data, or on the demo when there is no data."""

    # true: a short trial on a part of the data, or on synthetic birds where there are none; false: all of the data
    testing: bool = False
    # recordings: whole classes, largest first and at least two, until there are that many
    data_samples_for_testing: Count = 120


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """[callbacks]: what is recorded about a run, and where."""

    trackers: str = ""  # that also get settings and scores: tensorboard, neptune; several with commas
    neptune_logger: bool = False  # true: send settings and scores to Neptune too
    # offline (into the run folder, no account needed), online or debug
    neptune_mode: Literal["offline", "online", "debug"] = "offline"
    neptune_project: str = ""  # workspace/name; needed for online
    # better given as the environment variable NEPTUNE_API_TOKEN; never written to a run
    neptune_token: str = field(default="", repr=False)
    model_checkpoint: bool = True  # true: keep the best epoch as best.pt; false: only last.pt, which is then scored
    # the score that decides which is best: val_loss, val_macro_auc, val_top1 or val_cmap
    model_checkpoint_type: str = "val_macro_auc"
    model_checkpoint_verbose: bool = True  # true: a line for each new best

    @property
    def tracker_names(self) -> list[str]:
        """Of ``trackers``, and neptune where ``neptune_logger`` asks for it; each once."""
        names = [name.strip() for name in self.trackers.split(",") if name.strip()]
        return list(dict.fromkeys(names + ["neptune"] * self.neptune_logger))


@dataclass(frozen=True, kw_only=True)
class Paths:
    """[paths]: folders of the project."""

    data_dir: Path = Path("data")  # the recordings and their labels; docs/data.md shows which layouts are read
    runs_dir: Path = Path("runs")  # each run makes a folder of its own in it
    demo_dir: Path = Path("demo")  # synthetic birds, made when testing finds no data


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """[trainer]: the loop."""

    # the same seed gives the same run (on a CPU to the last digit)
    seed: Annotated[int, Bounds(low=0, high=2**31 - 1)] = 1
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"  # auto (a GPU where there is one), cpu, cuda or mps
    batch_size_train: Count = 16  # windows a batch, over all processes together
    batch_size_val: Count = 64  # windows at once in validation
    batch_size_test: Count = 64  # windows at once in the test
    num_workers: CountOrNone = 0  # processes that read batches; 0: the main process reads, enough for a CPU
    # an epoch is every training window once, but for a last batch that is not full; with augment_random_crop,
    # crops_per_segment windows of each segment
    n_epochs: Count = 24
    accumulate: Count = 1  # batches whose gradients make one step, when a large batch does not fit in memory
    grad_clip: NotNegative = 5.0  # largest norm of the gradient; 0: no limit
    # decay a step of an average of the weights, such as 0.999, which is then scored; 0: none
    ema: Annotated[float, Bounds(low=0.0, high=0.99999)] = 0.0
    average_last: CountOrNone = 0  # score the mean of the weights of the last epochs, this many; 0: none
    early_stop: CountOrNone = 0  # stop after this many epochs without a better model_checkpoint_type; 0: never
    amp: bool = True  # mixed precision on a GPU: bf16, or fp16 where that is missing
    # bf16 on a CPU with units for it (AVX-512 BF16, AMX): faster for full convolutions, as ResNet's; not for
    # depthwise ones, as MobileNet's
    amp_on_cpu: bool = False
    # torch.compile: a minute or more at the start, for steps that may be faster on a GPU; on the CPU that was tried
    # they were not
    compile: bool = False
    deterministic: bool = False  # equal runs on a GPU too, at a cost in speed; on a CPU runs are always equal
    # keep all spectrograms in GPU memory: yes, no, or auto (if they take at most half of what is free)
    cache_on_device: Literal["auto", "yes", "no"] = "auto"
    save_every_minutes: NotNegative = 10.0  # minutes between saves within an epoch; 0: save at its end only
    max_minutes: NotNegative = 0.0  # minutes after which to save and stop; 0: no limit


@dataclass(frozen=True, kw_only=True)
class Agent:
    """[agent]: what is minimised, by what, at which rate.

    ``lr_warmup_end`` is the peak rate of every schedule, and the constant one without lr_decay.
    """

    loss: str = "bce"  # bce (each species on its own), cross_entropy (species compete) or focal
    # focal: weight of the birds that are there against those that are not; below 0: none
    focal_alpha: Annotated[float, Bounds(low=-1.0, high=1.0)] = 0.25
    focal_gamma: NotNegative = 2.0  # focal: how much what is right already is turned down; 0: not at all
    optimizer: str = "adamw"  # adam, adamw, sgd or radam
    # pull of the weights towards 0, not of biases and norms; adam and sgd add it to the gradient, and want 0 to
    # 0.0001
    weight_decay: NotNegative = 0.05
    lr_decay: bool = True  # false: lr_warmup_end throughout
    lr_decay_type: str = "warmup_cosine"  # warmup_cosine, cosine, exponential, plateau or one_cycle
    lr_start: NotNegative = 0.0001  # first rate of warmup_cosine and one_cycle
    # highest rate of every schedule, and the constant one; the recipes in configs/ take 0.001 to 0.003, for
    # wav2vec2_base 0.0001; sgd wants about 0.1
    lr_warmup_end: Positive = 0.002
    lr_end: NotNegative = 0.00001  # last rate of warmup_cosine, cosine and one_cycle
    # epochs from lr_start to lr_warmup_end (warmup_cosine); a tenth of a run that is no longer than this
    lr_warmup_epochs: NotNegative = 2.0
    backbone_lr_factor: Annotated[float, Bounds(above=0.0, high=1.0)] = (
        1.0  # rate of all but the head, times the head's
    )
    # exponential: the rate is multiplied by this after each epoch
    exp_gamma: Annotated[float, Bounds(above=0.0, high=1.0)] = 0.9
    # plateau: the rate is multiplied by this when val_loss gets no better ...
    plateau_factor: Annotated[float, Bounds(above=0.0, high=0.99)] = 0.5
    plateau_patience: CountOrNone = 3  # ... for more than this many epochs
    lr_verbose: bool = False  # true: print the rate at each epoch


@dataclass(frozen=True, kw_only=True)
class Model:
    """[model]: the network."""

    type: str = "mobilenetv3_small_100"  # a model of timm, of the waveform, or an encoder; see docs/recipes.md
    transfer_learning: bool = True  # start from pretrained weights (weights_path, else a download)
    # weights to start from: a file of timm's or of another port of the network (.pt, .pth, .bin, .safetensors), or
    # best.pt of a run of the same type, whatever its species
    weights_path: Path | None = None
    # the network's own, gem (generalised mean, p learned) or sed (attention over scores of frames); of encoders linear
    # (the default) or mlp
    head: str = "default"
    encoder_sample_rate: CountOrNone = 0  # type = encoder: Hz that the file of weights_path hears
    encoder_window_s: NotNegative = 0.0  # type = encoder: seconds that it hears at once
    # type = encoder: which of its outputs is the embedding, by name or number; empty: the first
    encoder_output: str = ""
    # encoders: an example, and an answer, is the mean of the embeddings of a recording's windows, their attention
    # (learned), or windows, each on its own
    pool: Literal["windows", "mean", "attention"] = "mean"
    # the first epochs, in which only the head learns and the pretrained weights and norms stay as they are; 0: none,
    # n_epochs: all
    freeze_epochs: CountOrNone = 0
    # share of the features dropped before the head in training; 0: the network's own default, mostly none
    drop_rate: Annotated[float, Bounds(low=0.0, high=0.9)] = 0.0
    # share of the blocks skipped in training; 0: the network's own default, mostly none
    drop_path: Annotated[float, Bounds(low=0.0, high=0.9)] = 0.0
    frequency_channel: bool = False  # true: the network also sees how high each band is, as a second channel
    wav2vec_layers: CountOrNone = 0  # wav2vec2: layers of the transformer that are kept, from the input on; 0: all
    # wav2vec2: the convolutions before the transformer keep their pretrained weights; random ones, and downloaded
    # ones of a trial, are learned
    freeze_encoder: bool = True


@dataclass(frozen=True, kw_only=True)
class Source:
    """[source.NAME]: one of several sources that make one data set, in place of the one data_dir of [paths].

    ``filename`` begins with ``NAME/`` then. The keys are those of [data] of the same names, for this source alone.
    """

    data_dir: Path | None = None  # the folder of its recordings
    layout: Literal["auto", "birdclef", "folders", "table", "annotations"] = "auto"  # how its labels are written down
    # layout = table: the file, where data_dir holds several tables or none; folders, annotations: the file that
    # describes the recordings (recordist, place, split)
    table: Path | None = None
    columns: str = ""  # own names of columns, such as label: species, start: begin
    label: str = ""  # the label of everything that no table gives one
    label_from: str = ""  # folder:N: the label is the name of the N-th folder below data_dir
    negative_folders: str = "negative"  # a folder of this name anywhere on the way marks false alarms
    label_map: Path | None = None  # CSV of old,new; several to one; an empty new drops the label
    filter: str = ""  # recordings that are used, by column, such as rating >= 3, collection = XC
    unannotated: Literal["absent", "unknown", "left_out"] = "absent"  # what an annotated recording does not annotate
    annotated_for: str = ""  # the only species that were looked for, such as robin;wren; a column goes before it
    time_expansion: Positive = 1.0  # how many times slower the files play than what was recorded; 10 for many bats
    weight: Positive = 1.0  # how often its training windows come: 2 is twice as often as others


@dataclass(frozen=True, kw_only=True)
class Data:
    """[data]: how the recordings are found, where prepared ones are kept, and how they are divided."""

    # how data_dir holds recordings and labels: auto (found out and said), birdclef, folders (one for each species),
    # table (any CSV, TSV or Parquet) or annotations (Raven, Audacity); docs/data.md shows each
    layout: Literal["auto", "birdclef", "folders", "table", "annotations"] = "auto"
    # layout = table: the file, where data_dir holds several tables or none; folders, annotations: the file that
    # describes the recordings (recordist, place, split)
    table: Path | None = None
    columns: str = ""  # own names of columns, such as label: species, start: begin
    label: str = ""  # the label of everything that no table gives one
    label_from: str = ""  # folder:N: the label is the name of the N-th folder below data_dir
    negative_folders: str = "negative"  # a folder of this name anywhere on the way marks false alarms
    label_map: Path | None = None  # CSV of old,new; several to one; an empty new drops the label
    filter: str = ""  # recordings that are used, by column, such as rating >= 3, collection = XC
    # what is not annotated in an annotated recording is absent, unknown (no part in the loss), or left_out of training
    unannotated: Literal["absent", "unknown", "left_out"] = "absent"
    # the only species that were looked for, such as robin;wren: whether others are there is not known; empty: all of
    # them were; a column annotated_for says it for each recording
    annotated_for: str = ""
    time_expansion: Positive = 1.0  # how many times slower the files play than what was recorded; 10 for many bats
    min_overlap_s: Positive = 0.25  # a window has a label if so many seconds of an annotation, or half of it, lie in it
    empty_windows: NotNegative = 1.0  # training windows of an annotated recording without a label, for each with one
    # the cache of spectrograms: one folder for each choice of data_process settings
    output_dir: Path = Path("cache/spectrograms")
    hash_path: Path = Path("cache/last_key")  # a file that holds the name of the folder last prepared
    num_workers: Count = 2  # workers that prepare recordings
    multi_threading: bool = False  # true: those workers are threads; false: processes
    # where they run: local, or dask (DASK_SCHEDULER_ADDRESS), which needs to be installed
    backend: Literal["local", "dask"] = "local"
    # copies of a recording, found by content: keep (on one side of the split) or drop; listed in duplicates.csv
    duplicates: Literal["keep", "drop"] = "keep"
    min_samples_in_class: Count = 5  # good recordings; a class with fewer is left out
    # share of the recordings to train on; 1.0: all, and no scores
    train_ratio: Annotated[float, Bounds(above=0.0, high=1.0)] = 0.7
    test_val_ratio: Share = 0.5  # share of the rest that is the test set; what is left validates
    # deal the recordings into this many folds instead, the same for every seed; 0: the two shares above
    folds: CountOrNone = 0
    fold: Count = 1  # the fold that is the test set; all others train, and nothing validates: the last epoch is scored
    # what stays on one side of the split: group (recordist and place, or group_id) or author
    group_by: Literal["group", "author", "folder", "file"] = "group"
    # training recordings of each class that are used, drawn by the seed, to see what fewer would give; 0: all
    train_per_class: CountOrNone = 0
    # share of each class's training recordings that is kept, the quietest ones; 1.0: all
    keep_quietest: Annotated[float, Bounds(above=0.0, high=1.0)] = 1.0
    # how much more often windows of small classes come, 0 to 1; 0: each once; 0.5: drawn by (windows of their
    # class)^-0.5; 1: all classes alike
    balance_power: Share = 0.0
    # a class with fewer training recordings has them repeated until there are this many; 0: no
    rare_to: CountOrNone = 0
    # a class with more training recordings gives an epoch as many windows as this many of them would, others each
    # time; 0: all
    class_cap: CountOrNone = 0
    segment_max_s: Seconds = (
        60.0  # augment_random_crop: a longer recording is cut into equal segments, at most this long
    )
    crops_per_segment: Count = 1  # augment_random_crop: windows that a sample gives an epoch
    shuffle: bool = True  # true: a new training order each epoch; false: that of the table, over and over
    # what the model sees is standardised over the window or the whole recording
    standardize_over: Literal["window", "recording"] = "window"
    min_recording_s: NotNegative = 0.5  # seconds; a shorter recording is a bad one
    max_bad_share: Share = 0.1  # share of bad recordings above which preparing stops


@dataclass(frozen=True, kw_only=True)
class Labels:
    """[labels]: what the table's labels mean in training. Scores always ask for the foreground alone."""

    # species in the background: ignore (absent), mask (not known: no part in the loss), soft or hard (present)
    secondary: Literal["ignore", "mask", "soft", "hard"] = "ignore"
    # soft: their target; hard gives them that of the foreground
    secondary_weight: Annotated[float, Bounds(above=0.0, high=1.0)] = 0.3
    # target of the species in the foreground, above 0 to 1
    primary_weight: Annotated[float, Bounds(above=0.0, high=1.0)] = 1.0
    # share of the targets that is spread evenly over all classes (label smoothing)
    smoothing: Annotated[float, Bounds(low=0.0, high=0.9)] = 0.0
    nocall: bool = False  # recordings labelled nocall: true: a class of its own; false: examples without any species


@dataclass(frozen=True, kw_only=True)
class DataProcess:
    """[data_process]: how a waveform becomes a log-mel image.

    A field here changes the cached arrays and so the cache key, except max_length_s and mode,
    which choose windows. Worker counts and paths live elsewhere.
    """

    # Hz; recordings are resampled to this, and what is above half of it is lost (bats want 256000, and hop_length,
    # n_fft, f_min, f_max to match)
    sample_rate: Annotated[int, Bounds(low=1000)] = 32_000
    # bands; fewer are coarser and faster: from random weights on a few hundred recordings 48 did better
    n_mels: Count = 128
    n_fft: Annotated[int, Bounds(low=16)] = 1024  # samples a frame is computed from
    hop_length: Count = 500  # samples from frame to frame; 500 at 32 kHz: 64 frames a second
    f_min: NotNegative = 40.0  # Hz, lower end of the lowest band
    f_max: Positive = 15_000.0  # Hz, upper end of the highest band; at most half of sample_rate
    max_length_s: Seconds = 5.0  # seconds a window: what the model sees at once
    # slice: windows one after another; single: only the first of a recording (predict.py scores all of it)
    mode: Literal["slice", "single"] = "slice"
    # per_frequency (each band over time), per_clip (all bands together) or none
    standardize: Literal["per_frequency", "per_clip", "none"] = "per_frequency"
    # dB re full scale; everything below is set to this
    floor_db: Annotated[float, Bounds(low=-200.0, high=0.0)] = -100.0
    # dB; a band that varies less is divided by this, so that codec noise is not blown up; 10 in configs/small_cpu.ini
    min_deviation_db: Positive = 3.0
    # seconds read of a recording to train and score; 0: all (predict.py reads all of it)
    max_recording_s: Annotated[float, Bounds(low=0.0, high=1e6)] = 0.0


CHOOSES_WINDOWS = frozenset({"max_length_s", "mode"})  # fields of DataProcess outside the cache key


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """[augmentation]: changes to training windows. Each ``p`` is the chance of a window to be changed.

    The first group changes power before standardising, in the order of its keys; the second changes
    images, whose unit is a band's standard deviation. min and max: drawn evenly between them.
    """

    data_augmentation: bool = True  # false switches all of this section off; [mixing] has switches of its own
    # true: windows from anywhere in a recording, others each epoch, as all recipes in configs/ have it; false: as
    # mode of [data_process] says
    augment_random_crop: bool = False
    eq_p: Share = 0.0  # random equaliser (FilterAugment)
    eq_max_db: Gain = 6.0  # dB, the largest gain up or down
    gain_p: Share = 0.0  # louder or softer
    gain_max_db: Gain = 12.0  # dB, the largest gain up or down
    background_p: Share = 0.0  # add a piece of the recordings in background_dir, such as wind, rain and streams
    background_dir: Path | None = None  # any folder with sound files; they are read when training starts
    # minutes of them that are kept in memory, about 1 MB each; the rest is not read
    background_minutes: Annotated[float, Bounds(low=0.1)] = 60.0
    background_min_snr_db: Ratio = 3.0  # dB of the window above the background, the least; drawn evenly from here ...
    background_max_snr_db: Ratio = 30.0  # ... to here
    hiss_p: Share = 0.0  # add steady noise
    # white (even power per Hz), pink (falls by 3 dB an octave) or brown (6 dB)
    hiss_colour: Literal["white", "pink", "brown"] = "pink"
    hiss_min_snr_db: Ratio = 3.0  # dB of the window above the noise, the least; drawn evenly from here ...
    hiss_max_snr_db: Ratio = 30.0  # ... to here
    time_shift_p: Share = 0.0  # move the window in time; what leaves at one end enters at the other
    time_shift_max_s: Annotated[float, Bounds(above=0.0, high=3600.0)] = 2.5  # seconds, the farthest, to and fro
    frequency_shift_p: Share = 0.0  # move the window up or down; the outermost band is repeated
    frequency_shift_max_bands: Annotated[int, Bounds(low=1, high=4096)] = 4  # bands, the farthest
    augment_add_noise: bool = True  # white noise on the image
    # its largest deviation, in deviations of a band (dB where standardize = none)
    noise_max_deviation: Annotated[float, Bounds(low=0.0, high=1000.0)] = 0.5
    augment_spec_augment: bool = True  # hide stretches of time and of frequency (SpecAugment)
    time_masks: CountOrNone = 3  # stretches of time a window
    time_mask_max_s: Annotated[float, Bounds(above=0.0, high=3600.0)] = 1.0  # seconds, the longest of them
    frequency_masks: CountOrNone = 3  # stretches of frequency a window
    frequency_mask_max_bands: Count = 24  # bands, the widest of them
    xy_masks_p: Share = 0.0  # hide stretches, of a number drawn for each window (XY masking)
    xy_time_masks: CountOrNone = 12  # stretches of time, from 1 to this; 0: none
    xy_frequency_masks: CountOrNone = 3  # stretches of frequency, from 1 to this; 0: none
    xy_mask_min: Count = 8  # frames or bands, the narrowest
    xy_mask_max: Count = 16  # frames or bands, the widest

    @property
    def crops(self) -> bool:
        """Whether windows begin anywhere."""
        return self.data_augmentation and self.augment_random_crop

    @property
    def adds_background(self) -> bool:
        return self.data_augmentation and self.background_p > 0


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """[mixing]: two training windows become one. Each ``p`` is the chance of a window to be mixed.

    The partner's share of a mixture is drawn from Beta(alpha, alpha). Labels: ``max`` (what sounds is
    there) or ``linear`` (weighted by the shares, as cross_entropy wants it).
    """

    power_mix_p: Share = 0.0  # add the partner's sound, on power before standardising; both are there then (labels max)
    # shape of the Beta that draws the partner's share of the power; 4: as loud as they were recorded, give or take 3
    # dB; large: exactly so
    power_mix_alpha: Alpha = 4.0
    mixup_p: Share = 0.0  # weighted mean of the two standardised images
    # shape of the Beta that draws the partner's share; large: half and half, as labels max wants; 1: any share alike;
    # 0.4: mostly one of the two, for linear
    mixup_alpha: Alpha = 4.0
    # max (both are there) or linear (weighted by share; for cross_entropy)
    mixup_labels: Literal["max", "linear"] = "max"
    cutmix_p: Share = 0.0  # a stretch of time is the partner's (horizontal CutMix)
    cutmix_alpha: Alpha = 1.0  # shape of the Beta that draws the share of the window; 1: any share alike
    cutmix_labels: Literal["max", "linear"] = "linear"  # max or linear, as for mixup


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every setting, by section. A field has the name of its key."""

    testing: Testing = Testing()
    callbacks: Callbacks = Callbacks()
    paths: Paths = Paths()
    trainer: Trainer = Trainer()
    agent: Agent = Agent()
    model: Model = Model()
    data: Data = Data()
    labels: Labels = Labels()
    data_process: DataProcess = DataProcess()
    augmentation: Augmentation = Augmentation()
    mixing: Mixing = Mixing()
    sources: tuple[tuple[str, Source], ...] = ()  # name and settings of each [source.NAME]
    file: Path | None = field(default=None, compare=False)  # that it was read from
    written: frozenset[tuple[str, str]] = field(default=frozenset(), compare=False)  # (section, key) given by the user

    def section(self, name: str) -> Any:
        """The section of this name, ``source.NAME`` among them; a source that is not there has its defaults."""
        if name.startswith(SOURCE):
            return dict(self.sources).get(name.removeprefix(SOURCE), Source())
        return getattr(self, name)

    @property
    def section_names(self) -> list[str]:
        return [*SECTIONS, *(SOURCE + name for name, _ in self.sources)]


SOURCE_NAME = re.compile(r"[A-Za-z0-9][\w-]*")  # it begins filenames, and is a folder of the cache
SECTIONS: Mapping[str, type] = {
    section.name: section.type for section in fields(Config) if section.name not in ("sources", "file", "written")
}
KEYS: Mapping[str, Mapping[str, Any]] = {
    name: typing.get_type_hints(cls, include_extras=True) for name, cls in SECTIONS.items()
}
_SOURCE_KEYS: Mapping[str, Any] = typing.get_type_hints(Source, include_extras=True)
SECRETS = frozenset({("callbacks", "neptune_token")})  # never written anywhere
TOKEN_VARIABLE = "NEPTUNE_API_TOKEN"

CheckChoices = Callable[[Config], Iterable[Problem]]


class _Setting(NamedTuple):
    """A value as written, and where."""

    text: str
    source: str
    folder: Path  # what a relative path is relative to


_Settings = dict[tuple[str, str], _Setting]


def load_config(path: Path | str, overrides: Sequence[str] = (), check_choices: CheckChoices | None = None) -> Config:
    """Read and check a config file.

    Args:
        path: an INI file. A key it leaves out has its class's default; a relative path in it is
            relative to its folder. A value that holds a # or ; behind a blank stands in double quotes.
        overrides: ``section.key=value``, each over the file; a relative path in one is relative to
            the current folder. The value is taken as it is, without quotes or comments.
        check_choices: names the settings that no factory knows, so that one report holds both
            kinds of problem.

    Raises:
        ConfigError: with every problem found, in the order of the file.
    """
    path = Path(path)
    problems: list[Problem] = []
    settings = _read_file(path, problems) | _read_overrides(overrides, problems)
    folder = Path(os.path.abspath(path)).parent
    try:
        _check_one_line(str(folder))  # it begins every path that is relative
    except ValueError as error:
        raise ConfigError(Problem(f"the name of its folder is {error}", source=path.name)) from None
    sections, wrong = {}, set()
    sources = {name: Source for name, _ in settings if name.startswith(SOURCE)}
    for name, cls in [*SECTIONS.items(), *sources.items()]:
        values = {key: _absolute(getattr(cls(), key), folder) for key in _keys(name)}
        for key, hint in _keys(name).items():
            if (name, key) not in settings:
                continue
            try:
                _check_one_line(settings[name, key].text)
                values[key] = _parse(settings[name, key], hint)
            except ValueError as error:
                problems.append(Problem(str(error), name, key, settings[name, key].text))
                wrong.add((name, key))
        sections[name] = cls(**values)
    if os.environ.get(TOKEN_VARIABLE):
        sections["callbacks"] = replace(sections["callbacks"], neptune_token=os.environ[TOKEN_VARIABLE])
    several = tuple((name.removeprefix(SOURCE), sections.pop(name)) for name in sources)
    config = Config(**sections, sources=several, file=Path(os.path.abspath(path)), written=frozenset(settings))
    config, lines = give_way(config, lambda name: _rank(name, config, settings))
    for line in lines:
        _report(line)
    found = [*contradictions(config), *(check_choices(config) if check_choices else ())]
    problems += [problem for problem in found if (problem.section, problem.key) not in wrong]
    if problems:
        raise ConfigError(_with_source(problem, settings, path.name) for problem in problems)
    return config


def _rank(name: str, config: Config, settings: _Settings) -> int:
    """How firmly the user wants a setting: 0 not at all (it has its default), 1 by a file, 2 by ``--set``."""
    section, _, key = name.rpartition(".")
    setting = settings.get((section, key))
    default = Source() if section.startswith(SOURCE) else SECTIONS[section]()
    if setting is None or getattr(config.section(section), key) == getattr(default, key):
        return 0
    return 2 if setting.source == OVERRIDE else 1


@functools.cache
def _report(line: str) -> None:
    """Log a line, once: a run reads its config several times."""
    log.info("%s", line)


def to_ini(config: Config) -> str:
    """The whole config as an INI file, without its secrets; ``load_config`` reads it back."""
    lines = []
    for section in config.section_names:
        lines.append(f"[{section}]")
        for key in _keys(section):
            if (section, key) not in SECRETS:
                lines.append(f"{key} = {_quoted(_to_text(getattr(config.section(section), key)))}".rstrip())
        lines.append("")
    return "\n".join(lines)


def differences(old: Config, new: Config) -> list[tuple[str, str, Any, Any]]:
    """``(section, key, old value, new value)`` of every setting that differs, secrets left out."""
    return [
        (section, key, before, after)
        for section in dict.fromkeys(old.section_names + new.section_names)
        for key in _keys(section)
        if (section, key) not in SECRETS
        and (before := getattr(old.section(section), key)) != (after := getattr(new.section(section), key))
    ]


def _with_source(problem: Problem, settings: _Settings, file: str) -> Problem:
    setting = settings.get((problem.section, problem.key))
    if problem.source or not problem.section:
        return problem
    if setting is None:
        return replace(problem, source=file)
    return replace(problem, source=setting.source, value=setting.text)


def _read_file(path: Path, problems: list[Problem]) -> _Settings:
    """The file's settings; what is not a setting becomes a problem."""
    # No interpolation: a % is a %. No default section: [DEFAULT] would leak into every other.
    parser = configparser.ConfigParser(interpolation=None, default_section="no such section")
    parser.optionxform = str  # keys keep their case, so that a wrong one is reported as it was written
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        parser.read_string("\n".join(map(_without_comment, lines)), source=path.name)
    except FileNotFoundError:
        raise ConfigError(Problem("no such file; name one with --config", source=str(path))) from None
    except IsADirectoryError:
        raise ConfigError(Problem("is a folder; name a file with --config", source=str(path))) from None
    except UnicodeDecodeError as error:
        raise ConfigError(Problem(f"not UTF-8 at byte {error.start}; save it as UTF-8", source=str(path))) from None
    except configparser.Error as error:
        raise ConfigError(Problem(_explain(error), source=path.name)) from None
    settings = {}
    for section in parser.sections():
        if _known_section(section, path.name, problems):
            for key, text in parser.items(section):
                setting = _Setting(_unquoted(text), path.name, Path(os.path.abspath(path)).parent)
                _take(section, key, setting, settings, problems)
    return settings


# A value in double quotes, in which # and ; are themselves and "" is a quote; behind it at most a comment.
_QUOTED = r'"(?:[^"]|"")*"'
_QUOTED_LINE = re.compile(rf"[^=:]*[=:]\s*{_QUOTED}(?=\s*$|\s+[#;])")
_COMMENT = re.compile(r"\s[#;]")


def _without_comment(line: str) -> str:
    """The line without what follows a # or ; behind a blank."""
    quoted = _QUOTED_LINE.match(line)
    comment = _COMMENT.search(line, quoted.end() if quoted else 0)
    return line[: comment.start()] if comment else line


def _unquoted(text: str) -> str:
    return text[1:-1].replace('""', '"') if re.fullmatch(_QUOTED, text) else text


def _quoted(text: str) -> str:
    """The text, in quotes where it would not be read back as it is."""
    plain = text == text.strip() and not text.startswith(('"', "#", ";")) and not _COMMENT.search(text)
    return text if plain else '"' + text.replace('"', '""') + '"'


def _read_overrides(overrides: Sequence[str], problems: list[Problem]) -> _Settings:
    settings = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        name = name.strip()
        section, dot, key = name.rpartition(".") if name.startswith(SOURCE) else name.partition(".")
        if not equals or not dot:
            problems.append(Problem("expected section.key=value", source=f"--set {override}"))
        elif _known_section(section, OVERRIDE, problems):
            _take(section, key, _Setting(text.strip(), OVERRIDE, Path.cwd()), settings, problems)
    return settings


def _take(section: str, key: str, setting: _Setting, settings: _Settings, problems: list[Problem]) -> None:
    """Take a setting into ``settings``, in the form that it has today."""
    now = update(section, key, setting.text)
    if now.problem:
        problems.append(Problem(now.problem, section, key, setting.text, setting.source))
        return
    if now.line:
        _report(f"{setting.source}: {now.line}")
    if now.key is not None and _known_key(section, now.key, setting.source, problems):
        settings[section, now.key] = setting._replace(text=now.text)


def _known_section(section: str, source: str, problems: list[Problem]) -> bool:
    if section.startswith(SOURCE):
        if fits := bool(SOURCE_NAME.fullmatch(section.removeprefix(SOURCE))):
            return fits
        problems.append(Problem("a source's name is letters, digits, _ and -; rename it", section, source=source))
        return False
    if section not in SECTIONS:
        problems.append(Problem(f"{unknown(section, list(SECTIONS))}", section, source=source))
    return section in SECTIONS


def _known_key(section: str, key: str, source: str, problems: list[Problem]) -> bool:
    if key not in _keys(section):
        problems.append(Problem(unknown(key, list(_keys(section))), section, key, source=source))
    return key in _keys(section)


def _keys(section: str) -> Mapping[str, Any]:
    """The keys of a section and their types."""
    return _SOURCE_KEYS if section.startswith(SOURCE) else KEYS[section]


def _explain(error: configparser.Error) -> str:
    """A configparser error in words for somebody who edits the file."""
    match error:
        case configparser.DuplicateSectionError():
            return f"line {error.lineno}: section [{error.section}] stands twice; join them"
        case configparser.DuplicateOptionError():
            return f"line {error.lineno}: [{error.section}] {error.option} stands twice; keep one"
        case configparser.MissingSectionHeaderError():
            return f"line {error.lineno}: a setting before the first [section]"
        case configparser.ParsingError(errors=[(line, text), *_]):
            text = text[1:-1].removesuffix("\\n")  # configparser gives the line's repr
            return f"line {line}: {text!r} is neither a [section] nor key = value"
    return str(error)


def _check_one_line(text: str) -> None:
    """Refuse what ``to_ini`` could not write for ``load_config`` to read.

    Raises:
        ValueError: worded for the report.
    """
    if "\n" in text or "\r" in text:
        raise ValueError("a line break; a value is one line")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # bytes of the command line that are none, such as a name in Latin-1
        raise ValueError("not UTF-8; rename it, or give it a link with another name") from None


TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def _parse(setting: _Setting, hint: Any) -> Any:
    """Turn text into the type a field is annotated with.

    Raises:
        ValueError: worded for the report.
    """
    text = setting.text
    if typing.get_origin(hint) is Annotated:
        kind, bounds = typing.get_args(hint)
        value = _parse(setting, kind)
        if complaint := bounds.complaint(value):
            raise ValueError(complaint)
        return value
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if text not in choices:
            raise ValueError(unknown(text, choices))
        return text
    if isinstance(hint, types.UnionType):  # Path | None
        return _parse(setting, Path) if text else None
    if hint is str:
        return text
    if not text:
        raise ValueError("empty; give a value or remove the line")
    if hint is bool:
        if text.lower() not in TRUE + FALSE:
            raise ValueError("neither true nor false")
        return text.lower() in TRUE
    if hint is Path:
        try:
            return _absolute(Path(text).expanduser(), setting.folder)
        except RuntimeError:
            raise ValueError("no such user's home; write the folder out") from None
    return _number(text, hint)


def _number(text: str, kind: type) -> int | float:
    try:
        value = kind(text)
    except ValueError:
        raise ValueError("not a whole number" if kind is int else "not a number") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("not a finite number")
    return value


def _absolute(value: Any, folder: Path) -> Any:
    return Path(os.path.normpath(folder / value)) if isinstance(value, Path) else value


def _to_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)
