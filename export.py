"""Export a trained run to ONNX (one file) or OpenVINO (.xml and .bin): predict.py takes it in the run's place."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from inference.choices import EXPORT_FORMATS
from utils.command import run_command


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, metavar="RUN_DIR", help="the run, or one of its checkpoints")
    parser.add_argument("--to", choices=EXPORT_FORMATS, required=True)
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: beside the checkpoint, .onnx or .xml")
    parser.add_argument(
        "--audio",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="recordings to compare with; default: some of the run's own",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    from inference import export  # it imports torch, which takes seconds: not for --help
    from inference.checkpoints import checkpoint_of

    checkpoint = checkpoint_of(options.run)
    output = export.output_path(checkpoint, options.to, options.output)
    batches = export.real_batches(checkpoint, options.audio)
    difference = export.export_checkpoint(checkpoint, options.to, output, batches)
    print(f"largest difference of a logit: {difference:.2g}")
    print(f"exported: {output}")
    return 0


if __name__ == "__main__":
    run_command(main)
