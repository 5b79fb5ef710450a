"""How is an evaluation shown? As a table for the terminal, and as files: JSON, CSV and pictures."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.calibration import BINS, Reliability
from evaluation.intervals import LEVEL
from evaluation.scores import NAMES, Evaluation
from evaluation.table import PRESENT
from utils.errors import counted
from utils.files import whole, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORES, CLASSES, CONFUSIONS, RELIABILITY = "scores.json", "classes.csv", "confusions.csv", "reliability.csv"
_MOST_NAMES = 40  # of classes that are not scored
_MOST_CLASSES = 50  # in the picture
_SHOWN = {  # column of ``Evaluation.classes`` -> heading of the table
    "auc": "AUC",
    "ap": "AP",
    "precision": "precision",
    "recall": "recall",
    "false_alarms_per_hour": "false alarms/h",
}


def as_text(evaluation: Evaluation) -> str:
    """The text to print: the overall figures, a line for each class, confusions, and what could not be scored."""
    timed = evaluation.decided.timed
    basis = "" if timed else "; labels hold for whole recordings, so each window has its recording's labels"
    sections = [
        _size_lines(evaluation),
        _overall_lines(evaluation),
        [f"precision, recall and F1 by row at {evaluation.threshold_name}{basis}"],
        _class_lines(evaluation),
        _confusion_lines(evaluation),
        _unscored_lines(evaluation),
    ]
    text = "\n\n".join("\n".join(lines) for lines in sections if lines)
    return "\n".join([text, *(f"advice: {advice}" for advice in evaluation.advice)])


def _size_lines(evaluation: Evaluation) -> list[str]:
    """How much was scored, and over what the intervals are."""
    ranked, hours = evaluation.ranked, evaluation.decided.hours
    recordings = counted(len(ranked.recordings), "recording")
    if evaluation.unit == "window":
        recordings = f"{counted(len(ranked.scores), 'window')} of {recordings}"
    present = counted(int((ranked.targets == PRESENT).any(axis=0).sum()), "class", "classes")
    over = ranked.grouped_by + (" (no recordist or place is known)" if ranked.grouped_by == "recordings" else "")
    return [
        f"{recordings}{f' ({hours:.2f} h)' if hours else ''}, {counted(ranked.n_groups, 'group')}; "
        f"{present} present of {len(ranked.labels)}",
        f"brackets: {LEVEL:.0%} intervals by bootstrap over {over}",
    ]


def _overall_lines(evaluation: Evaluation) -> list[str]:
    """A line for each overall figure."""
    lines = []
    for name, heading in NAMES.items():
        if name in evaluation.overall:
            value = evaluation.overall[name]
            why = f" ({evaluation.unscored[name]})" if value.value is None and name in evaluation.unscored else ""
            lines.append(f"{heading:32} {value}{why}")
    error = evaluation.reliability
    lines.append(f"{'calibration error':32} {error.error}; of the highest class of each row {error.error_of_highest}")
    if evaluation.nocall_hours:
        rate = _cell(*np.array(evaluation.false_alarms_per_hour, dtype=float), "{:.1f}")
        lines.append(f"{'false alarms/h without a bird':32} {rate} (in {evaluation.nocall_hours:.2f} h)")
    return lines


def _class_lines(evaluation: Evaluation) -> list[str]:
    """A table of the classes that are present, those with the lowest AUC first."""
    frame = evaluation.classes[evaluation.classes["positives"] > 0].sort_values("auc", kind="stable")
    head = ["class", "positives", "groups", *_SHOWN.values(), "threshold"]
    rows = []
    for row in frame.to_dict("records"):
        cells = [row["label"], str(row["positives"]), str(row["groups"])]
        for name in _SHOWN:
            form = "{:.2f}" if name != "false_alarms_per_hour" else "{:.1f}"
            cells.append(_cell(row[name], row[f"{name}_low"], row[f"{name}_high"], form))
        cells.append("never" if math.isnan(row["threshold"]) else f"{row['threshold']:.3f}")
        rows.append(cells)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in (head, *rows)
    ]


def _cell(value: float, low: float, high: float, form: str) -> str:
    """A figure with its interval; NaN for what could not be computed."""
    if math.isnan(value):
        return "-"
    return form.format(value) + ("" if math.isnan(low) else f" [{form.format(low)}, {form.format(high)}]")


def _confusion_lines(evaluation: Evaluation) -> list[str]:
    """The pairs of classes that are confused most."""
    lines = ["strongest confusions (of rows with one class):"] if len(evaluation.confusions) else []
    for pair in evaluation.confusions.itertuples():
        rows = counted(pair.rows, evaluation.unit)
        lines.append(f"  {pair.present} -> {pair.highest}: {rows}, {pair.share:.0%} of its own")
    return lines


def _unscored_lines(evaluation: Evaluation) -> list[str]:
    """A line for each reason why classes could not be scored."""
    labels_of: dict[str, list[str]] = {}
    for label in evaluation.ranked.labels:
        if label in evaluation.unscored:
            labels_of.setdefault(evaluation.unscored[label], []).append(label)
    lines = []
    for reason, labels in labels_of.items():
        more = f" and {len(labels) - _MOST_NAMES:,} more" if len(labels) > _MOST_NAMES else ""
        lines.append(f"not scored, {reason}: {', '.join(labels[:_MOST_NAMES])}{more}")
    return lines


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """The same in plain values: figures by name, ``intervals``, and what was scored."""
    named = evaluation.overall | {
        "calibration_error": evaluation.reliability.error,
        "calibration_error_of_highest": evaluation.reliability.error_of_highest,
        "nocall_false_alarms_per_hour": evaluation.false_alarms_per_hour,
    }
    ranked = evaluation.ranked
    return {
        **{name: one.value for name, one in named.items()},
        "intervals": {name: [one.low, one.high] for name, one in named.items() if one.low is not None},
        "interval_level": LEVEL,
        "interval_over": ranked.grouped_by,
        "unit": evaluation.unit,
        "n_rows": len(ranked.scores),
        "n_decided_rows": len(evaluation.decided.scores),
        "n_recordings": len(ranked.recordings),
        "n_groups": ranked.n_groups,
        "n_classes": len(ranked.labels),
        "n_classes_present": int((ranked.targets == PRESENT).any(axis=0).sum()),
        "hours": round(evaluation.decided.hours, 4),
        "nocall_hours": round(evaluation.nocall_hours, 4),
        "thresholds": evaluation.threshold_name,
        "unscored": evaluation.unscored,
        "advice": evaluation.advice,
    }


def write(evaluation: Evaluation, folder: Path, extra: dict[str, Any] | None = None) -> None:
    """Write ``scores.json``, three tables and two pictures; ``extra`` goes into the JSON."""
    from utils.visualise import save_png

    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in (
        (CLASSES, evaluation.classes),
        (CONFUSIONS, evaluation.confusions),
        (RELIABILITY, _reliability_table(evaluation.reliability)),
    ):
        with whole(folder / name) as temporary:
            frame.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
    save_png(draw_reliability(evaluation.reliability), folder / "reliability.png")
    save_png(draw_classes(evaluation), folder / "classes.png")
    text = json.dumps((extra or {}) | as_json(evaluation), indent=1)
    write_text(folder / SCORES, f"{text}\n")  # last: if it exists, all other files do


def _reliability_table(found: Reliability):
    import pandas as pd

    edges = np.linspace(0, 1, BINS + 1)
    return pd.DataFrame(
        {
            "from": edges[:-1], "to": edges[1:], "cells": found.cells,
            "mean_score": found.mean_score, "share_present": found.share_present,
        }
    )  # fmt: skip


def draw_reliability(found: Reliability) -> "Figure":
    """The share of cells in which the class is present, against the scores."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="perfect calibration")
    axes.plot(found.mean_score, found.share_present, marker="o", label="the scores")
    for x, y, n in zip(found.mean_score, found.share_present, found.cells, strict=True):
        if n:
            axes.annotate(f"{n:,}", (x, y), textcoords="offset points", xytext=(4, -11), fontsize=8, color="0.4")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="mean score", ylabel="share in which the class is present")
    axes.set_title(f"calibration error {found.error}; numbers: rows x classes in a bin", fontsize=10)
    axes.legend(loc="best")
    return figure


def draw_classes(evaluation: Evaluation) -> "Figure":
    """The AUC of each class that has one, with its interval, the lowest at the top; of many classes only the lowest."""
    from matplotlib.figure import Figure

    frame = evaluation.classes.dropna(subset="auc").sort_values("auc", ascending=False, kind="stable")
    frame = frame.tail(_MOST_CLASSES)
    figure = Figure(figsize=(8, max(2.5, 0.22 * len(frame) + 1)))
    axes, heights = figure.subplots(), np.arange(len(frame))
    # The layout is set here, because matplotlib's own draws all texts three times, which takes a second longer.
    longest = max(frame["label"].map(len), default=0) + 8
    left, bottom = min(0.5, 0.05 + 0.0085 * longest), 0.6 / figure.get_figheight()
    figure.subplots_adjust(left=left, right=0.97, top=0.98, bottom=bottom)
    if len(frame):
        low, high = (frame[name].fillna(frame["auc"]) for name in ("auc_low", "auc_high"))
        axes.hlines(heights, low, high, color="0.6")
        axes.plot(frame["auc"], heights, "o", markersize=4)
        axes.set_yticks(
            heights, [f"{label} ({n})" for label, n in zip(frame["label"], frame["positives"], strict=True)]
        )
        for text in axes.get_yticklabels():
            text.set(fontsize=7, parse_math=False)
    axes.axvline(0.5, color="0.8", linestyle="--")
    axes.set(xlabel=f"AUC with its {LEVEL:.0%} interval; in brackets: positives", ylim=(-1, max(len(frame), 1)))
    return figure
