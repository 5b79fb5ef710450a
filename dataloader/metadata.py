"""How does any layout of recordings and labels become one checked table, and which classes does it have?

``python -m dataloader.metadata --check`` prints what the program understood of the data of a config, and warnings;
``--check --audio`` also measures each recording.
"""

import argparse
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dataloader.tables import schema
from dataloader.tables.birdclef import AUDIO as AUDIO_FOLDERS
from dataloader.tables.groups import choose_groups
from dataloader.tables.schema import NOCALL
from dataloader.tables.sources import join_sources, read_source, sources_of
from dataloader.tables.write import write_understood
from utils.errors import DataError, counted
from utils.run_folder import SPLIT
from utils.settings import Config, Source

if TYPE_CHECKING:  # pandas takes a second to import
    import pandas as pd

log = logging.getLogger(__name__)


def load_table(config: Config) -> "pd.DataFrame":
    """The table of the recordings that a config names.

    ``labels`` contain ``nocall`` only if [labels] ``nocall`` is true, and ``group`` follows [data] ``group_by``. With
    testing on it has some of the classes, or the demo if there are no data.

    Returns:
        One row for each recording, sorted by ``filename``, with the table's own columns and

        * ``path``: of the recording, which may turn out to be unreadable later;
        * ``labels``: tuple of the species in the foreground, usually one; ``nocall`` counts as one;
        * ``secondary_labels``: tuple of those in the background;
        * ``group``: recordings that must be in one subset;
        * and, if the data have them, the columns that ``dataloader.tables.schema`` lists.

    Raises:
        DataError: there are no data and testing is off, or the data cannot be used.
    """
    table = read_sources(_with_demo(config))
    where = str(config.paths.data_dir)
    if not config.labels.nocall:
        table["labels"] = [tuple(label for label in labels if label != NOCALL) for labels in table["labels"]]
    if config.testing.testing:
        total, attrs = len(table), table.attrs
        table = choose_for_testing(table, config.testing.data_samples_for_testing)
        table.attrs = attrs
        if len(table) < total:
            table.attrs = {**attrs, schema.CLASSES: []}
            text = "[testing] testing = true: a trial with the largest classes, %d of %d recordings; false: all of them"
            log.info(text, len(table), total)
    if config.labels.nocall and not any(NOCALL in labels for labels in table["labels"]):
        log.warning("[labels] nocall = true, but no recording is labelled %s, so there is no such class", NOCALL)
    if not table["labels"].map(len).any():
        if schema.ANNOTATIONS in table:
            remedy = "'python -m dataloader.metadata --check' shows what was read"
            raise DataError(f"{where}: no annotation names a species; {remedy}")
        raise DataError(f"{where}: no recording has a species, all are {NOCALL}; add some")
    return table


def read_sources(config: Config) -> "pd.DataFrame":
    """All recordings of the sources of a config, before a trial chooses some of them.

    Raises:
        DataError: a source that cannot be used.
    """
    found = {name: read_source(name, source) for name, source in sources_of(config).items()}
    table = join_sources(found)
    table["group"], source = choose_groups(table, config.data.group_by)
    if config.data.group_by == "author":
        table["group"], source = author_groups(table, config.paths.data_dir), "the author ([data] group_by = author)"
    layouts = {understood.layout for _, understood in found.values()}
    if layouts != {"birdclef"}:
        log.info("groups, which are kept in one subset: %s; [data] group_by chooses others", source)
    table = table.drop(columns="where").sort_values("filename", ignore_index=True)
    if layouts != {"birdclef"} or len(found) > 1:
        write_understood(table, config.data.output_dir)
    return table


def read_metadata(data_dir: Path) -> "pd.DataFrame":
    """Read a data set in the BirdCLEF layout; the columns are those of ``load_table``.

    Raises:
        DataError: there is no table, it is empty, a column is missing, or a cell cannot be read.
    """
    table = join_sources({"": read_source("", Source(data_dir=Path(data_dir), layout="birdclef"))})
    table["group"], _ = choose_groups(table, "group")
    return table.drop(columns="where").sort_values("filename", ignore_index=True)


def existing_paths(config: Config, filenames: Iterable[str]) -> list[Path]:
    """The paths of the recordings of a run, by the ``filename`` of its tables; missing ones are left out."""
    found = []
    folders = [(name, source.data_dir) for name, source in sources_of(config).items() if source.data_dir]
    folders.append(("", config.paths.demo_dir))
    for filename in filenames:
        for name, folder in folders:
            if not filename.startswith(f"{name}/" if name else ""):
                continue
            below = filename.removeprefix(f"{name}/") if name else filename
            candidates = (folder / audio / below for audio in ("", *AUDIO_FOLDERS))
            if path := next((path for path in candidates if path.is_file()), None):
                found.append(path)
                break
    return found


def _with_demo(config: Config) -> Config:
    """The config; or, in a trial whose ``data_dir`` is the default and does not exist, the config of the demo.

    If the user named the folder and it does not exist, this is an error: the name is wrong, or a disk is not mounted.
    """
    data_dir, demo_dir = config.paths.data_dir, config.paths.demo_dir
    if config.sources or data_dir.exists():
        return config
    if not config.testing.testing or not _is_untouched(config):
        remedy = "correct [paths] data_dir, or download data with 'bash download_data.sh'"
        raise DataError(
            f"{data_dir}: no such folder; {remedy}, or make a demo: 'python -m dataloader.demo --output DIR'"
        )
    from dataloader import demo

    log.warning("no data at %s: using synthetic birds at %s", data_dir, demo_dir)
    if not demo.is_there(demo_dir):  # the user may have made one already
        demo.make_demo(demo_dir)
    return replace(config, paths=replace(config.paths, data_dir=demo_dir))


def _is_untouched(config: Config) -> bool:
    """Whether ``data_dir`` is the default of the config's file, or of the file of the run that is resumed."""
    if config.file is None:
        return config.paths.data_dir == type(config.paths)().data_dir
    folder = config.file.parent
    in_run = (folder / SPLIT).is_file() and config.paths.data_dir.name == type(config.paths)().data_dir.name
    return in_run or config.paths.data_dir == folder / type(config.paths)().data_dir


def author_groups(table: "pd.DataFrame", where: Path) -> list[str]:
    """For each recording a group with all recordings of its author and all of its own group.

    In use a classifier meets new recordists, but with a split by place it has been trained on all recordists. A
    recording without an author keeps its group. Authors who share a group count as one.

    Args:
        where: the data folder, for the message.

    Raises:
        DataError: the table has no authors.
    """
    if "author" not in table or not table["author"].str.strip().any():
        raise DataError(
            f"{where}: the data have no authors, which [data] group_by = author needs; set group_by = group"
        )
    names = [author.strip() or group for author, group in zip(table["author"], table["group"], strict=True)]
    joined: dict[str, str] = {}  # a name that shares a group with an earlier one -> that one

    def first(name: str) -> str:
        while name in joined:
            name = joined[name]
        return name

    name_of_group: dict[str, str] = {}
    for name, group in zip(names, table["group"], strict=True):
        earlier, later = first(name_of_group.setdefault(group, name)), first(name)
        if earlier != later:
            joined[later] = earlier
    return [first(name) for name in names]


def choose_for_testing(table: "pd.DataFrame", n_recordings: int) -> "pd.DataFrame":
    """Whole classes, the largest first, until there are at least ``n_recordings`` recordings and two classes."""
    counts = table["primary_label"].value_counts()
    order = sorted(counts.index, key=lambda label: (-counts[label], label))
    chosen, total = [], 0
    for label in order:
        if total >= n_recordings and len(chosen) > 1:
            break
        chosen.append(label)
        total += counts[label]
    return table[table["primary_label"].isin(chosen)].reset_index(drop=True)


def drop_small_classes(table: "pd.DataFrame", min_samples: int) -> "pd.DataFrame":
    """Leave out the classes with fewer than ``min_samples`` recordings, and log which.

    Raises:
        DataError: no class is left.
    """
    counts = table["labels"].explode().value_counts()
    small = {str(label): int(count) for label, count in counts.items() if count < min_samples}
    if not small:
        return table
    named = ", ".join(f"{label} ({count})" for label, count in sorted(small.items()))
    if len(small) == len(counts):
        raise DataError(
            f"no class has {min_samples} good recordings (the largest has {counts.max()}); "
            "lower [data] min_samples_in_class"
        )
    classes = counted(len(small), "class", "classes")
    log.warning("left out: %s with fewer than %d good recordings: %s", classes, min_samples, named)
    left = [tuple(label for label in labels if label not in small) for labels in table["labels"]]
    # A recording that has no label from the beginning (nocall) is an example without any species, and is kept.
    kept = [bool(after) or not before for after, before in zip(left, table["labels"], strict=True)]
    return table.assign(labels=left)[kept].reset_index(drop=True)


def check_classes(table: "pd.DataFrame", loss: str) -> None:
    """Refuse to train with a single class, for which a network would give every sound the same score.

    Args:
        loss: of [agent].

    Raises:
        DataError: there is no recording; or there is one class and all recordings have it; or species should compete
            but there is only one.
    """
    if table.empty:
        raise DataError("no good recording is left; bad_recordings.csv in the cache has the reason of each")
    annotated = schema.ANNOTATIONS in table and table[schema.ANNOTATIONS].notna().any()  # its windows differ
    if table["labels"].nunique() == 1 and not annotated:
        (labels,) = table["labels"].unique()
        which = f"all {len(table):,} recordings are" if len(table) > 1 else "the only recording is"
        raise DataError(
            f"{which} of one class, {', '.join(labels) or NOCALL}, so there is "
            f"nothing to learn; add another species or recordings of {NOCALL}, or lower [data] min_samples_in_class"
        )
    if loss == "cross_entropy" and len(labels := class_labels(table)) == 1:
        raise DataError(
            f"[agent] loss = cross_entropy lets species compete, but {labels[0]} is the only one; choose bce, or make "
            f"recordings without a bird a class with [labels] nocall = true"
        )


def class_labels(table: "pd.DataFrame") -> list[str]:
    """The classes, sorted: the labels of the foreground, and those of the data's own list of classes.

    The number of a class is its index in this list.
    """
    of_recordings = {label for labels in table["labels"] for label in labels}
    return sorted(of_recordings | set(table.attrs.get(schema.CLASSES, ())))


def class_names(table: "pd.DataFrame", labels: Sequence[str]) -> "pd.DataFrame":
    """``label, scientific_name, common_name`` of each class; a name that is unknown is the label."""
    import pandas as pd

    first = table.drop_duplicates("primary_label").set_index("primary_label")
    names = pd.DataFrame({"label": list(labels)})
    of_taxonomy = table.attrs.get(schema.NAMES, {})
    for index, column in enumerate(("scientific_name", "common_name")):
        known = first.get(column, {})
        names[column] = [
            _text(known.get(label)) or _text(of_taxonomy.get(label, ("", ""))[index]) or label for label in labels
        ]
    return names


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


QUALITY = "quality.csv"  # in [data] output_dir: what --check --audio measured


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dataloader.metadata", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--check", action="store_true", required=True, help="print what the program understood of the data"
    )
    parser.add_argument("--audio", action="store_true", help=f"also measure each recording, and write {QUALITY}")
    parser.add_argument("--config", type=Path, default=Path("config.ini"))
    parser.add_argument("--set", dest="overrides", metavar="section.key=value", action="append", default=[])
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = parse(arguments)
    from dataloader.tables.summary import describe_table
    from utils.config import load_config

    config = _with_demo(load_config(options.config, options.overrides))
    table = read_sources(config)
    for line in describe_table(table, config):
        print(line, flush=True)
    if options.audio:
        _measure(table, config)
    return 0


def _measure(table: "pd.DataFrame", config: Config) -> None:
    """Measure the sound of the recordings, and print what the user should know."""
    from dataloader.audio.quality_table import measure_recordings, quality_lines  # torch takes seconds to import

    output = config.data.output_dir / QUALITY
    output.parent.mkdir(parents=True, exist_ok=True)
    data = config.data
    measured = measure_recordings(
        table, output, n_workers=data.num_workers, threads=data.multi_threading, backend=data.backend
    )
    for line in quality_lines(measured):
        print(line, flush=True)
    print(f"measured: {output}", flush=True)


if __name__ == "__main__":
    from utils.command import run_command

    run_command(main)
