"""What does a run keep beside its weights? Thresholds for each class, and how its scores become probabilities.

The file is JSON of plain values (``utils.run_folder.THRESHOLDS``); an exported model carries the same text.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.calibration import Curve, calibrate, curve_of
from utils.errors import DataError, UserError, first_line
from utils.files import write_text

VERSION = 1
KINDS = ("precision", "recall", "f1", "false_alarms_per_hour")  # the aims that thresholds can be fitted for


@dataclass(frozen=True)
class Fit:
    """The thresholds for one aim.

    Attributes:
        thresholds: ``(classes,)``; NaN for a class that is never detected, because the data are too few for the aim.
        refused: the reasons, by label.
        pooled: the labels whose threshold comes from the calibration over all classes.
    """

    thresholds: np.ndarray
    refused: Mapping[str, str]
    pooled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decisions:
    """Thresholds and calibration of one model.

    Attributes:
        labels: its classes, in order.
        checkpoint: the SHA-256 of the weights that they were fitted for.
        fitted_on: a description of the recordings.
        window_s: seconds of the rows that they were fitted on.
        curves: the calibration of each class.
        fits: thresholds by aim, as ``precision=0.9``; the newest is the last.
    """

    labels: tuple[str, ...]
    checkpoint: str
    fitted_on: str
    window_s: float
    curves: tuple[Curve, ...]
    fits: Mapping[str, Fit] = field(default_factory=dict)

    def fit_for(self, aim: str, source: object) -> Fit:
        """The thresholds for an aim; ``auto`` is the newest.

        Raises:
            UserError: none was fitted for it.
        """
        if aim == "auto" and self.fits:
            return self.fits[list(self.fits)[-1]]
        if aim not in self.fits:
            option, _, value = aim.partition("=")
            fitted = ", ".join(self.fits) or "none"
            remedy = f"python evaluate.py --run {source} --fit-thresholds --{option.replace('_', '-')} {value}".rstrip()
            raise UserError(
                f"{source}: no thresholds were fitted for {option} {value} (there are: {fitted}); fit them: {remedy}"
            )
        return self.fits[aim]

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """``(rows, classes)`` scores -> probabilities."""
        return calibrate(list(self.curves), scores)

    def with_fit(self, aim: str, fit: Fit) -> "Decisions":
        """The same with another aim, which becomes the newest."""
        return replace(self, fits={name: one for name, one in self.fits.items() if name != aim} | {aim: fit})

    def plain(self) -> dict[str, Any]:
        """The same in plain values."""
        return {
            "version": VERSION,
            "checkpoint": self.checkpoint,
            "fitted_on": self.fitted_on,
            "window_s": self.window_s,
            "labels": list(self.labels),
            "calibration": [curve.plain() for curve in self.curves],
            "thresholds": {
                aim: {
                    "values": [None if np.isnan(value) else round(float(value), 6) for value in fit.thresholds],
                    "refused": dict(fit.refused),
                    "pooled": list(fit.pooled),
                }
                for aim, fit in self.fits.items()
            },
        }

    def text(self) -> str:
        """As JSON, a line for each key."""
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in self.plain().items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def save(self, path: Path) -> None:
        """Write it, completely or not at all."""
        write_text(path, self.text())


def aim_of(kind: str, value: float | None = None) -> str:
    """The name of an aim, such as ``precision=0.9`` or ``f1``."""
    return kind if value is None else f"{kind}={value:g}"


def read_decisions(text: str, source: object, labels: Sequence[str] | None = None) -> Decisions:
    """What ``Decisions.text`` describes.

    Args:
        labels: of the model; the labels in the file must be the same.

    Raises:
        DataError: damaged, of another version, or of other labels.
    """
    try:
        plain = json.loads(text)
        if plain["version"] != VERSION:
            raise ValueError(f"version {plain['version']}, and this program reads {VERSION}")
        fits = {
            aim: Fit(
                np.array([np.nan if value is None else value for value in one["values"]], dtype=float),
                dict(one["refused"]),
                tuple(one["pooled"]),
            )
            for aim, one in plain["thresholds"].items()
        }
        found = Decisions(
            tuple(plain["labels"]), plain["checkpoint"], plain["fitted_on"], float(plain["window_s"]),
            tuple(curve_of(one) for one in plain["calibration"]), fits,
        )  # fmt: skip
        lengths = {len(found.curves), len(found.labels), *(len(fit.thresholds) for fit in fits.values())}
        if len(lengths) > 1:
            raise ValueError("another number of thresholds than of labels")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{source}: damaged, or of another version ({first_line(error)}); fit the thresholds again with "
            "evaluate.py --fit-thresholds"
        ) from None
    if labels is not None and tuple(labels) != found.labels:
        raise DataError(f"{source}: thresholds of other classes than the model's; fit them again")
    return found
