"""The steps of a training run, in the order of train_classifier.py."""

import argparse
import contextlib
import json
import logging
import os
import shlex
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dataloader import metadata as tables
from dataloader.batches.balance import keep_quietest
from dataloader.batches.windows import image_size
from dataloader.cache.entries import cache_key
from dataloader.data_preprocess import AudioPreprocessor
from dataloader.tables.splits import SPLITS, deal_into_folds, split_by_group
from factory.choices import check_choices
from factory.frontend import frontend_of
from factory.loss import build_loss
from factory.metric import build_metric
from factory.model import build_model, dry_run, head_of
from factory.model_card import ModelCard
from factory.optimizer import build_optimizer
from factory.scheduler import build_schedule
from models.freezing import Backbone
from training.subsets import build_subsets, build_transform
from utils.checkpoint import Checkpoints
from utils.command import log_to_file
from utils.config import PARTNERED, Config, differences, load_config, to_ini
from utils.distributed import Processes, join_processes
from utils.errors import ConfigError, DataError, Problem, UserError, first_line
from utils.files import remove_leftovers, write_text
from utils.lock import alone
from utils.run_folder import CONFIG, CONTENT, EPOCHS, LABELS, LAST, LOG, PREV, SEPARATOR, SPLIT, SUMMARY, TEST_SCORES
from utils.tracking import build_trackers
from utils.trainer import Trainer
from utils.utils import choose_device, keep_freed_memory, make_run_folder, seed_everything, seed_for

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

log = logging.getLogger(__name__)

# What a resumed run may change: it decides where and how fast the run goes, not what it computes.
_MAY_CHANGE = {
    "trainer": "device batch_size_val batch_size_test num_workers n_epochs early_stop compile cache_on_device "
    "save_every_minutes max_minutes",
    "data": "output_dir hash_path num_workers multi_threading backend max_bad_share",
    "callbacks": "neptune_logger neptune_mode neptune_project model_checkpoint_verbose",
    "paths": "data_dir demo_dir runs_dir",
    "augmentation": "background_dir",
    "agent": "lr_verbose",
}


def load(options: argparse.Namespace) -> Config:
    """The config of a new run, or that of the run to resume with what was changed since.

    Raises:
        ConfigError: with every problem; for a resumed run also the keys that cannot change.
        DataError: there is no such run.
    """
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) and not options.resume:
        raise UserError(
            "torchrun started again after an error, which would begin a new run; go on with --resume RUN_DIR"
        )
    if not options.resume:
        return load_config(options.config or Path(CONFIG), options.overrides, check_choices)
    if not (options.resume / CONFIG).is_file():
        raise DataError(f"{options.resume}: no run is there; --resume takes a folder with a {CONFIG}")
    check = partial(check_choices, fetch=not _has_checkpoint(options.resume))
    config = load_config(options.resume / CONFIG, options.overrides, check)
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
    """Those of ``utils.config.differences`` that a run which has begun cannot take."""
    return [change for change in changes if change[1] not in _MAY_CHANGE.get(change[0], "").split()]


def is_finished(folder: Path, config: Config) -> bool:
    """Whether the run has its summary, and is not to be made longer now; says so."""
    before, now = load_config(folder / CONFIG).trainer, config.trainer
    stops_later = before.early_stop and not 0 < now.early_stop <= before.early_stop
    finished = (folder / SUMMARY).is_file() and not (stops_later or now.n_epochs > before.n_epochs)
    if finished:
        log.info("%s: this run is finished; there is nothing to resume", folder)
    return finished


@contextlib.contextmanager
def processes_of(config: Config) -> Iterator[tuple[Processes, torch.device]]:
    """This process among those of the run and its device, set up for training.

    Raises:
        ConfigError: a batch cannot be shared by so many processes.
    """
    processes, device = join_processes(choose_device(config.trainer.device))
    _check_batch_for(processes, config)
    if not processes.is_main:
        logging.getLogger().setLevel(logging.ERROR)
    if device.type == "cpu":
        keep_freed_memory()
    if config.trainer.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or torch refuses to multiply on a GPU
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # all that is allocated here is written
    yield processes, device
    processes.wait()  # nobody leaves while another still asks; after an error torchrun ends the others


def _check_batch_for(processes: Processes, config: Config) -> None:
    size, world, text = config.trainer.batch_size_train, processes.world, ""
    if size % world:
        text = f"cannot be shared equally by {world} processes; make it a multiple of that"
    elif size == world > 1 and any(getattr(config.mixing, p) for p in PARTNERED):
        text = f"leaves each of {world} processes one window a batch, and [mixing] needs a partner; raise it"
    if text:
        raise ConfigError(Problem(text, "trainer", "batch_size_train", size))


def load_table(config: Config, processes: Processes) -> "pd.DataFrame":
    """The recordings that the config asks for; the main process goes first, as it may have to make a demo."""
    return _main_first(processes, lambda: tables.load_table(config))


def build_and_dry_run(config: Config, table: "pd.DataFrame", resume: Path | None = None) -> nn.Module:
    """Build the model and show it an empty batch, so that a misfit costs seconds and not hours of preparation.

    Args:
        resume: the run to go on with, if there is one: its checkpoint brings the weights.
    """
    model = _model(config, len(tables.class_labels(table)), fetch=not _has_checkpoint(resume))
    dry_run(model, (2, *frontend_of(config.model.type).input_shape(config.data_process)))
    return model


def prepare(config: Config, table: "pd.DataFrame", processes: Processes) -> "pd.DataFrame":
    """The metadata of the good recordings, whose spectrograms are in the cache now."""
    preprocessor = AudioPreprocessor(config.data_process, config.data)
    metadata = _main_first(processes, lambda: preprocessor.prepare(table))
    return tables.drop_small_classes(metadata, config.data.min_samples_in_class)


def cache_folder(config: Config) -> Path:
    """Where the spectrograms of the config are."""
    return config.data.output_dir / cache_key(config.data_process)


@contextlib.contextmanager
def open_folder(config: Config, resume: Path | None, processes: Processes) -> Iterator[Path]:
    """The run folder: a new one, whose config.ini is the config, resolved; or that of the run to resume.

    Raises:
        DataError: another process trains the run to resume.
    """
    if not processes.is_main:
        yield processes.from_main(None)
        return
    folder = (resume or make_run_folder(config.paths.runs_dir, config.model.type)).resolve()
    with alone(folder / "run", f"{folder}: another process trains this run; wait for its end, or stop it"):
        remove_leftovers(folder)
        if not resume:
            write_text(folder / CONFIG, to_ini(config))
        log_to_file(folder / LOG)
        yield processes.from_main(folder)


def split(
    config: Config,
    metadata: "pd.DataFrame",
    folder: Path,
    processes: Processes = Processes(),  # noqa: B008 - frozen
) -> "pd.DataFrame":
    """The metadata with the split of each recording in ``split``, and in ``split.csv``.

    A resumed run keeps the split it has; so do all processes but the main one.

    Raises:
        DataError: a recording of the resumed run is no longer there, or has another label now.
    """
    return _main_first(processes, lambda: _split(config, metadata, folder))


def _split(config: Config, metadata: "pd.DataFrame", folder: Path) -> "pd.DataFrame":
    return _known_split(metadata, folder) if (folder / SPLIT).is_file() else _new_split(config, metadata, folder)


def _known_split(metadata: "pd.DataFrame", folder: Path) -> "pd.DataFrame":
    """The split of a run that has begun, if its recordings are what they were."""
    path, known = folder / SPLIT, _read_known(folder / SPLIT, ["filename", "label", "split"])
    if missing := sorted(set(known.index) - set(metadata["filename"])):
        raise DataError(
            f"{path}: {len(missing)} recordings of this run are gone or bad now, the first is "
            f"{missing[0]}; bring them back or start a new run"
        )
    if strange := sorted(set(known["split"]) - set(SPLITS)):
        raise DataError(f"{path}: damaged: a split {strange[0]!r}; mend it or start a new run")
    kept = metadata[metadata["filename"].isin(known.index)].reset_index(drop=True)
    labels, before = kept["labels"].map(SEPARATOR.join), kept["filename"].map(known["label"])
    if (changed := labels != before).any():
        name, was, now = (column[changed].iloc[0] for column in (kept["filename"], before, labels))
        raise DataError(
            f"{path}: {changed.sum()} recordings have another label in the table now, the first is "
            f"{name}, {was!r} in this run and {now!r} there; bring the table back or start a new run"
        )
    if (folder / CONTENT).is_file():  # runs of before have none
        digests = kept["filename"].map(_read_known(folder / CONTENT, ["filename", "digest"])["digest"])
        if (changed := kept["digest"] != digests).any():
            raise DataError(
                f"{folder / CONTENT}: {changed.sum()} recordings are not those that this run began with, the first is "
                f"{kept['filename'][changed].iloc[0]}; bring them back or start a new run"
            )
    return kept.assign(split=kept["filename"].map(known["split"]))


def _read_known(path: Path, columns: list[str]) -> "pd.DataFrame":
    """A table of the run folder, by filename."""
    import pandas as pd

    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)[columns].set_index("filename")
    except (ValueError, KeyError):  # of pandas: empty, not a table, not UTF-8; or a column is missing
        raise DataError(f"{path}: damaged: no table of {', '.join(columns)}; mend it or start a new run") from None


def _new_split(config: Config, metadata: "pd.DataFrame", folder: Path) -> "pd.DataFrame":
    import pandas as pd

    metadata = keep_quietest(metadata.assign(split=_splits(config, metadata)), config.data.keep_quietest)
    labels = tables.class_labels(metadata)
    table = pd.DataFrame(
        {
            "filename": metadata["filename"],
            "label": metadata["labels"].map(SEPARATOR.join),
            "group": metadata["group"],
            "split": metadata["split"],
        }
    )
    content = metadata[["filename", "digest"]]
    for name, frame in ((LABELS, tables.class_names(metadata, labels)), (CONTENT, content), (SPLIT, table)):
        write_text(folder / name, frame.to_csv(index=False, lineterminator="\n"))
    _warn_of_strangers(metadata, labels, config.labels.secondary)
    counts = metadata["split"].value_counts()
    log.info(
        "%d classes; %s", len(labels), ", ".join(f"{counts.get(split, 0)} recordings for {split}" for split in SPLITS)
    )
    empty = int(((metadata["split"] == "train") & (metadata["labels"].map(len) == 0)).sum())
    if empty and config.agent.loss == "cross_entropy":
        log.warning(
            "[agent] loss = cross_entropy learns nothing from %d recordings without a bird; bce does, or make them a "
            "class by [labels] nocall = true", empty,
        )  # fmt: skip
    return metadata


def _warn_of_strangers(metadata: "pd.DataFrame", labels: list[str], secondary: str) -> None:
    behind = {label for names in metadata["secondary_labels"] for label in names}
    if secondary != "ignore" and behind and behind.isdisjoint(labels):
        log.warning(
            "[labels] secondary = %s changes nothing: no species in the background, such as %s, is a class; a class is "
            "written as %s", secondary, min(behind), labels[0],
        )  # fmt: skip


def _splits(config: Config, metadata: "pd.DataFrame") -> list[str]:
    """The split of each recording of a new run."""
    data = config.data
    if data.folds:
        return ["test" if fold == data.fold else "train" for fold in deal_into_folds(metadata, data.folds)]
    return split_by_group(
        metadata, train_ratio=data.train_ratio, test_val_ratio=data.test_val_ratio, seed=config.trainer.seed
    )


def build_trainer(
    config: Config, model: nn.Module, metadata: "pd.DataFrame", folder: Path, device: torch.device, processes: Processes
) -> Trainer:
    """The trainer with all its objects, at the beginning of the run or where it was stopped."""
    labels = tables.class_labels(metadata)
    subsets = build_subsets(config, metadata, labels, device, processes)
    if subsets["val"] is None:
        _check_that_nothing_follows_validation(config)
    if model.n_classes != len(labels):  # some classes of the rehearsal had too few good recordings
        model = _model(config, len(labels), fetch=not _has_checkpoint(folder))
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
        log.warning("[callbacks] model_checkpoint = false: the last epoch, not the best, is scored and predicted with")
    if _has_checkpoint(folder):
        trainer.resume()
    if processes.is_main:
        trainer.trackers = build_trackers(config.callbacks, folder, config, keep_epochs=trainer.progress.epoch - 1)
    return trainer


def _check_that_nothing_follows_validation(config: Config) -> None:
    """What a share of 0 in the config rules out is known there; that of groups too few or too large is known here."""
    agent, text = config.agent, "no group of recordings is left for it; lower [data] train_ratio, or {}"
    if config.trainer.early_stop:
        why = f"watches a validation score, and {text.format('set it to 0')}"
        raise ConfigError(Problem(why, "trainer", "early_stop", config.trainer.early_stop))
    if agent.lr_decay and agent.lr_decay_type == "plateau":
        why = f"follows the validation loss, and {text.format('choose another')}"
        raise ConfigError(Problem(why, "agent", "lr_decay_type", "plateau"))


def train(config: Config, trainer: Trainer, metadata: "pd.DataFrame", folder: Path) -> None:
    """Train until the last epoch and summarise; whatever happens, the trackers send what they have.

    Raises:
        Stopped, UserError: as of ``Trainer.fit``; or a process that reads batches has died.
    """
    try:
        if trainer.processes.is_main:  # now that nothing refuses to go on
            (folder / SUMMARY).unlink(missing_ok=True)  # of a finished run that is made longer: it has to finish again
            write_text(folder / CONFIG, to_ini(config))
        trainer.fit()
        summarise(trainer, metadata, folder)
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise UserError(
            f"a process that reads batches has died ({first_line(error)}), most likely for want of memory or of room "
            "in /dev/shm; lower [trainer] num_workers, or set it to 0, and --resume the run"
        ) from None
    finally:
        for tracker in trainer.trackers:
            tracker.close()


def summarise(trainer: Trainer, metadata: "pd.DataFrame", folder: Path) -> None:
    """Score the test subset with the checkpoint that is kept; write ``test_scores.csv`` and ``summary.json``."""
    test, of_recordings = trainer.test()
    if not trainer.processes.is_main:
        return
    if of_recordings is not None:
        table = _score_table(trainer, of_recordings)
        write_text(folder / TEST_SCORES, table.to_csv(float_format="%.9g", lineterminator="\n"))  # as fine as a float32
    counts = metadata["split"].value_counts()
    epoch = trainer.scored_epoch
    validation = _row_of(folder, epoch)
    summary = {
        "best_epoch": epoch,
        **{name: validation.get(name) for name in ("val_loss", "val_macro_auc", "val_top1", "val_cmap")},
        **test,
        "n_classes": len(trainer.card["labels"]),
        **{f"n_{split}": int(counts.get(split, 0)) for split in SPLITS},
        "seconds": round(trainer.seconds, 1),
        "audio_hours": round(float(metadata["seconds"].sum()) / 3600, 4),
    }
    for tracker in trainer.trackers:
        tracker.log_summary(summary)
    told = ", ".join(f"{name} {value:.4f}" for name, value in test.items() if value is not None)
    log.info("test: %s (the weights of epoch %s)", told or "no test subset", epoch)


def _score_table(trainer: Trainer, of_recordings: "np.ndarray") -> "pd.DataFrame":
    """The scores of the test subset, a row a recording and a column a class."""
    import pandas as pd

    filenames = pd.Index(trainer.test_subset.filenames, name="filename")
    return pd.DataFrame(of_recordings, index=filenames, columns=trainer.card["labels"])


def tell(processes: Processes, line: str) -> int:
    """Print the result, once for all processes; return the exit code, 0."""
    if processes.is_main:
        print(line)
    return 0


def _main_first(processes: Processes, work):
    """The main process works while the others wait, and then find it done."""
    result = work() if processes.is_main else None
    processes.wait()
    return work() if result is None else result


def _has_checkpoint(folder: Path | None) -> bool:
    return folder is not None and any((folder / name).exists() for name in (LAST, PREV))


def _model(config: Config, n_classes: int, *, fetch: bool) -> nn.Module:
    seed_everything(seed_for(config.trainer.seed, "model"))
    size, testing = image_size(config.data_process), config.testing.testing
    model = build_model(config.model, n_classes, image_size=size, testing=testing, fetch=fetch)
    model.n_classes = n_classes
    return model


def _card(config: Config, metadata: "pd.DataFrame", labels: list[str]) -> ModelCard:
    """What a checkpoint says beside the weights."""
    names = tables.class_names(metadata, labels)
    return ModelCard(
        model=config.model,
        labels=tuple(labels),
        scientific_names=tuple(names["scientific_name"]),
        common_names=tuple(names["common_name"]),
        process=config.data_process,
        standardize_over=config.data.standardize_over,
    )


def _row_of(folder: Path, epoch: int | None) -> dict[str, object]:
    """What was told of an epoch."""
    rows = [json.loads(line) for line in (folder / EPOCHS).read_text(encoding="utf-8").splitlines()]
    return next((row for row in rows if row["epoch"] == epoch), {})
