"""How is a page written? Templates and data become one HTML file, which needs no other file and no network."""

import base64
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import counted
from utils.files import whole
from utils.visualise import clock

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
_CHUNK = 64  # pieces of a template's output written at once


def write_page(path: Path, template: str, **context: object) -> None:
    """Render a template to ``path``, completely or not at all.

    Generators in the context are read while the page is written, so pictures and sounds are not held in memory
    together.
    """
    stream = _environment().get_template(template).stream(**context)
    stream.enable_buffering(_CHUNK)
    with whole(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        file.writelines(stream)


@functools.cache
def _environment() -> "jinja2.Environment":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False}
    environment.filters.update(clock=clock, counted=counted)
    return environment


def hue(rank: int) -> int:
    """The hue of a species, in degrees; the hues of neighbours in rank differ by the golden angle."""
    return round(rank * 137.5 % 360)


def data_uri(data: bytes, kind: str) -> str:
    """The text that replaces a file in a page, such as ``data:image/png;base64,...``; ``kind`` is its MIME type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}" if data else ""


_TICKS_HZ = (1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000)


def frequency_ticks(bands_hz: Sequence[float]) -> list[tuple[str, str]]:
    """Round frequencies beside a picture: ``(distance from the bottom, text)``, such as ``("25.0%", "2 kHz")``.

    Args:
        bands_hz: the frequencies of the rows of the picture, rising.
    """
    ticks: list[tuple[str, str]] = []
    last = -1.0
    for hz in _TICKS_HZ:
        height = sum(band < hz for band in bands_hz) / len(bands_hz)
        if bands_hz[0] < hz < bands_hz[-1] and height - last >= 0.08:  # or their texts would touch
            ticks.append((f"{height:.1%}", f"{hz // 1000} kHz"))
            last = height
    return ticks


class Room:
    """The number of bytes that may still be put into a page."""

    def __init__(self, size: int):
        self._left = size

    def take(self, size: int) -> bool:
        """Take ``size`` bytes if so many are left; return whether they were."""
        fits = size <= self._left
        self._left -= size if fits else 0
        return fits
