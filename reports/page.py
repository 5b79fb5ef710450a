"""How is a page written? Templates and data become one HTML file, which needs no other file and no network."""

import base64
import functools
from collections.abc import Iterator
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
    """Render a template to ``path``, whole or not at all.

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


def frequency_ticks(frequencies_hz: "Iterator[float] | list[float]") -> list[tuple[str, str]]:
    """Round frequencies on a picture whose rows have these, rising: ``(distance from the bottom, words)``."""
    bands = list(frequencies_hz)
    places = ((hz, sum(band < hz for band in bands) / len(bands)) for hz in _TICKS_HZ if bands[0] < hz < bands[-1])
    ticks: list[tuple[str, str]] = []
    last = -1.0
    for hz, place in places:
        if place - last >= 0.08:  # or their words would touch
            ticks.append((f"{place:.1%}", f"{hz // 1000} kHz"))
            last = place
    return ticks


class Room:
    """How many bytes may still be put into a page."""

    def __init__(self, size: int):
        self._left = size

    def take(self, size: int) -> bool:
        """Take ``size`` bytes if there are so many; whether there were."""
        fits = size <= self._left
        self._left -= size if fits else 0
        return fits
