"""How do numbers become line charts? As SVG in the colours of the page, which a template draws."""

from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT = 640, 260  # of a chart's own units; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 14, 34


def line_chart(
    x: Sequence[float],
    curves: Mapping[str, Sequence[float | None]],
    *,
    x_name: str,
    y_name: str,
    marked: float | None = None,
    limits: tuple[float, float] | None = None,
    diagonal: bool = False,
) -> dict[str, Any] | None:
    """A chart for ``chart.svg``; None if no curve has a value.

    Args:
        curves: name -> a value for each ``x``; None is a gap.
        marked: an ``x`` that gets a vertical line, such as the epoch whose weights are kept.
        limits: of the y axis; None: the lowest and highest value.
        diagonal: also draw the line from corner to corner.
    """
    values = [one for curve in curves.values() for one in curve if one is not None]
    if not values:
        return None
    low, high = limits or (min(values), max(values))
    high = high if high > low else low + 1
    first, last = min(x), max(x)
    last = last if last > first else first + 1

    def across(at: float) -> float:
        return round(LEFT + (at - first) / (last - first) * (WIDTH - LEFT - RIGHT), 1)

    def up(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    of_epochs = last > 1 and all(float(at).is_integer() for at in x)
    drawn = [
        {
            "name": name, "number": number,
            "pieces": [" ".join(f"{across(at)},{up(one)}" for at, one in piece) for piece in _pieces(x, curve)],
            "dots": [(across(at), up(one)) for piece in _pieces(x, curve) for at, one in piece],
        }
        for number, (name, curve) in enumerate(curves.items())
        if any(one is not None for one in curve)
    ]  # fmt: skip
    return {
        "width": WIDTH, "height": HEIGHT, "left": LEFT, "bottom": HEIGHT - BOTTOM, "right": WIDTH - RIGHT, "top": TOP,
        "curves": drawn, "x_name": x_name, "y_name": y_name,
        "marked": None if marked is None else across(marked),
        "x_ticks": [(across(at), f"{at:g}") for at in _ticks(first, last, whole_numbers=of_epochs)],
        "y_ticks": [(up(at), f"{at:g}") for at in _ticks(low, high)],
        "diagonal": (across(first), up(low), across(last), up(high)) if diagonal else None,
    }  # fmt: skip


def _pieces(x: Sequence[float], curve: Sequence[float | None]) -> list[list[tuple[float, float]]]:
    """The pieces of a curve between its gaps, each a list of points ``(x, y)``."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for at, value in zip(x, curve, strict=True):
        if value is not None:
            pieces[-1].append((at, value))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _ticks(low: float, high: float, *, whole_numbers: bool = False) -> list[float]:
    """Up to seven round numbers from ``low`` to ``high``; for epochs only whole numbers."""
    steps = [factor * 10.0**power for power in range(-6, 7) for factor in (1, 2, 5)]
    step = next(step for step in steps if (high - low) / step <= 6 and (step >= 1 or not whole_numbers))
    first = round(low / step + 0.4999)
    return [round(number * step, 6) for number in range(first, int(high / step + 1e-6) + 1)]
