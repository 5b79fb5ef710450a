"""How are the objects of a run built? First the model, with a dry run, then the trainer with all it needs."""

import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from dataloader import metadata as tables
from dataloader.batches.windows import image_size
from dataloader.encoders.table import is_encoder
from factory.encoders import encoder_card
from factory.frontend import frontend_of
from factory.loss import build_loss
from factory.metric import build_metric
from factory.model import build_model, dry_run, head_of
from factory.model_card import ModelCard
from factory.optimizer import build_optimizer
from factory.scheduler import build_schedule
from models.freezing import Backbone
from training.resume import has_checkpoint
from training.subsets import build_subsets, build_transform
from utils.checkpoint import Checkpoints
from utils.config_checks import needs_validation
from utils.distributed import Processes
from utils.errors import ConfigError, Problem
from utils.settings import Config
from utils.tracking import build_trackers
from utils.trainer import Trainer
from utils.utils import seed_everything, seed_for

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def build_and_dry_run(config: Config, table: "pd.DataFrame", resume: Path | None = None) -> nn.Module:
    """Build the model and give it an empty batch, so that a wrong shape costs seconds and not hours of preparing.

    Args:
        resume: the run to resume, if there is one, whose checkpoint has the weights.
    """
    model = _model(config, len(tables.class_labels(table)), fetch=not has_checkpoint(resume))
    shape = getattr(model, "input_shape", None) or frontend_of(config.model.type).input_shape(config.data_process)
    dry_run(model, (2, *shape))
    return model


def build_trainer(
    config: Config, model: nn.Module, metadata: "pd.DataFrame", folder: Path, device: torch.device, processes: Processes
) -> Trainer:
    """The trainer with all its objects, at the beginning of a run or where it was stopped."""
    labels = tables.class_labels(metadata)
    subsets = build_subsets(config, metadata, labels, device, processes)
    if subsets["val"] is None:
        _check_that_nothing_follows_validation(config)
    if model.n_classes != len(labels):  # some classes of the dry run had too few good recordings
        model = _model(config, len(labels), fetch=not has_checkpoint(folder))
    model = model.to(device, memory_format=torch.channels_last)
    head = head_of(model)
    optimizer = build_optimizer(model.parameters(), config.agent, head.parameters())
    steps = -(-len(subsets["train"].order) // config.trainer.accumulate)
    schedule = build_schedule(optimizer, config.agent, n_epochs=config.trainer.n_epochs, steps_per_epoch=steps)
    trainer = Trainer(
        config.trainer,
        model=model,
        loss=build_loss(config.agent),
        optimizer=optimizer,
        schedule=schedule,
        transform=build_transform(config, metadata, labels),
        **subsets,
        metric=build_metric(config.callbacks),
        checkpoints=Checkpoints(folder, keep_best=config.callbacks.model_checkpoint),
        card=_card(config, metadata, labels).plain(),
        device=device,
        processes=processes,
        callbacks=config.callbacks,
        backbone=Backbone(model, head),
        freeze_epochs=config.model.freeze_epochs,
        lr_verbose=config.agent.lr_verbose,
        resume_command=f"{shlex.quote(sys.executable)} train_classifier.py --resume {shlex.quote(str(folder))}",
    )
    if not config.callbacks.model_checkpoint and processes.is_main:
        log.warning(
            "[callbacks] model_checkpoint = false: the last epoch is scored and used for prediction, not the best"
        )
    if has_checkpoint(folder):
        trainer.resume()
    if processes.is_main:
        trainer.trackers = build_trackers(config.callbacks, folder, config, keep_epochs=trainer.progress.epoch - 1)
    return trainer


def _check_that_nothing_follows_validation(config: Config) -> None:
    """The config shows whether a share is 0; only here it is known whether there are enough groups for validation."""
    why = "no group of recordings is left for it (lower [data] train_ratio)"
    if clashes := list(needs_validation(config, why)):
        raise ConfigError(Problem(clash.text, *clash.section_and_key) for clash in clashes)


def _model(config: Config, n_classes: int, *, fetch: bool) -> nn.Module:
    seed_everything(seed_for(config.trainer.seed, "model"))
    size, testing = image_size(config.data_process), config.testing.testing
    model = build_model(config.model, n_classes, image_size=size, testing=testing, fetch=fetch)
    model.n_classes = n_classes
    return model


def _card(config: Config, metadata: "pd.DataFrame", labels: list[str]) -> ModelCard:
    """What a checkpoint holds beside the weights."""
    names = tables.class_names(metadata, labels)
    return ModelCard(
        model=config.model,
        labels=tuple(labels),
        scientific_names=tuple(names["scientific_name"]),
        common_names=tuple(names["common_name"]),
        process=config.data_process,
        standardize_over=config.data.standardize_over,
        min_recording_s=config.data.min_recording_s,
        encoder=encoder_card(config.model) if is_encoder(config.model.type) else None,
    )
