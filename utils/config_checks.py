"""Which settings contradict each other, and which of the two gives way?

A setting that the user did not write gives way to one that they wrote, and one of a file gives way to one of
``--set``. If two that were written in one place contradict each other, this is an error. A value equal to its default
counts as not written.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from utils.errors import Problem
from utils.settings import SOURCE, Config, as_text

Rank = Callable[[str], int]  # of "section.key": 0 a default, 1 from a file, 2 from --set

LABEL_FROM = re.compile(r"folder:([1-9])")
PARTNERED = ("power_mix_p", "mixup_p", "cutmix_p")  # of [mixing]: need another window in the batch
_RANGES = (  # section, key of the lower end, key of the upper end
    ("augmentation", "background_min_snr_db", "background_max_snr_db"),
    ("augmentation", "xy_mask_min", "xy_mask_max"),
)


@dataclass(frozen=True)
class Clash:
    """A setting that is legal alone, but contradicts others.

    Attributes:
        setting: ``section.key``, which the user would have to change.
        text: what is wrong with it.
        beside: ``section.key`` of the settings that it contradicts, separated by blanks.
        instead: the value that it takes if it gives way; None: it never gives way.
        is_error: false: if none gives way, the same contradiction is reported for the other setting.
    """

    setting: str
    text: str
    beside: str = ""
    instead: Any = None
    is_error: bool = True

    @property
    def section_and_key(self) -> tuple[str, str]:
        section, _, key = self.setting.rpartition(".")
        return section, key


def contradictions(config: Config) -> Iterator[Problem]:
    """What is wrong with settings that are legal one by one."""
    for clash in _clashes(config):
        if clash.is_error:
            section, key = clash.section_and_key
            yield Problem(clash.text, section, key, as_text(getattr(config.section(section), key)))


def give_way(config: Config, rank: Rank) -> tuple[Config, list[str]]:
    """The config after settings of a lower rank have given way, and a line for each that has."""
    lines = []
    while clash := next((clash for clash in _clashes(config) if _gives_way(clash, rank)), None):
        section, key = clash.section_and_key
        before = getattr(config.section(section), key)
        stronger = max(clash.beside.split(), key=rank)
        config = replace(config, **{section: replace(config.section(section), **{key: clash.instead})})
        written = as_text(getattr(config.section(stronger.rpartition(".")[0]), stronger.rpartition(".")[2]))
        lines.append(
            f"[{section}] {key} is {as_text(clash.instead)}, not {as_text(before)}, "
            f"as {stronger} is {written}: {clash.text}"
        )
    return config, lines


def _gives_way(clash: Clash, rank: Rank) -> bool:
    return clash.instead is not None and rank(clash.setting) < max(map(rank, clash.beside.split()))


def _clashes(config: Config) -> Iterator[Clash]:
    checks = (
        _of_the_image, _of_the_window, _of_the_model, _of_the_rates, _of_the_sources, _of_the_data, _of_the_labels,
        _of_the_changes, _of_the_masks, _of_validation, _of_the_run,
    )  # fmt: skip
    for check in checks:
        yield from check(config)


def _of_the_image(config: Config) -> Iterator[Clash]:
    process = config.data_process
    nyquist, frequencies = process.sample_rate / 2, process.n_fft // 2 + 1
    if process.f_max > nyquist:
        text = f"above half of sample_rate, {nyquist:g} Hz"
        yield Clash("data_process.f_max", text, "data_process.sample_rate", nyquist)
    elif process.f_min >= process.f_max:
        text = f"not below f_max, {process.f_max:g} Hz"
        yield Clash("data_process.f_min", text, "data_process.f_max data_process.sample_rate", 0.0)
        if process.f_min < nyquist:
            text = f"not above f_min, {process.f_min:g} Hz"
            yield Clash("data_process.f_max", text, "data_process.f_min", nyquist, is_error=False)
    if process.hop_length > process.n_fft:
        text = f"above n_fft, {process.n_fft}: samples would be skipped"
        yield Clash("data_process.hop_length", text, "data_process.n_fft", max(1, process.n_fft // 2))
        n_fft, text = 2 ** (2 * process.hop_length - 1).bit_length(), f"below hop_length, {process.hop_length}"
        yield Clash("data_process.n_fft", text, "data_process.hop_length", n_fft, is_error=False)
    if process.n_mels > frequencies:
        text = f"more bands than the {frequencies} frequencies of n_fft {process.n_fft}"
        yield Clash("data_process.n_mels", text, "data_process.n_fft", frequencies // 2)
        n_fft, text = 2 ** (4 * process.n_mels - 1).bit_length(), f"too few frequencies for {process.n_mels} bands"
        yield Clash("data_process.n_fft", text, "data_process.n_mels", n_fft, is_error=False)


def _of_the_window(config: Config) -> Iterator[Clash]:
    process, data = config.data_process, config.data
    if round(process.max_length_s * process.sample_rate / process.hop_length) < 2:
        text = "this window has fewer than two frames; raise it or lower hop_length"
        yield Clash("data_process.max_length_s", text)
    if 0 < process.max_recording_s < process.max_length_s:
        text = f"shorter than a window, {process.max_length_s:g} s; 0 reads all"
        yield Clash("data_process.max_recording_s", text, "data_process.max_length_s", 0.0)
        text = f"above max_recording_s, the {process.max_recording_s:g} s that are read of a recording"
        longest = process.max_recording_s
        yield Clash("data_process.max_length_s", text, "data_process.max_recording_s", longest, is_error=False)
    if config.augmentation.crops and data.segment_max_s < process.max_length_s:
        text = f"shorter than a window, {process.max_length_s:g} s"
        yield Clash("data.segment_max_s", text, "data_process.max_length_s", process.max_length_s)


def _of_the_model(config: Config) -> Iterator[Clash]:
    if config.model.freeze_epochs and not config.model.transfer_learning:
        text = "would freeze random weights; set transfer_learning = true, or this to 0"
        yield Clash("model.freeze_epochs", text, "model.transfer_learning", 0)


def _of_the_rates(config: Config) -> Iterator[Clash]:
    agent, n_epochs = config.agent, config.trainer.n_epochs
    kind, peak = agent.lr_decay_type if agent.lr_decay else None, agent.lr_warmup_end
    text = f"above the peak rate lr_warmup_end, {peak:g}"
    if kind in ("warmup_cosine", "one_cycle") and agent.lr_start > peak:
        yield Clash("agent.lr_start", text, "agent.lr_warmup_end", peak / 20)
    if kind in ("warmup_cosine", "cosine", "one_cycle") and agent.lr_end > peak:
        yield Clash("agent.lr_end", text, "agent.lr_warmup_end", peak / 200)
    if kind == "warmup_cosine" and agent.lr_warmup_epochs >= n_epochs:
        text = f"not below n_epochs of [trainer], {n_epochs}"
        yield Clash("agent.lr_warmup_epochs", text, "trainer.n_epochs", n_epochs / 10)


def _of_the_sources(config: Config) -> Iterator[Clash]:
    named = [(SOURCE + name, source) for name, source in config.sources]
    for section, one in [("data", config.data), *named]:
        if one.label_from and not LABEL_FROM.fullmatch(one.label_from):
            text = "expected folder:N, such as folder:1 for the first folder below data_dir"
            yield Clash(f"{section}.label_from", text)
        if one.label and one.label_from:
            yield Clash(f"{section}.label_from", "label already gives all recordings one label; set only one of them")
        if section != "data" and one.data_dir is None:
            yield Clash(f"{section}.data_dir", "missing; name the folder of its recordings")


def _of_the_data(config: Config) -> Iterator[Clash]:
    data = config.data
    if data.folds == 1:
        text = "leaves nothing to train on; set at least 2, or 0 to use train_ratio and test_val_ratio"
        yield Clash("data.folds", text)
    elif data.fold > max(data.folds, 1):
        text = f"there are only {data.folds} folds" if data.folds else "needs folds, the number of all folds; set it"
        yield Clash("data.fold", text, "data.folds", 1)
    if data.crops_per_segment > 1 and not config.augmentation.crops:
        text = "needs data_augmentation and augment_random_crop of [augmentation]; set both to true, or this to 1"
        beside = "augmentation.data_augmentation augmentation.augment_random_crop"
        yield Clash("data.crops_per_segment", text, beside, 1)
    if 0 < data.class_cap < data.rare_to:
        text = f"below rare_to, {data.rare_to}; classes would be cut and repeated at the same time"
        yield Clash("data.class_cap", text, "data.rare_to", data.rare_to)
        text = f"above class_cap, {data.class_cap}"
        yield Clash("data.rare_to", text, "data.class_cap", data.class_cap, is_error=False)


def _of_the_labels(config: Config) -> Iterator[Clash]:
    labels = config.labels
    if labels.secondary == "soft" and labels.secondary_weight > labels.primary_weight:
        text = f"above primary_weight, {labels.primary_weight:g}"
        yield Clash("labels.secondary_weight", text, "labels.primary_weight", labels.primary_weight)
    if config.agent.loss == "cross_entropy" and labels.primary_weight != 1 and labels.secondary != "soft":
        text = "has no effect with cross_entropy, which divides targets by their sum; leave it at 1"
        yield Clash("labels.primary_weight", text, "agent.loss labels.secondary", 1.0)


def _of_the_changes(config: Config) -> Iterator[Clash]:
    """Of [augmentation] and [mixing]."""
    for section, low, high in _RANGES:
        bottom, top = (getattr(config.section(section), key) for key in (low, high))
        if bottom > top:
            yield Clash(f"{section}.{low}", f"above {high}, {top:g}", f"{section}.{high}", top)
            text = f"below {low}, {bottom:g}"
            yield Clash(f"{section}.{high}", text, f"{section}.{low}", bottom, is_error=False)
    augmentation = config.augmentation
    if augmentation.adds_background and augmentation.background_dir is None:
        yield Clash("augmentation.background_dir", "empty; background_p above 0 needs a folder of recordings")
    no_masks = not augmentation.xy_time_masks and not augmentation.xy_frequency_masks
    if augmentation.data_augmentation and augmentation.xy_masks_p and no_masks:
        text = "there are no masks: xy_time_masks and xy_frequency_masks are both 0; raise one, or set this to 0"
        yield Clash("augmentation.xy_masks_p", text, "augmentation.xy_time_masks augmentation.xy_frequency_masks", 0.0)
    if config.trainer.batch_size_train == 1:
        for key in PARTNERED:
            if getattr(config.mixing, key):
                text = "needs a second window in the batch; raise batch_size_train of [trainer]"
                yield Clash(f"mixing.{key}", text, "trainer.batch_size_train", 0.0)


def _of_the_masks(config: Config) -> Iterator[Clash]:
    """Defaults that would hide a whole window become smaller; ``factory.choices`` checks values that were written."""
    a, process = config.augmentation, config.data_process
    if not (a.data_augmentation and a.augment_spec_augment):
        return
    if a.time_masks and a.time_mask_max_s >= process.max_length_s:
        text, fifth = f"hides a whole window, {process.max_length_s:g} s", process.max_length_s / 5
        yield Clash("augmentation.time_mask_max_s", text, "data_process.max_length_s", fifth, is_error=False)
    if a.frequency_masks and a.frequency_mask_max_bands >= process.n_mels:
        text, share = f"hides all {process.n_mels} bands", max(1, 24 * process.n_mels // 128)
        beside = "data_process.n_mels data_process.n_fft"
        yield Clash("augmentation.frequency_mask_max_bands", text, beside, share, is_error=False)


def leaves_no_validation(config: Config) -> str:
    """The setting of [data], as ``key = value``, that leaves no validation set; empty if there is one."""
    data = config.data
    if data.folds:
        return f"folds = {data.folds}"
    return next((f"{key} = 1.0" for key in ("train_ratio", "test_val_ratio") if getattr(data, key) == 1.0), "")


def needs_validation(config: Config, why: str) -> Iterator[Clash]:
    """The settings that need a validation score, when there is none.

    Args:
        why: the reason, such as "[data] folds = 5 leaves no validation set".
    """
    agent, beside = config.agent, "data.folds data.train_ratio data.test_val_ratio"
    if agent.lr_decay and agent.lr_decay_type == "plateau":
        text = f"needs the validation loss, and {why}; choose another"
        yield Clash("agent.lr_decay_type", text, beside, "warmup_cosine")
    if config.trainer.early_stop:
        yield Clash("trainer.early_stop", f"needs a validation score, and {why}; set it to 0", beside, 0)


def _of_validation(config: Config) -> Iterator[Clash]:
    if key := leaves_no_validation(config):
        yield from needs_validation(config, f"[data] {key} leaves no validation set")


def _of_the_run(config: Config) -> Iterator[Clash]:
    """Of [trainer] and [callbacks]."""
    trainer, callbacks, last = config.trainer, config.callbacks, "trainer.average_last"
    if trainer.ema and trainer.average_last:
        yield Clash(last, "ema already averages the weights; set one of them to 0", "trainer.ema", 0)
        yield Clash("trainer.ema", "average_last already averages the weights", last, 0.0, is_error=False)
    if trainer.average_last and trainer.early_stop:
        text = "averages the last of n_epochs, but early_stop may end the run before; set one of them to 0"
        yield Clash(last, text, "trainer.early_stop", 0)
        yield Clash("trainer.early_stop", "average_last averages the last of n_epochs", last, 0, is_error=False)
    if trainer.average_last > trainer.n_epochs:
        yield Clash(last, f"above n_epochs, {trainer.n_epochs}", "trainer.n_epochs", trainer.n_epochs)
    if callbacks.neptune_logger and callbacks.neptune_mode == "online" and not callbacks.neptune_project:
        yield Clash("callbacks.neptune_project", "empty; neptune_mode = online needs it: workspace/name")
