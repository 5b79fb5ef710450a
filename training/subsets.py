"""What are the subsets train, val and test, as the loop uses them, and the transform of their batches?"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from dataloader.batches.background import load_background
from dataloader.batches.balance import Balance
from dataloader.batches.dataset import Batch, EpochBatches, Loader, WindowDataset
from dataloader.batches.device_cache import DeviceBatches, fits_on
from dataloader.batches.embeddings import embedding_process, pool_windows
from dataloader.batches.images import ImageTransform
from dataloader.batches.timed import training_windows
from dataloader.batches.waveforms import WaveformTransform
from dataloader.batches.windows import make_windows
from dataloader.metadata import NOCALL
from dataloader.tables.schema import WEIGHT
from dataloader.tables.splits import SPLITS
from factory.frontend import EMBEDDINGS, frontend_of
from training.mixer import Mixer
from utils.distributed import Processes
from utils.errors import DataError
from utils.settings import Config
from utils.trainer import Subset

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def build_subsets(
    config: Config,
    metadata: "pd.DataFrame",
    labels: list[str],
    device: torch.device,
    processes: Processes = Processes(),  # noqa: B008 - frozen
) -> dict[str, Subset | None]:
    """The subsets of the column ``split`` of ``metadata``; None for one without recordings.

    Raises:
        DataError: there is no recording to train on.
    """
    read = reader_for(config, metadata, device)
    subsets = {split: _subset(config, metadata, split, labels, read, processes) for split in SPLITS}
    if subsets["train"] is None:
        raise DataError("no recording is left to train on; raise [data] train_ratio or add recordings")
    return subsets


def build_transform(config: Config, metadata: "pd.DataFrame", labels: list[str]) -> ImageTransform | WaveformTransform:
    """The transform of a batch into the model's input and targets, with [augmentation] and [mixing].

    Raises:
        DataError: none of the background recordings can be used.
    """
    frontend, seed = frontend_of(config.model.type), config.trainer.seed
    augmenter = frontend.augmenter(config.augmentation, config.data_process, seed, _background(config, metadata))
    nocall_index = labels.index(NOCALL) if NOCALL in labels else None
    shares = config.agent.loss == "cross_entropy"
    mixer = Mixer(config.mixing, seed, config.labels.smoothing, nocall_index, shares=shares)
    options = {"pool": config.model.pool, "seed": seed} if frontend is EMBEDDINGS else {}
    return frontend.transform(config.data_process, config.data.standardize_over, augmenter, mixer, **options)


def reader_for(config: Config, metadata: "pd.DataFrame", device: torch.device) -> Callable[..., Iterable[Batch]]:
    """The reader of the batches of a subset: from the memory of the device if all subsets fit, or from disk."""
    settings = config.trainer
    n_bytes = 2 * config.data_process.n_mels * int(metadata["frames"].sum())
    if frontend_of(config.model.type).sees_images and fits_on(device, n_bytes, settings.cache_on_device):
        return partial(DeviceBatches, device=device)
    return partial(Loader, num_workers=settings.num_workers, pin_memory=device.type == "cuda")


def _subset(
    config: Config, metadata: "pd.DataFrame", split: str, labels: list[str],
    read: Callable[..., Iterable[Batch]], processes: Processes,
) -> Subset | None:  # fmt: skip
    """The subset with this name, whose batches ``read`` reads; None if it has no recordings."""
    chosen = metadata[metadata["split"] == split].reset_index(drop=True)
    if chosen.empty:
        return None
    settings, data, training = config.trainer, config.data, split == "train"
    crop = training and config.augmentation.crops
    process, overlap_s = config.data_process, data.min_overlap_s
    embeddings = frontend_of(config.model.type) is EMBEDDINGS
    if embeddings:
        process = embedding_process(process)
    each = training_windows(chosen, labels, process, data, crop=crop) if training else make_windows(chosen, process)
    windows = pool_windows(each, chosen, config.model.pool, training=training) if embeddings else each
    rules = config.labels if training else None
    dataset_of = partial(frontend_of(config.model.type).dataset, chosen)
    dataset = dataset_of(windows, labels, process, rules, min_overlap_s=overlap_s)
    balance = _balance(config, dataset, chosen) if training else None
    order = EpochBatches(
        balance.n_rows if balance else len(dataset),
        getattr(settings, f"batch_size_{split}"),
        seed=settings.seed,
        shuffle=training and data.shuffle,
        training=training,
        crop=crop,
        rows_of=balance.rows if balance else None,
        rank=processes.rank,
        world=processes.world,
    )
    subset = Subset(
        batches=read(dataset, order), order=order, filenames=dataset.filenames, targets=dataset.targets,
        timed=dataset.timed,
    )  # fmt: skip
    if split != "test" or not embeddings or config.model.pool == "windows" or not dataset.timed.any():
        return subset
    each = each[dataset.timed[each["recording"].to_numpy()]].reset_index(drop=True)
    apart = dataset_of(each, labels, process, min_overlap_s=overlap_s)
    order = EpochBatches(len(apart), settings.batch_size_test, rank=processes.rank, world=processes.world)
    by_window = replace(subset, batches=read(apart, order), order=order)
    return replace(subset, by_window=by_window)


def _balance(config: Config, dataset: WindowDataset, training: "pd.DataFrame") -> Balance | None:
    """What balances the classes; None if no setting does."""
    data, weights = config.data, None
    if WEIGHT in training and training[WEIGHT].nunique() > 1:
        weights = training[WEIGHT].to_numpy()
    if not (data.balance_power or data.rare_to or data.class_cap) and weights is None:
        return None
    return Balance(
        dataset.recording,
        training["labels"].tolist(),
        power=data.balance_power,
        rare_to=data.rare_to,
        class_cap=data.class_cap,
        seed=config.trainer.seed,
        weights=weights,
    )


def _background(config: Config, metadata: "pd.DataFrame") -> torch.Tensor | None:
    """The background recordings, without those that are scored; None if none are added."""
    augmentation = config.augmentation
    if not augmentation.adds_background:
        return None
    held_out = metadata.loc[metadata["split"] != "train", "path"].tolist()
    minutes = augmentation.background_minutes
    return load_background(augmentation.background_dir, config.data_process, minutes, held_out)
