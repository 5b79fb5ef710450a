"""How are recordings prepared once, and found in the cache ever after? The result is the table of the good ones.

``python -m dataloader.data_preprocess`` prepares the data of a config without training; with
``--verify`` it reads every entry and compares its checksum.
"""

import argparse
import contextlib
import fnmatch
import functools
import logging
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from dataloader.audio.errors import too_short
from dataloader.audio.verdicts import reader, verdict_holds
from dataloader.cache import entries as cache
from dataloader.cache.prepare import Job, Spectrograms, Stage, prepare
from dataloader.cache.space import check_space
from dataloader.cache.workers import run_jobs
from dataloader.encoders.embed import Embeddings
from dataloader.encoders.table import is_encoder, settle
from dataloader.metadata import load_table
from dataloader.tables.duplicates import CONTENT, IDENTITY, SOUND, find_duplicates, merge_duplicates
from utils.command import run_command
from utils.config import load_config
from utils.errors import DataError, counted
from utils.files import holds, keep_text, must_be_writable, remove_leftovers
from utils.settings import Config, Data, DataProcess

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

_INDEX_EVERY_S = 10.0  # a power cut loses these rows of the index, but not the entries


class AudioPreprocessor:
    """Prepares each recording once, and later finds it in the cache.

    Args:
        process: how a waveform becomes a spectrogram, and how much of each recording is read.
        data: the folder of the cache, and the number of workers.
        stage: what to make in place of spectrograms, such as ``dataloader.encoders.embed.Embeddings``.
    """

    def __init__(self, process: DataProcess, data: Data, stage: Stage | None = None):
        self.process, self.data, self.stage = process, data, stage or Spectrograms(process)
        self.key = self.stage.key()
        self.folder = data.output_dir / self.key

    def prepare(self, table: "pd.DataFrame", *, is_shard: bool = False) -> "pd.DataFrame":
        """Update the cache and return the table of the good recordings.

        Args:
            table: of ``dataloader.metadata.load_table``.
            is_shard: the table has only a share of the recordings, so that it does not show whether too many are bad.

        Returns:
            The rows of the good recordings, with ``entry`` (path of the .npy), ``frames`` (of the
            spectrogram), ``samples`` and ``seconds`` (of the whole recording), ``missing_samples`` (which its
            header states beyond its end) and ``digest`` (of the content).

        Raises:
            DataError: too many recordings are bad, or the cache would not fit on the disk.
        """
        if self.data.hash_path.is_dir():  # reported before the work, not after it
            raise DataError(f"[data] hash_path = {self.data.hash_path}: a folder; name a file")
        if not holds(self.data.hash_path, self.key + "\n"):
            try:
                must_be_writable(self.data.hash_path)
            except DataError as error:
                raise DataError(f"[data] hash_path: {error}") from None
        self.folder.mkdir(parents=True, exist_ok=True)
        keep_text(self.folder / cache.SETTINGS, cache.settings_text(self.stage.settings()))
        self._remove_leftovers()
        allowed_bad = math.inf if is_shard else self.data.max_bad_share * len(table)
        try:
            records = self._bring_up_to_date(table, allowed_bad)
        except OSError as error:  # a failing write does not name the file
            error.filename = error.filename or str(self.folder)
            raise
        self._check_bad_share(table, records, allowed_bad)
        metadata = self._handle_duplicates(self._good(table, records))
        self.data.hash_path.parent.mkdir(parents=True, exist_ok=True)
        keep_text(self.data.hash_path, self.key + "\n")
        return metadata

    def _bring_up_to_date(self, table: "pd.DataFrame", allowed_bad: float) -> dict[str, cache.Record]:
        """The record of every recording of the table, after preparing those that are not prepared."""
        index = cache.read_index(self.folder)
        entries = _entry_sizes(self.folder)
        records, jobs, again = {}, [], 0
        expansions = table["time_expansion"] if "time_expansion" in table else [1.0] * len(table)
        for filename, path, expansion in zip(table["filename"], table["path"], expansions, strict=True):
            record = index.get(filename)
            if not record or not _is_unchanged(record, path):
                jobs.append(Job(filename, path, time_expansion=expansion))
            elif self._is_current(record, expansion, entries):
                records[filename] = record
            else:
                jobs.append(Job(filename, path, record.digest, expansion))
                again += not verdict_holds(record.reader, is_good=not record.reason)
        if again:
            why = "an earlier version of this program checked them, or one without the package av"
            log.info("%s checked again, once: %s", counted(again, "recording is", "recordings are"), why)
        if jobs:
            if new := [job for job in jobs if cache.entry_name(job.filename) not in entries]:
                check_space(new, self.stage, self.process.max_recording_s, self.folder)
            self._run(jobs, records, allowed_bad)
        return {filename: self._judged(record) for filename, record in records.items()}

    def _judged(self, record: cache.Record) -> cache.Record:
        """The record after applying ``min_recording_s``, which the index and the entries do not depend on."""
        short = too_short(record.seconds, self.data.min_recording_s, "[data] min_recording_s =")
        if record.reason or not short:
            return record
        return replace(record, reason=short.reason, detail=short.detail)

    def _is_current(self, record: cache.Record, time_expansion: float, entries: dict[str, int]) -> bool:
        """Whether preparing an unchanged recording again would have the same result."""
        if record.time_expansion != time_expansion or not verdict_holds(record.reader, is_good=not record.reason):
            return False
        expected = cache.entry_size(self.stage.n_features, record.frames)
        return bool(record.reason) or entries.get(cache.entry_name(record.filename)) == expected

    def _run(self, jobs: Sequence[Job], records: dict[str, cache.Record], allowed_bad: float) -> None:
        """Do the jobs, add their records, and update the index."""
        n_workers = min(self.data.num_workers, len(jobs))
        stage = self.stage.ready() if isinstance(self.stage, Spectrograms) else self.stage
        results = run_jobs(
            functools.partial(prepare, folder=self.folder, stage=stage),
            jobs,
            n_workers=n_workers,
            threads=self.data.multi_threading,
            backend=self.data.backend,
            died=_crashed,
        )
        new, bad, seconds, saved_at = {}, 0, 0.0, time.monotonic()
        log.info("preparing %s with %s", counted(len(jobs), "recording"), counted(n_workers, "worker"))
        try:
            with (
                contextlib.closing(results),
                tqdm(total=len(jobs), unit="rec", desc="preparing", disable=None, dynamic_ncols=True) as bar,
            ):
                for record in results:
                    new[record.filename] = records[record.filename] = record
                    bad += bool(self._judged(record).reason)
                    seconds += record.seconds
                    bar.set_postfix_str(f"{seconds / 3600:.2f} h of audio", refresh=False)
                    bar.update()
                    if time.monotonic() - saved_at > _INDEX_EVERY_S:
                        self._save(new)
                        saved_at = time.monotonic()
                    if bad > allowed_bad and bad > 10:  # probably the wrong folder: fail now, not after hours
                        break
        finally:
            self._save(new)

    def _save(self, new: dict[str, cache.Record]) -> None:
        # The index is read again, because another process may have added recordings.
        cache.write_index(self.folder, cache.read_index(self.folder) | new)

    def _check_bad_share(self, table: "pd.DataFrame", records: dict[str, cache.Record], allowed_bad: float) -> None:
        bad = [record for record in records.values() if record.reason]
        paths = dict(zip(table["filename"], table["path"], strict=True))
        listed = cache.write_bad(self.folder, ((paths[r.filename], r.reason, r.detail) for r in bad))
        if not bad:
            return
        if len(bad) > allowed_bad:
            raise DataError(
                f"{listed}: {len(bad)} of {len(table)} recordings are bad (the first: {paths[bad[0].filename]}: "
                f"{bad[0].reason}), more than [data] max_bad_share = {self.data.max_bad_share:g}; correct or remove "
                "them, or raise it"
            )
        left_out = counted(len(bad), "bad recording is", "bad recordings are")
        log.warning("%s left out; see %s for the reasons", left_out, listed)

    def _good(self, table: "pd.DataFrame", records: dict[str, cache.Record]) -> "pd.DataFrame":
        is_good = table["filename"].map(lambda name: not records[name].reason).astype(bool)
        good = table[is_good].reset_index(drop=True)
        rows = [records[name] for name in good["filename"]]
        for line in self.stage.warnings(rows):
            log.warning("%s", line)
        return good.assign(
            entry=[str(cache.entry_path(self.folder, row.filename)) for row in rows],
            frames=[row.frames for row in rows],
            samples=[row.source_frames for row in rows],
            seconds=[row.seconds for row in rows],
            missing_samples=[row.missing for row in rows],
            digest=[row.digest for row in rows],
        )

    def _handle_duplicates(self, metadata: "pd.DataFrame") -> "pd.DataFrame":
        drop = self.data.duplicates == "drop"
        compares = drop and isinstance(self.stage, Spectrograms)  # embeddings of one species are similar
        duplicates = find_duplicates(metadata, self.stage.n_features if compares else 0)
        listed = cache.write_duplicates(self.folder, duplicates)
        if not duplicates:
            return metadata
        rules = Counter(rule for _, _, rule in duplicates)
        kinds = {CONTENT: "with equal bytes", SOUND: "with equal sound", IDENTITY: "with the same archive number"}
        log.warning(
            "%s of an earlier one (%s) %s; listed in %s",
            counted(len(duplicates), "recording is a copy", "recordings are copies"),
            ", ".join(f"{count} {kinds[rule]}" for rule, count in rules.items()),
            "left out" if drop else "kept, in one subset ([data] duplicates = drop leaves copies out)",
            listed,
        )
        return merge_duplicates(metadata, duplicates, drop=drop)

    def _remove_leftovers(self) -> None:
        for folder, _, _ in os.walk(self.folder):
            remove_leftovers(Path(folder))

    def verify(self) -> Iterator[str]:
        """Read every entry; yield a line for each that is damaged (it is removed) or missing.

        Raises:
            DataError: there is no such cache.
        """
        if not (self.folder / cache.SETTINGS).is_file():
            raise DataError(f"{self.folder}: no cache of these settings; prepare it first, or check [data] output_dir")
        known = (record for record in cache.read_index(self.folder).values() if not record.reason)
        names = {*_entry_sizes(self.folder), *(cache.entry_name(record.filename) for record in known)}
        for path in tqdm([self.folder / name for name in sorted(names)], unit="rec", desc="verifying", disable=None):
            if not path.is_file():
                yield f"{path}: missing, or not a file; the next start makes it again"
                continue
            try:
                cache.check_entry(path)
            except cache.DamagedEntry as error:
                path.unlink()
                yield f"{error}; removed, and the next start makes it again"


def _is_unchanged(record: cache.Record, path: str) -> bool:
    """Whether a recording has the size and the time that it had when it was indexed."""
    try:
        stat = os.stat(path)
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (record.size, record.mtime_ns)


def stage_of(config: Config) -> Stage:
    """The stage that prepares recordings for the model of a config.

    Raises:
        UserError: its encoder is not available.
    """
    if not is_encoder(config.model.type):
        return Spectrograms(config.data_process)
    return Embeddings(config.model, config.data_process)


def _crashed(job: Job) -> cache.Record:
    stat = os.stat(job.path)
    judged = {"reason": "crashed", "detail": "the process that decoded it died", "reader": reader()}
    return cache.Record(
        job.filename, stat.st_size, stat.st_mtime_ns, "", 0, 0, 0, time_expansion=job.time_expansion, **judged
    )


def _entry_sizes(folder: Path) -> dict[str, int]:
    """The size of every entry in a cache folder, by ``<label>/<recording>.npy``."""
    sizes = {}
    for parent, _, names in os.walk(folder, followlinks=True):
        below = os.path.relpath(parent, folder)
        for name in fnmatch.filter(names, "*.npy"):
            with contextlib.suppress(FileNotFoundError):  # a broken link
                entry = os.path.normpath(os.path.join(below, name)).replace(os.sep, "/")
                sizes[entry] = os.path.getsize(os.path.join(parent, name))
    return sizes


def prune(output_dir: Path, keep: str, *, remove: bool) -> list[str]:
    """A line for each cache of other settings below ``output_dir``; ``remove`` removes them."""
    lines = []
    for folder in sorted(output_dir.glob("*/")):
        if folder.name != keep and (folder / cache.SETTINGS).is_file():
            gigabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9
            lines.append(f"{folder}: {gigabytes:.2f} GB{', removed' if remove else ''}")
            if remove:
                _remove_cache(folder)
    return lines


def _remove_cache(folder: Path) -> None:
    """Remove a cache; the file that marks it is removed last, so that an interrupted removal is found again."""
    if folder.is_symlink():
        folder.unlink()
        return
    for path in sorted(folder.iterdir(), key=lambda path: path.name == cache.SETTINGS):
        path.unlink() if path.is_symlink() or not path.is_dir() else shutil.rmtree(path)
    folder.rmdir()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dataloader.data_preprocess", description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, default=Path("config.ini"))
    parser.add_argument("--set", dest="overrides", metavar="section.key=value", action="append", default=[])
    task = parser.add_mutually_exclusive_group()
    task.add_argument("--shard", type=_shard, default=(1, 1), metavar="i/n", help="prepare only the i-th of n shares")
    task.add_argument("--verify", action="store_true", help="read every entry and compare its checksum")
    task.add_argument("--prune", action="store_true", help="list the caches of other settings")
    parser.add_argument("--yes", action="store_true", help="with --prune: remove them")
    options = parser.parse_args(arguments)
    if options.yes and not options.prune:
        parser.error("--yes needs --prune")
    return options


def _shard(text: str) -> tuple[int, int]:
    number, _, total = text.partition("/")
    if not (number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
        raise argparse.ArgumentTypeError(f"{text!r} is not i/n with 1 <= i <= n, such as 2/8")
    return int(number), int(total)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = parse(arguments)
    config = settle(load_config(options.config, options.overrides))
    preprocessor = AudioPreprocessor(config.data_process, config.data, stage_of(config))
    if options.verify:
        damaged = 0
        for line in preprocessor.verify():
            print(line, flush=True)
            damaged += 1
        print(f"verified: {preprocessor.folder}: {damaged} damaged")
        return 1 if damaged else 0
    if options.prune:
        lines = prune(config.data.output_dir, preprocessor.key, remove=options.yes)
        print("\n".join(lines) or "no caches of other settings")
        return 0
    number, total = options.shard
    preprocessor.prepare(load_table(config).iloc[number - 1 :: total].reset_index(drop=True), is_shard=total > 1)
    if total > 1:
        text = "share %d of %d is done; after all are done, start without --shard to list bad recordings and duplicates"
        log.info(text, number, total)
    print(f"prepared: {preprocessor.folder}")
    return 0


if __name__ == "__main__":
    run_command(main)
