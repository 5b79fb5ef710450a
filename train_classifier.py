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
    options = parser.parse_args(arguments)
    if options.resume and (options.config or options.prepare_only):
        parser.error("--resume takes the run's own config.ini; --config and --prepare-only do not go with it")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    from dataloader.metadata import check_classes
    from training import steps  # torch and timm take seconds to import: not for --help

    config = steps.load(options)
    if options.resume and steps.is_finished(options.resume, config):
        print(f"run: {options.resume.resolve()}")
        return 0
    if not options.prepare_only:
        must_be_writable((options.resume or config.paths.runs_dir / "a run") / CONFIG)
    with steps.processes_of(config) as (processes, device):
        table = steps.load_table(config, processes)
        model = steps.build_and_dry_run(config, table, options.resume)
        metadata = steps.prepare(config, table, processes)
        if options.prepare_only:
            return steps.tell(processes, f"prepared: {steps.cache_folder(config)}")
        check_classes(metadata, config.agent.loss)
        with steps.open_folder(config, options.resume, processes) as folder:
            metadata = steps.split(config, metadata, folder, processes)
            trainer = steps.build_trainer(config, model, metadata, folder, device, processes)
            steps.train(config, trainer, metadata, folder)
        return steps.tell(processes, f"run: {folder}")


if __name__ == "__main__":
    run_command(main)
