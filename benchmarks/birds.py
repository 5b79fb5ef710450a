"""The recordings that benchmarks run on: BIRDS_DIR, else ../shared/birds, else a demo."""

import os
import tempfile
from pathlib import Path

FOLDER = Path(os.environ.get("BIRDS_DIR") or Path(__file__).parents[2] / "shared" / "birds")


def recordings(n: int) -> list[str]:
    """``n`` recordings, spread over the species."""
    folder = FOLDER
    if not folder.is_dir():
        from dataloader.demo import make_demo

        folder = make_demo(Path(tempfile.gettempdir()) / "benchmark-demo")
    found = sorted(str(path) for path in (folder / "train_audio").rglob("*.ogg"))
    return found[:: max(1, len(found) // n)][:n]
