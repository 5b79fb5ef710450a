"""Which config does a run have? That of a new run, or that of the run to resume with the allowed changes."""

import argparse
import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

from dataloader.encoders.table import settle
from factory.choices import check_choices
from utils.config import differences, load_config
from utils.errors import ConfigError, DataError, Problem, UserError
from utils.run_folder import CONFIG, LAST, PREV, SUMMARY
from utils.settings import SOURCE, Config

log = logging.getLogger(__name__)


# The settings that a resumed run may change: they decide where and how fast it runs, not what it computes.
_MAY_CHANGE = {
    "trainer": "device batch_size_val batch_size_test num_workers n_epochs early_stop compile cache_on_device "
    "save_every_minutes max_minutes",
    "data": "output_dir hash_path num_workers multi_threading backend max_bad_share table",
    "callbacks": "trackers neptune_logger neptune_mode neptune_project model_checkpoint_verbose",
    "paths": "data_dir demo_dir runs_dir",
    "augmentation": "background_dir",
    "agent": "lr_verbose",
}


def load(options: argparse.Namespace) -> Config:
    """The config of a new run, or that of the run to resume with the changes of the user.

    Raises:
        ConfigError: with every problem; for a resumed run also the keys that cannot be changed.
        DataError: there is no such run.
    """
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) and not options.resume:
        raise UserError(
            "torchrun restarted after an error, which would begin a new run; start it with --resume RUN_DIR"
        )
    if not options.resume:
        return settle(load_config(options.config or Path(CONFIG), options.overrides, check_choices))
    if not (options.resume / CONFIG).is_file():
        raise DataError(f"{options.resume}: not a run folder; --resume needs a folder with a {CONFIG}")
    check = partial(check_choices, fetch=not has_checkpoint(options.resume))
    config = settle(load_config(options.resume / CONFIG, options.overrides, check))
    changes = differences(load_config(options.resume / CONFIG), config)
    problems = [
        Problem(
            f"cannot change in a run that has begun (it is {before}); start a new run", section, key, after, "--set"
        )
        for section, key, before, after in refused(changes)
    ]
    if problems:
        raise ConfigError(problems)
    for section, key, before, after in changes:
        log.info("[%s] %s changes from %s to %s", section, key, before, after)
    return config


def refused(changes: list[tuple[str, str, Any, Any]]) -> list[tuple[str, str, Any, Any]]:
    """Those of ``utils.config.differences`` that are not allowed in a run that has begun."""
    return [change for change in changes if not _may_change(change[0], change[1])]


def _may_change(section: str, key: str) -> bool:
    if section.startswith(SOURCE):  # the folder of the recordings, like data_dir of [paths]
        return key in ("data_dir", "table")
    return key in _MAY_CHANGE.get(section, "").split()


def is_finished(folder: Path, config: Config) -> bool:
    """Whether the run has its summary and is not made longer now; this is logged."""
    before, now = load_config(folder / CONFIG).trainer, config.trainer
    stops_later = before.early_stop and not 0 < now.early_stop <= before.early_stop
    finished = (folder / SUMMARY).is_file() and not (stops_later or now.n_epochs > before.n_epochs)
    if finished:
        log.info("%s: this run is finished; there is nothing to resume", folder)
    return finished


def has_checkpoint(folder: Path | None) -> bool:
    return folder is not None and any((folder / name).exists() for name in (LAST, PREV))
