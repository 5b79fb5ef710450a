"""Which recordings does a run use? The table, prepared and split; the run folder keeps the split."""

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from dataloader import metadata as tables
from dataloader.batches.balance import keep_quietest
from dataloader.data_preprocess import AudioPreprocessor, stage_of
from dataloader.tables.checks import beyond_end
from dataloader.tables.few import keep_few
from dataloader.tables.schema import ANNOTATIONS, CLASSES, KNOWN_FOR, UNANNOTATED
from dataloader.tables.splits import SPLITS, deal_into_folds, known_split, split_by_group
from training.earlier_run import earlier_splits, must_leave_a_test
from training.environment import main_first
from utils.distributed import Processes
from utils.errors import DataError, counted
from utils.files import write_text
from utils.run_folder import CONTENT, LABELS, SEPARATOR, SPLIT
from utils.settings import Config

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

TRIAL = "[testing] testing = true: this is a trial on %d recordings; for all of the data: --set testing.testing=false"


def load_table(config: Config, processes: Processes) -> "pd.DataFrame":
    """The recordings that the config names; the main process goes first, because it may have to make a demo."""
    table = main_first(processes, lambda: tables.load_table(config))
    if config.testing.testing:
        log.warning(TRIAL, len(table))
    else:
        log.info("[testing] testing = false: all %d recordings of the data are used", len(table))
    return table


def prepare(config: Config, table: "pd.DataFrame", processes: Processes) -> "pd.DataFrame":
    """Prepare the recordings; return the metadata of the good ones, whose spectrograms are then in the cache."""
    preprocessor = AudioPreprocessor(config.data_process, config.data, stage_of(config))
    metadata = main_first(processes, lambda: preprocessor.prepare(table))
    if processes.is_main and (problem := beyond_end(metadata)):
        log.warning("%s", problem)
    return tables.drop_small_classes(metadata, config.data.min_samples_in_class)


def cache_folder(config: Config) -> Path:
    """The folder of the spectrograms or embeddings of the config."""
    return config.data.output_dir / stage_of(config).key()


def split_recordings(
    config: Config,
    metadata: "pd.DataFrame",
    folder: Path,
    processes: Processes = Processes(),  # noqa: B008 - frozen
) -> "pd.DataFrame":
    """The metadata with the subset of each recording in the column ``split``, which is also in ``split.csv``.

    A resumed run keeps its split; processes other than the main one read it.

    Raises:
        DataError: a recording of the resumed run is missing, or has another label now.
    """
    return main_first(processes, lambda: _split(config, metadata, folder))


def _split(config: Config, metadata: "pd.DataFrame", folder: Path) -> "pd.DataFrame":
    return _known_split(metadata, folder) if (folder / SPLIT).is_file() else _new_split(config, metadata, folder)


def _known_split(metadata: "pd.DataFrame", folder: Path) -> "pd.DataFrame":
    """The split of a run that has begun, if its recordings have not changed."""
    path, known = folder / SPLIT, _read_known(folder / SPLIT, ["filename", "label", "split"])
    if missing := sorted(set(known.index) - set(metadata["filename"])):
        raise DataError(
            f"{path}: {counted(len(missing), 'recording of this run is', 'recordings of this run are')} missing or "
            f"bad now, the first is {missing[0]}; restore them or start a new run"
        )
    if strange := sorted(set(known["split"]) - set(SPLITS)):
        raise DataError(f"{path}: damaged: a split {strange[0]!r}; correct it or start a new run")
    kept = metadata[metadata["filename"].isin(known.index)].reset_index(drop=True)
    labels, before = kept["labels"].map(SEPARATOR.join), kept["filename"].map(known["label"])
    if (changed := labels != before).any():
        name, was, now = (column[changed].iloc[0] for column in (kept["filename"], before, labels))
        raise DataError(
            f"{path}: {counted(changed.sum(), 'recording has', 'recordings have')} another label in the table now, the "
            f"first is {name}, {was!r} in this run and {now!r} there; restore the table or start a new run"
        )
    if (folder / CONTENT).is_file():  # older runs have none
        _check_content(kept, folder / CONTENT)
    kept = kept.assign(split=kept["filename"].map(known["split"]))
    if kept.attrs.get(CLASSES) and (folder / LABELS).is_file():  # the data's list of classes may be newer than the run
        kept.attrs[CLASSES] = _read_known(folder / LABELS, ["label"], by="label").index.tolist()
    return kept


def _check_content(kept: "pd.DataFrame", path: Path) -> None:
    """Refuse recordings that have changed since the run began.

    Raises:
        DataError: the bytes, annotations or background species of a recording differ.
    """
    known = _read_known(path, ["filename", "digest"])
    changes = {"digest": ("recording differs", "recordings differ")}
    if "annotations" in known:  # older runs do not have it
        what = "other annotations, or other species in the background,"
        changes["annotations"] = f"recording has {what}", f"recordings have {what}"
    now = _content_of(kept)
    for column, (one, many) in changes.items():
        if (changed := now[column] != now["filename"].map(known[column])).any():
            raise DataError(
                f"{path}: {counted(int(changed.sum()), one, many)} from what this run began with, the first is "
                f"{now['filename'][changed].iloc[0]}; bring them back or start a new run"
            )


def _content_of(metadata: "pd.DataFrame") -> "pd.DataFrame":
    """A row for each recording: ``filename``, ``digest`` of its bytes, and ``annotations``, a digest of the rest.

    The rest is: the annotations with their times and frequencies, what is not annotated, the species that were
    annotated, and those in the background.
    """
    import pandas as pd

    empty = pd.Series([None] * len(metadata), index=metadata.index, dtype=object)
    columns = (metadata.get(name, empty) for name in (ANNOTATIONS, UNANNOTATED, KNOWN_FOR, "secondary_labels"))
    digests = []
    for found, unannotated, known_for, behind in zip(*columns, strict=True):
        times = [tuple(one) for one in found] if isinstance(found, tuple) else None
        annotations = (times, times is not None and unannotated, known_for, tuple(behind or ()))
        digests.append(hashlib.sha256(repr(annotations).encode()).hexdigest()[:32])
    return metadata[["filename", "digest"]].assign(annotations=digests)


def _read_known(path: Path, columns: list[str], by: str = "filename") -> "pd.DataFrame":
    """A table of the run folder, by one of its columns.

    Raises:
        DataError: it is no table, or lacks one of ``columns``.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        return table[[*columns, *(name for name in table if name not in columns)]].set_index(by)
    except (ValueError, KeyError):  # from pandas: empty, not a table, not UTF-8; or a column is missing
        raise DataError(
            f"{path}: damaged: not a table of {', '.join(columns)}; correct it or start a new run"
        ) from None


def _new_split(config: Config, metadata: "pd.DataFrame", folder: Path) -> "pd.DataFrame":
    import pandas as pd

    metadata = keep_quietest(metadata.assign(split=_splits(config, metadata)), config.data.keep_quietest)
    metadata = keep_few(metadata, config.data.train_per_class, config.trainer.seed)
    labels = tables.class_labels(metadata)
    table = pd.DataFrame(
        {
            "filename": metadata["filename"],
            "label": metadata["labels"].map(SEPARATOR.join),
            "group": metadata["group"],
            "split": metadata["split"],
        }
    )
    content = _content_of(metadata)
    for name, frame in ((LABELS, tables.class_names(metadata, labels)), (CONTENT, content), (SPLIT, table)):
        write_text(folder / name, frame.to_csv(index=False, lineterminator="\n"))
    _warn_of_strangers(metadata, labels, config.labels.secondary)
    counts = metadata["split"].value_counts()
    of_each = ", ".join(f"{counted(int(counts.get(split, 0)), 'recording')} for {split}" for split in SPLITS)
    log.info("%s; %s", counted(len(labels), "class", "classes"), of_each)
    empty = int(((metadata["split"] == "train") & (metadata["labels"].map(len) == 0)).sum())
    if empty and config.agent.loss == "cross_entropy":
        log.warning(
            "[agent] loss = cross_entropy learns nothing from %s without a bird; use bce, or make them a class with "
            "[labels] nocall = true", counted(empty, "recording"),
        )  # fmt: skip
    return metadata


def _warn_of_strangers(metadata: "pd.DataFrame", labels: list[str], secondary: str) -> None:
    behind = {label for names in metadata["secondary_labels"] for label in names}
    if secondary != "ignore" and behind and behind.isdisjoint(labels):
        log.warning(
            "[labels] secondary = %s has no effect: no species in the background, such as %s, is a class; classes "
            "have names such as %s", secondary, min(behind), labels[0],
        )  # fmt: skip


def _splits(config: Config, metadata: "pd.DataFrame") -> list[str]:
    """The subset of each recording of a new run; those of the run of ``weights_path`` keep their subset."""
    earlier = earlier_splits(config, metadata)
    if earlier is None or config.data.folds:
        return _dealt(config, metadata)
    new = metadata[earlier == ""]
    splits = earlier.tolist()
    for position, split in zip((earlier == "").to_numpy().nonzero()[0], _dealt(config, new), strict=True):
        splits[position] = split
    must_leave_a_test(config, splits, earlier)
    return splits


def _dealt(config: Config, metadata: "pd.DataFrame") -> list[str]:
    """The split that the data contain, or one by folds or shares."""
    if metadata.empty:
        return []
    data = config.data
    if (known := known_split(metadata, folds=data.folds, fold=data.fold)) is not None:
        return known
    if data.folds:
        return ["test" if fold == data.fold else "train" for fold in deal_into_folds(metadata, data.folds)]
    return split_by_group(
        metadata, train_ratio=data.train_ratio, test_val_ratio=data.test_val_ratio, seed=config.trainer.seed
    )
