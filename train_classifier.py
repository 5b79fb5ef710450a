"""Train a bird-sound classifier with the settings of a config file: prepare, train, score, and keep the best epoch."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from utils.arguments import at_least
from utils.command import run_command
from utils.errors import UserError
from utils.files import must_be_writable
from utils.run_folder import CONFIG, FOLDS, REPORT

log = logging.getLogger(__name__)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, help="default: config.ini")
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="section.key=value",
        action="append",
        default=[],
        help="over the file's value",
    )
    parser.add_argument("--resume", type=Path, metavar="RUN_DIR", help="resume a run that was stopped")
    parser.add_argument("--prepare-only", action="store_true", help="fill the cache and stop")
    parser.add_argument(
        "--show-config", action="store_true", help="print every setting of the run as an INI file and stop"
    )
    parser.add_argument("--folds", type=at_least(2), metavar="N", help="train N runs, each tested on another N-th")
    parser.add_argument("--seeds", type=at_least(1), metavar="M", help="with --folds: all of them M times; default: 1")
    options = parser.parse_args(arguments)
    if options.resume and (options.config or options.prepare_only or options.folds):
        parser.error("--resume takes the run's own config.ini; --config, --prepare-only and --folds do not go with it")
    if options.seeds and not options.folds:
        parser.error("--seeds goes with --folds; for one run use --set trainer.seed=")
    if options.folds and (options.prepare_only or options.show_config):
        parser.error("--prepare-only and --show-config need no --folds: all folds share the cache and the settings")
    options.seeds = options.seeds or 1
    return options


def is_folder_of_folds(path: Path | None) -> bool:
    return path is not None and (path / FOLDS).is_file()


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.folds or is_folder_of_folds(options.resume):
        from training.folds import train_folds

        folder = train_folds(options)
        write_page(folder)
        print(f"runs: {folder}")
        return 0
    from dataloader.metadata import check_classes
    from training.build import build_and_dry_run, build_trainer  # torch and timm take seconds to import: not for --help
    from training.environment import open_folder, print_result, processes_of
    from training.fit import train
    from training.recordings import cache_folder, load_table, prepare, split_recordings
    from training.resume import is_finished, load
    from utils.config import to_ini

    config = load(options)
    if options.show_config:
        print(to_ini(config), end="")
        return 0
    if options.resume and is_finished(options.resume, config):
        if not (options.resume / REPORT).exists():  # it was stopped after its last score
            write_page(options.resume)
        print(f"run: {options.resume.resolve()}")
        return 0
    if not options.prepare_only:
        must_be_writable((options.resume or config.paths.runs_dir / "a run") / CONFIG)
    with processes_of(config) as (processes, device):
        table = load_table(config, processes)
        model = build_and_dry_run(config, table, options.resume)
        metadata = prepare(config, table, processes)
        if options.prepare_only:
            return print_result(processes, f"prepared: {cache_folder(config)}")
        check_classes(metadata, config.agent.loss)
        with open_folder(config, options.resume, processes) as folder:
            metadata = split_recordings(config, metadata, folder, processes)
            trainer = build_trainer(config, model, metadata, folder, device, processes)
            train(config, trainer, metadata, folder)
            if processes.is_main:
                write_page(folder, metadata)
        return print_result(processes, f"run: {folder}")


def write_page(folder: Path, metadata=None) -> None:
    """Write the page of a finished run, or of all folds; a failure is only a warning, because the run is complete."""
    from reports.run import write_run_page
    from training.run_page import contents_of

    try:
        write_run_page(folder / REPORT, **contents_of([folder], metadata))
    except (UserError, OSError) as error:
        log.warning("%s: the page of the run could not be written: %s", folder / REPORT, error)


if __name__ == "__main__":
    run_command(main)
