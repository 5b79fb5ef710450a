"""Which recordings do benchmarks use? Those in BIRDS_DIR, else ../shared/birds, else a demo."""

import os
import tempfile
from pathlib import Path

from dataloader.audio.endings import ENDINGS
from utils.errors import DataError

FOLDER = Path(os.environ.get("BIRDS_DIR") or Path(__file__).parents[2] / "shared" / "birds")


def recordings(n: int) -> list[str]:
    """``n`` recordings, spread over the species.

    Raises:
        DataError: there is none.
    """
    folder = FOLDER
    if not folder.is_dir():
        from dataloader.demo import make_demo

        folder = make_demo(Path(tempfile.gettempdir()) / "benchmark-demo")
    audio = folder / "train_audio"
    found = sorted(str(path) for path in audio.rglob("*") if path.suffix.lower() in ENDINGS)
    if not found:
        raise DataError(f"{audio}: it has no recording; set BIRDS_DIR to a data set in the layout of BirdCLEF 2024")
    return found[:: max(1, len(found) // n)][:n]
