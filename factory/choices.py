"""Are all choices in the config known, and do the settings fit them? This is checked before anything else is done."""

from collections.abc import Callable
from functools import partial

from dataloader.audio.endings import ENDINGS
from dataloader.batches.background import background_files
from dataloader.batches.windows import window_frames
from dataloader.encoders.table import check_settings, is_encoder
from factory.frontend import WAVEFORMS, frontend_of
from factory.lookup import lookup
from factory.loss import LOSSES
from factory.metric import METRICS
from factory.model import check_model
from factory.optimizer import OPTIMIZERS
from factory.scheduler import SCHEDULES
from utils.errors import ConfigError, Problem
from utils.settings import Config
from utils.tracking import TRACKERS


def check_choices(config: Config, *, fetch: bool = True) -> list[Problem]:
    """The problems with choices that no factory knows, as ``utils.config.load_config`` reports them.

    Args:
        fetch: see ``factory.model.check_model``.
    """
    agent, callbacks = config.agent, config.callbacks
    checks: list[Callable[[], object]] = [
        lambda: lookup("callbacks", "model_checkpoint_type", callbacks.model_checkpoint_type, METRICS),
        lambda: lookup("agent", "loss", agent.loss, LOSSES),
        lambda: lookup("agent", "optimizer", agent.optimizer, OPTIMIZERS),
        lambda: lookup("agent", "lr_decay_type", agent.lr_decay_type, SCHEDULES),
        *(partial(lookup, "callbacks", "trackers", name, TRACKERS) for name in callbacks.tracker_names),
        lambda: check_model(config.model, fetch=fetch),
    ]
    problems = []
    for check in checks:
        try:
            check()
        except ConfigError as error:
            problems += error.problems
    augmentation = config.augmentation
    needed = augmentation.background_dir if augmentation.adds_background else None
    if needed and not background_files(needed):
        what = f"has no sound files ({', '.join(ENDINGS)})" if needed.is_dir() else "no such folder"
        problems.append(Problem(f"{what}; or set background_p to 0", "augmentation", "background_dir", needed))
    problems += check_settings(config)
    if is_encoder(config.model.type):
        return problems + _for_learning_networks_only(config)
    problems += _hides_everything(config)
    if frontend_of(config.model.type) is WAVEFORMS:
        problems += _for_images_only(config)
    return problems


def _hides_everything(config: Config) -> list[Problem]:
    """The problems of masks that can cover a whole window: the bird would be hidden, but its label would stay."""
    a, process, waveform = config.augmentation, config.data_process, frontend_of(config.model.type) is WAVEFORMS
    if not a.data_augmentation:
        return []
    spectrum, xy = a.augment_spec_augment, a.xy_masks_p > 0 and not waveform
    window, bands = f"a whole window, {process.max_length_s:g} s", f"all {process.n_mels} bands"
    checks = (
        (spectrum and a.time_masks, a.time_mask_max_s >= process.max_length_s, "time_mask_max_s", window, "time_masks"),
        (
            spectrum and a.frequency_masks and not waveform,
            a.frequency_mask_max_bands >= process.n_mels,
            "frequency_mask_max_bands",
            bands,
            "frequency_masks",
        ),
        (xy and a.xy_time_masks, a.xy_mask_max >= window_frames(process), "xy_mask_max", window, "xy_time_masks"),
        (xy and a.xy_frequency_masks, a.xy_mask_max >= process.n_mels, "xy_mask_max", bands, "xy_frequency_masks"),
    )
    return [
        Problem(f"hides {what}; lower it, or set {switch} to 0", "augmentation", key, getattr(a, key))
        for on, too_large, key, what, switch in checks
        if on and too_large
    ]


# Settings for spectrograms only. The other changes of [augmentation] and [mixing] also work on waveforms.
_FOR_IMAGES = {
    "data": "standardize_over",
    "augmentation": "background_p xy_masks_p",
    "mixing": "power_mix_p",
}
_FOR_SOUNDS = {
    "data": "standardize_over keep_quietest",
    "data_process": "mode",
    "augmentation": "augment_random_crop background_p xy_masks_p",
    "mixing": "power_mix_p cutmix_p",
}


def _for_images_only(config: Config) -> list[Problem]:
    """Settings for images, while the model uses the waveform."""
    kind = config.model.type
    problems = _without_effect(config, _FOR_IMAGES, f"is for images, but {kind} uses the waveform")
    return problems + _keeps_spectrograms(config, f"{kind} reads recordings")


def _for_learning_networks_only(config: Config) -> list[Problem]:
    """Settings that change sounds, while the encoder is frozen and its embeddings are cached."""
    kind = config.model.type
    problems = _without_effect(config, _FOR_SOUNDS, f"changes sounds, but the embeddings of {kind} are cached")
    if config.model.pool == "attention" and config.mixing.mixup_p:
        text = "mixes means of embeddings, which pool = attention does not have; set it to 0, or pool = mean"
        problems.append(Problem(text, "mixing", "mixup_p", config.mixing.mixup_p))
    if not config.model.transfer_learning:
        problems.append(Problem(f"{kind} is a pretrained encoder; set it to true", "model", "transfer_learning", False))
    return problems + _keeps_spectrograms(config, f"{kind} has embeddings")


def _without_effect(config: Config, settings: dict[str, str], why: str) -> list[Problem]:
    """The problems of settings (section -> keys) that differ from their defaults but have no effect."""
    problems = []
    for section, keys in settings.items():
        off = section == "augmentation" and not config.augmentation.data_augmentation
        for key in () if off else keys.split():
            value, default = (getattr(getattr(source, section), key) for source in (config, Config()))
            if value != default:
                shown = str(default).lower() if isinstance(default, bool) else default
                problems.append(Problem(f"{why}; leave it at {shown}", section, key, value))
    return problems


def _keeps_spectrograms(config: Config, why: str) -> list[Problem]:
    """The problem of ``cache_on_device`` = yes for a model without spectrograms."""
    if config.trainer.cache_on_device != "yes":
        return []
    return [Problem(f"keeps spectrograms, but {why}; set it to auto or no", "trainer", "cache_on_device", "yes")]
