"""The settings: one typed, frozen class a section. The only file that knows INI.

Text stops here. ``load_config`` turns a file and its overrides into a ``Config`` whose every value
has the type its field names, or reports everything that is wrong with it at once.
"""

import configparser
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from utils.errors import ConfigError, Problem, unknown


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

    testing: bool = True
    data_samples_for_testing: Count = 120  # recordings: whole classes, at least two, until there are that many


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """[callbacks]: what is recorded about a run, and where."""

    neptune_logger: bool = False
    neptune_mode: Literal["offline", "online", "debug"] = "offline"
    neptune_project: str = ""  # workspace/name, for online
    neptune_token: str = field(default="", repr=False)  # better: the environment variable NEPTUNE_API_TOKEN
    model_checkpoint: bool = True  # keep best.pt; false: only last.pt, which is then what is scored
    model_checkpoint_type: str = "val_macro_auc"  # the metric that decides which epoch is best
    model_checkpoint_verbose: bool = True  # a line for each new best


@dataclass(frozen=True, kw_only=True)
class Paths:
    """[paths]: folders of the project."""

    data_dir: Path = Path("data")  # holds train_metadata.csv and train_audio/
    runs_dir: Path = Path("runs")  # a folder a run is made in it
    demo_dir: Path = Path("demo")  # synthetic birds, made when testing finds no data_dir


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """[trainer]: the loop."""

    seed: Annotated[int, Bounds(low=0, high=2**31 - 1)] = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size_train: Count = 16  # windows
    batch_size_val: Count = 64
    batch_size_test: Count = 64
    num_workers: CountOrNone = 0  # processes that read batches; 0: the main process reads
    n_epochs: Count = 24
    accumulate: Count = 1  # batches whose gradients make one step: a larger batch than fits in memory
    grad_clip: NotNegative = 5.0  # largest norm of the gradient; 0: no clipping
    ema: Annotated[float, Bounds(low=0.0, high=0.99999)] = 0.0  # decay a step of averaged weights; 0: none
    average_last: CountOrNone = 0  # score and keep the mean of the weights of the last epochs, this many; 0: none
    early_stop: CountOrNone = 0  # epochs without a better model_checkpoint_type after which to stop; 0: never
    amp: bool = True  # mixed precision on a GPU: bf16, or fp16 where that is missing
    amp_on_cpu: bool = False  # bf16 on a CPU that has units for it; only networks of full convolutions gain
    compile: bool = False  # torch.compile: a minute or more at the start, then perhaps faster steps on a GPU
    deterministic: bool = False  # equal runs on a GPU as well, at a cost in speed; on a CPU runs are always equal
    cache_on_device: Literal["auto", "yes", "no"] = "auto"  # keep the spectrograms in GPU memory; auto: if they fit
    save_every_minutes: NotNegative = 10.0  # save in the middle of an epoch too; 0: at its end only
    max_minutes: NotNegative = 0.0  # stop and save after this long; 0: no limit


@dataclass(frozen=True, kw_only=True)
class Agent:
    """[agent]: what is minimised, by what, at which rate.

    ``lr_warmup_end`` is the peak rate of every schedule, and the constant one without lr_decay.
    """

    loss: str = "bce"
    focal_alpha: Annotated[float, Bounds(low=-1.0, high=1.0)] = 0.25  # weight of the positives; below 0: none
    focal_gamma: NotNegative = 2.0  # how much well-classified examples are turned down
    optimizer: str = "adamw"
    weight_decay: NotNegative = 0.05
    lr_decay: bool = True
    lr_decay_type: str = "warmup_cosine"
    lr_start: NotNegative = 0.0001  # first rate of warmup_cosine and one_cycle
    lr_warmup_end: Positive = 0.002  # peak
    lr_end: NotNegative = 0.00001  # last rate of warmup_cosine, cosine and one_cycle
    lr_warmup_epochs: NotNegative = 2.0
    backbone_lr_factor: Annotated[float, Bounds(above=0.0, high=1.0)] = (
        1.0  # rate of all but the head, times the head's
    )
    exp_gamma: Annotated[float, Bounds(above=0.0, high=1.0)] = 0.9  # exponential: factor an epoch
    plateau_factor: Annotated[float, Bounds(above=0.0, high=0.99)] = 0.5  # plateau: factor a drop
    plateau_patience: CountOrNone = 3  # plateau: epochs without a better val_loss before a drop
    lr_verbose: bool = False  # print the rate at each epoch


@dataclass(frozen=True, kw_only=True)
class Model:
    """[model]: the network."""

    type: str = "mobilenetv3_small_100"
    transfer_learning: bool = True  # start from pretrained weights
    weights_path: Path | None = None  # weights on disk, in place of a download
    head: str = "default"  # the network's own, gem or sed
    freeze_epochs: CountOrNone = 0  # the first epochs, in which only the head learns; 0: none
    drop_rate: Annotated[float, Bounds(low=0.0, high=0.9)] = 0.0  # share of the features; 0: the network's own default
    drop_path: Annotated[float, Bounds(low=0.0, high=0.9)] = 0.0  # share of the blocks; 0: the network's own default
    frequency_channel: bool = False  # a second input channel: the place of each band, -1 to 1
    wav2vec_layers: CountOrNone = 0  # of the transformer that are kept, from the input on; 0: all
    freeze_encoder: bool = True  # wav2vec2: the convolutions keep pretrained weights; random ones are learned


@dataclass(frozen=True, kw_only=True)
class Source:
    """[source.NAME]: one of several sources that make one data set, in place of the one data_dir of [paths].

    ``filename`` begins with ``NAME/`` then. The keys are those of [data] of the same names, for this source alone.
    """

    data_dir: Path | None = None  # the folder of its recordings
    layout: Literal["auto", "birdclef", "folders", "table", "annotations"] = "auto"  # how its labels are written down
    table: Path | None = None  # layout = table: the file, where data_dir holds several tables or none
    columns: str = ""  # own names of columns, such as label: species, start: begin
    label: str = ""  # the label of everything that no table gives one
    label_from: str = ""  # folder:N: the label is the name of the N-th folder below data_dir
    negative_folders: str = "negative"  # a folder of this name anywhere on the way marks false alarms
    label_map: Path | None = None  # CSV of old,new; several to one; an empty new drops the label
    filter: str = ""  # recordings that are used, by column, such as rating >= 3, collection = XC
    unannotated: Literal["absent", "unknown", "left_out"] = "absent"  # what an annotated recording does not annotate
    time_expansion: Positive = 1.0  # how many times slower the files play than what was recorded; 10 for many bats
    weight: Positive = 1.0  # how often its training windows come: 2 is twice as often as others


@dataclass(frozen=True, kw_only=True)
class Data:
    """[data]: how the recordings are found, where prepared ones are kept, and how they are divided."""

    layout: Literal["auto", "birdclef", "folders", "table", "annotations"] = "auto"  # how labels are written down
    table: Path | None = None  # layout = table: the file, where data_dir holds several tables or none
    columns: str = ""  # own names of columns, such as label: species, start: begin
    label: str = ""  # the label of everything that no table gives one
    label_from: str = ""  # folder:N: the label is the name of the N-th folder below data_dir
    negative_folders: str = "negative"  # a folder of this name anywhere on the way marks false alarms
    label_map: Path | None = None  # CSV of old,new; several to one; an empty new drops the label
    filter: str = ""  # recordings that are used, by column, such as rating >= 3, collection = XC
    unannotated: Literal["absent", "unknown", "left_out"] = "absent"  # what an annotated recording does not annotate
    time_expansion: Positive = 1.0  # how many times slower the files play than what was recorded; 10 for many bats
    min_overlap_s: Positive = 0.25  # a window has a label if so much of an annotation, or half of it, lies in it
    empty_windows: NotNegative = 1.0  # training windows of an annotated recording without a label, for each with one
    output_dir: Path = Path("cache/spectrograms")
    hash_path: Path = Path("cache/last_key")  # holds the key last prepared
    num_workers: Count = 2  # workers that prepare recordings
    multi_threading: bool = False  # those workers are threads; false: processes
    backend: Literal["local", "dask"] = "local"  # where the workers run
    duplicates: Literal["keep", "drop"] = "keep"  # recordings that stand in the table more than once
    min_samples_in_class: Count = 5  # good recordings; a class with fewer is left out
    train_ratio: Annotated[float, Bounds(above=0.0, high=1.0)] = 0.7  # share of recordings to train on
    test_val_ratio: Share = 0.5  # share of the rest that is the test set
    folds: CountOrNone = 0  # deal the recordings into this many, to test on one; 0: train_ratio and test_val_ratio
    fold: Count = 1  # of them the one that is the test set; there is no validation set, all others train
    group_by: Literal["group", "author", "folder", "file"] = "group"  # what the split keeps together
    keep_quietest: Annotated[float, Bounds(above=0.0, high=1.0)] = 1.0  # of each class's training recordings
    balance_power: Share = 0.0  # training windows are drawn with weights (windows of the class)^-power; 0: no drawing
    rare_to: CountOrNone = 0  # training recordings of smaller classes are repeated up to this many; 0: no
    class_cap: CountOrNone = 0  # training recordings of a class whose windows an epoch has, drawn anew; 0: all
    sample_max_s: Seconds = 60.0  # augment_random_crop: longer recordings are cut in samples of at most this length
    crops_per_sample: Count = 1  # augment_random_crop: windows a sample gives an epoch
    shuffle: bool = True  # the training order, anew each epoch
    standardize_over: Literal["window", "recording"] = "window"
    min_recording_s: NotNegative = 0.5  # a shorter recording is bad
    max_bad_share: Share = 0.1  # more bad recordings than this stop the run


@dataclass(frozen=True, kw_only=True)
class Labels:
    """[labels]: what the table's labels mean in training. Scores always ask for the foreground alone."""

    secondary: Literal["ignore", "mask", "soft", "hard"] = "ignore"  # species in the background
    secondary_weight: Annotated[float, Bounds(above=0.0, high=1.0)] = 0.3  # soft: their target
    primary_weight: Annotated[float, Bounds(above=0.0, high=1.0)] = 1.0  # target of those in the foreground
    smoothing: Annotated[float, Bounds(low=0.0, high=0.9)] = 0.0  # share of the targets spread over all classes
    nocall: bool = False  # recordings labelled nocall are a class; false: examples without a bird


@dataclass(frozen=True, kw_only=True)
class DataProcess:
    """[data_process]: how a waveform becomes a log-mel image.

    A field here changes the cached arrays and so the cache key, except max_length_s and mode,
    which choose windows. Worker counts and paths live elsewhere.
    """

    sample_rate: Annotated[int, Bounds(low=1000)] = 32_000  # Hz; recordings are resampled to this on reading
    n_mels: Count = 128  # bands
    n_fft: Annotated[int, Bounds(low=16)] = 1024  # samples
    hop_length: Count = 500  # samples between frames: 64 frames a second at 32 kHz
    f_min: NotNegative = 40.0  # Hz
    f_max: Positive = 15_000.0  # Hz; at most half of sample_rate
    max_length_s: Seconds = 5.0  # seconds a window
    mode: Literal["slice", "single"] = "slice"  # windows one after another, or the first only
    standardize: Literal["per_frequency", "per_clip", "none"] = "per_frequency"
    floor_db: Annotated[float, Bounds(low=-200.0, high=0.0)] = -100.0  # dB re full scale; all below is this
    min_deviation_db: Positive = 3.0  # dB; a steadier band is divided by this instead
    max_recording_s: Annotated[float, Bounds(low=0.0, high=1e6)] = 0.0  # seconds read of a recording; 0: all


CHOOSES_WINDOWS = frozenset({"max_length_s", "mode"})  # fields of DataProcess outside the cache key


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """[augmentation]: changes to training windows. Each ``p`` is the chance of a window to be changed.

    The first group changes power before standardising, in the order of its keys; the second changes
    images, whose unit is a band's standard deviation. min and max: drawn evenly between them.
    """

    data_augmentation: bool = True  # false switches all of this section off, and no other
    augment_random_crop: bool = False  # windows anywhere in a sample of [data] sample_max_s, not one after another
    eq_p: Share = 0.0  # random equaliser (FilterAugment, linear)
    eq_max_db: Gain = 6.0  # gains from -this to this
    gain_p: Share = 0.0
    gain_max_db: Gain = 12.0  # from -this to this
    background_p: Share = 0.0  # recordings without a call, added
    background_dir: Path | None = None
    background_minutes: Annotated[float, Bounds(low=0.1)] = 60.0  # kept in memory, about 1 MB each
    background_min_snr_db: Ratio = 3.0
    background_max_snr_db: Ratio = 30.0
    hiss_p: Share = 0.0  # steady noise, added
    hiss_colour: Literal["white", "pink", "brown"] = "pink"
    hiss_min_snr_db: Ratio = 3.0
    hiss_max_snr_db: Ratio = 30.0
    time_shift_p: Share = 0.0  # circular
    time_shift_max_s: Annotated[float, Bounds(above=0.0, high=3600.0)] = 2.5  # seconds, to and fro
    frequency_shift_p: Share = 0.0
    frequency_shift_max_bands: Annotated[int, Bounds(low=1, high=4096)] = 4  # up and down
    augment_add_noise: bool = True
    noise_max_deviation: Annotated[float, Bounds(low=0.0, high=1000.0)] = 0.5  # of white noise on the image
    augment_spec_augment: bool = True
    time_masks: CountOrNone = 3
    time_mask_max_s: Annotated[float, Bounds(above=0.0, high=3600.0)] = 1.0  # seconds
    frequency_masks: CountOrNone = 3
    frequency_mask_max_bands: Count = 24
    xy_masks_p: Share = 0.0  # as SpecAugment, with a number of masks drawn for each window
    xy_time_masks: CountOrNone = 12  # from 1 to this
    xy_frequency_masks: CountOrNone = 3  # from 1 to this
    xy_mask_min: Count = 8  # frames or bands
    xy_mask_max: Count = 16

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

    power_mix_p: Share = 0.0  # sounds added, before standardising; labels max
    power_mix_alpha: Alpha = 4.0
    mixup_p: Share = 0.0  # standardised images added
    mixup_alpha: Alpha = 4.0
    mixup_labels: Literal["max", "linear"] = "max"
    cutmix_p: Share = 0.0  # a stretch of time replaced
    cutmix_alpha: Alpha = 1.0
    cutmix_labels: Literal["max", "linear"] = "linear"


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

    def section(self, name: str) -> Any:
        """The section of this name, ``source.NAME`` among them; a source that is not there has its defaults."""
        if name.startswith(SOURCE):
            return dict(self.sources).get(name.removeprefix(SOURCE), Source())
        return getattr(self, name)

    @property
    def section_names(self) -> list[str]:
        return [*SECTIONS, *(SOURCE + name for name, _ in self.sources)]


SOURCE = "source."  # begins the sections of sources; the rest is a name
SOURCE_NAME = re.compile(r"[A-Za-z0-9][\w-]*")  # it begins filenames, and is a folder of the cache
SECTIONS: Mapping[str, type] = {
    section.name: section.type for section in fields(Config) if section.name not in ("sources", "file")
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
    config = Config(**sections, sources=several, file=Path(os.path.abspath(path)))
    found = [*_contradictions(config), *(check_choices(config) if check_choices else ())]
    problems += [problem for problem in found if (problem.section, problem.key) not in wrong]
    if problems:
        raise ConfigError(_with_source(problem, settings, path.name) for problem in problems)
    return config


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
    parser.optionxform = str  # keys keep their case, so that a wrong one is told as it was written
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
                if _known_key(section, key, path.name, problems):
                    settings[section, key] = _Setting(_unquoted(text), path.name, Path(os.path.abspath(path)).parent)
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
        elif _known_section(section, "--set", problems) and _known_key(section, key, "--set", problems):
            settings[section, key] = _Setting(text.strip(), "--set", Path.cwd())
    return settings


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
    """A configparser error in the words of a person who edits the file."""
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


PARTNERED = ("power_mix_p", "mixup_p", "cutmix_p")  # of [mixing]: need another window in the batch
_RANGES = (  # section, key of the lower end, key of the upper end
    ("augmentation", "background_min_snr_db", "background_max_snr_db"),
    ("augmentation", "hiss_min_snr_db", "hiss_max_snr_db"),
    ("augmentation", "xy_mask_min", "xy_mask_max"),
)

_Clash = tuple[str, str, str]  # section, key, what is wrong with its value beside others


def _contradictions(config: Config) -> Iterator[Problem]:
    """Settings that are legal one by one and not together."""
    for check in (
        _of_the_image,
        _of_the_model,
        _of_the_rates,
        _of_the_data,
        _of_the_labels,
        _of_the_changes,
        _of_the_run,
    ):
        for section, key, text in check(config):
            yield Problem(text, section, key, _to_text(getattr(config.section(section), key)))


def _of_the_image(config: Config) -> Iterator[_Clash]:
    process = config.data_process
    nyquist, frequencies = process.sample_rate / 2, process.n_fft // 2 + 1
    if process.f_max > nyquist:
        yield "data_process", "f_max", f"above half of sample_rate, {nyquist:g} Hz"
    if process.f_min >= process.f_max:
        yield "data_process", "f_min", f"not below f_max, {process.f_max:g} Hz"
    if process.hop_length > process.n_fft:
        yield "data_process", "hop_length", f"above n_fft, {process.n_fft}: samples would be skipped"
    if process.n_mels > frequencies:
        yield "data_process", "n_mels", f"more bands than the {frequencies} frequencies of n_fft {process.n_fft}"
    if round(process.max_length_s * process.sample_rate / process.hop_length) < 2:
        yield "data_process", "max_length_s", "a window of fewer than two frames; raise it or lower hop_length"
    if 0 < process.max_recording_s < process.max_length_s:
        yield "data_process", "max_recording_s", f"shorter than a window, {process.max_length_s:g} s; 0 reads all"


def _of_the_model(config: Config) -> Iterator[_Clash]:
    model = config.model
    if model.freeze_epochs and not model.transfer_learning:
        yield "model", "freeze_epochs", "freezes random weights; set transfer_learning = true, or this to 0"


def _of_the_rates(config: Config) -> Iterator[_Clash]:
    agent = config.agent
    kind, peak = agent.lr_decay_type if agent.lr_decay else None, agent.lr_warmup_end
    if kind in ("warmup_cosine", "one_cycle") and agent.lr_start > peak:
        yield "agent", "lr_start", f"above the peak rate lr_warmup_end, {peak:g}"
    if kind in ("warmup_cosine", "cosine", "one_cycle") and agent.lr_end > peak:
        yield "agent", "lr_end", f"above the peak rate lr_warmup_end, {peak:g}"
    if kind == "warmup_cosine" and agent.lr_warmup_epochs >= config.trainer.n_epochs:
        yield "agent", "lr_warmup_epochs", f"not below n_epochs of [trainer], {config.trainer.n_epochs}"


def _of_the_data(config: Config) -> Iterator[_Clash]:
    yield from _of_the_sources(config)
    data, window_s = config.data, config.data_process.max_length_s
    random_crop = config.augmentation.crops
    if data.folds == 1:
        yield "data", "folds", "leaves nothing to train on; at least 2, or 0 for train_ratio and test_val_ratio"
    elif data.fold > max(data.folds, 1):
        text = f"there are only {data.folds} folds" if data.folds else "needs folds above 0, the number of all folds"
        yield "data", "fold", text
    if random_crop and data.sample_max_s < window_s:
        yield "data", "sample_max_s", f"shorter than a window, {window_s:g} s"
    if data.crops_per_sample > 1 and not random_crop:
        yield (
            "data",
            "crops_per_sample",
            "needs data_augmentation and augment_random_crop of [augmentation]; windows come once without",
        )
    if 0 < data.class_cap < data.rare_to:
        yield "data", "class_cap", f"below rare_to, {data.rare_to}; classes would be cut and repeated at once"


LABEL_FROM = re.compile(r"folder:([1-9])")


def _of_the_sources(config: Config) -> Iterator[_Clash]:
    for section, one in [("data", config.data), *((SOURCE + name, source) for name, source in config.sources)]:
        if one.label_from and not LABEL_FROM.fullmatch(one.label_from):
            yield section, "label_from", "expected folder:N, such as folder:1 for the first folder below data_dir"
        if one.label and one.label_from:
            yield section, "label_from", "label gives everything one label already; set one of them"
        if isinstance(one, Source) and one.data_dir is None:
            yield section, "data_dir", "missing; name the folder of its recordings"


def _of_the_labels(config: Config) -> Iterator[_Clash]:
    labels = config.labels
    if labels.secondary == "soft" and labels.secondary_weight > labels.primary_weight:
        yield "labels", "secondary_weight", f"above primary_weight, {labels.primary_weight:g}"
    if config.agent.loss == "cross_entropy" and labels.primary_weight != 1 and labels.secondary != "soft":
        yield (
            "labels",
            "primary_weight",
            "means nothing to cross_entropy, which divides targets by their sum; leave it at 1",
        )


def _of_the_changes(config: Config) -> Iterator[_Clash]:
    """Of [augmentation] and [mixing]."""
    for section, low, high in _RANGES:
        if getattr(getattr(config, section), low) > (top := getattr(getattr(config, section), high)):
            yield section, low, f"above {high}, {top:g}"
    augmentation = config.augmentation
    if augmentation.adds_background and augmentation.background_dir is None:
        yield "augmentation", "background_dir", "empty; background_p above 0 needs a folder of recordings"
    if (
        augmentation.data_augmentation
        and augmentation.xy_masks_p
        and not augmentation.xy_time_masks
        and not augmentation.xy_frequency_masks
    ):
        yield "augmentation", "xy_masks_p", "without masks: xy_time_masks and xy_frequency_masks are both 0"
    if config.trainer.batch_size_train == 1:
        for key in PARTNERED:
            if getattr(config.mixing, key):
                yield "mixing", key, "needs a partner in the batch; raise batch_size_train of [trainer]"


def _of_the_run(config: Config) -> Iterator[_Clash]:
    """Of [trainer], [callbacks] and what is validated."""
    trainer, callbacks, agent, data = config.trainer, config.callbacks, config.agent, config.data
    if data.folds or data.train_ratio == 1.0 or data.test_val_ratio == 1.0:
        key = "folds" if data.folds else "train_ratio" if data.train_ratio == 1.0 else "test_val_ratio"
        why = f"and [data] {key} = {getattr(data, key)} leaves no validation set"
        if agent.lr_decay and agent.lr_decay_type == "plateau":
            yield "agent", "lr_decay_type", f"follows the validation loss, {why}; choose another"
        if trainer.early_stop:
            yield "trainer", "early_stop", f"watches a validation score, {why}; set it to 0"
    if trainer.ema and trainer.average_last:
        yield "trainer", "average_last", "ema averages already; set one of them to 0"
    if trainer.average_last and trainer.early_stop:
        yield "trainer", "average_last", "the last of n_epochs are averaged, and early_stop may end before; use one"
    if trainer.average_last > trainer.n_epochs:
        yield "trainer", "average_last", f"above n_epochs, {trainer.n_epochs}"
    if callbacks.neptune_logger and callbacks.neptune_mode == "online" and not callbacks.neptune_project:
        yield "callbacks", "neptune_project", "empty; neptune_mode = online needs workspace/name"
