"""Train a bird-sound classifier as config.ini says: prepare the recordings, train, score, keep the best."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from utils.command import run_command
from utils.files import must_be_writable
from utils.run_folder import CONFIG


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
    parser.add_argument("--resume", type=Path, metavar="RUN_DIR", help="go on with a run that was stopped")
    parser.add_argument("--prepare-only", action="store_true", help="fill the cache and stop")
    parser.add_argument(
        "--show-config", action="store_true", help="print every setting of the run as an INI file and stop"
    )
    options = parser.parse_args(arguments)
    if options.resume and (options.config or options.prepare_only):
        parser.error("--resume takes the run's own config.ini; --config and --prepare-only do not go with it")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
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
        return print_result(processes, f"run: {folder}")


if __name__ == "__main__":
    run_command(main)
