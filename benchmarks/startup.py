"""How long does training take to its first step on a complete cache, compared with importing torch and timm?

    python -m benchmarks.startup [--config config.ini] [--set section.key=value ...]

A run with ``max_minutes`` near 0 stops after its first step; the time includes saving and the end of the process. The
two commands take turns, so that other programs slow down both.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from utils.arguments import at_least
from utils.command import run_command
from utils.errors import UserError

ROOT = Path(__file__).parents[1]
GOAL = 1.7


def seconds(line: list[str]) -> float:
    """How long a command takes.

    Raises:
        UserError: it failed.
    """
    started = time.perf_counter()
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    taken = time.perf_counter() - started
    if done.returncode:
        raise UserError(done.stderr.strip())
    return taken


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, default=ROOT / "config.ini")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--rounds", type=at_least(1), default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as runs:
        settings = ["model.transfer_learning=false", f"paths.runs_dir={runs}", "trainer.max_minutes=0.000001"]
        overrides = [f"--set={setting}" for setting in (*options.overrides, *settings)]
        train = [sys.executable, "train_classifier.py", "--config", options.config.absolute(), *overrides]
        imports = [sys.executable, "-c", "import torch, timm"]
        seconds(train)  # fills the cache of spectrograms and that of the system
        pairs = [(seconds(imports), seconds(train)) for _ in range(options.rounds)]
    alone, first_step = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(train / imports for imports, train in pairs)
    print(f"import torch, timm   {alone:6.2f} s")
    print(f"first step           {first_step:6.2f} s")
    print(f"ratio                {ratio:6.2f}    goal: at most {GOAL}")


if __name__ == "__main__":
    run_command(main)
