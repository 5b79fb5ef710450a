"""Export a trained run to ONNX (one file) or OpenVINO (.xml and .bin); predict.py --run takes the file like a run."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from inference.choices import EXPORT_FORMATS
from utils.command import run_command


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--run", type=Path, required=True, metavar="RUN_DIR", help="the run, or one of its checkpoints")
    add("--to", choices=EXPORT_FORMATS, required=True)
    add("--output", type=Path, metavar="FILE", help="default: beside the checkpoint, with the ending .onnx or .xml")
    add(
        "--audio", type=Path, nargs="+", metavar="PATH",
        help="recordings for the comparison with PyTorch; default: some of the run's own",
    )  # fmt: skip
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
