"""How is the page of a run made? With its curves, the scores of each class, and recordings to listen to again."""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dataloader.audio.decoding import BadRecording
from dataloader.cache.overview import narrowed
from dataloader.cache.spectrogram import MelSpectrogram
from evaluation.intervals import LEVEL, Estimate
from evaluation.mistakes import Doubts, find_doubts
from evaluation.scores import NAMES, Evaluation, evaluate
from evaluation.table import PRESENT, ScoreTable
from reports import media
from reports.charts import line_chart
from reports.page import Room, data_uri, write_page
from utils.errors import counted
from utils.files import printable, write_text
from utils.run_folder import DOUBTS
from utils.settings import DataProcess
from utils.utils import cores

if TYPE_CHECKING:
    import pandas as pd

WRONG, UNSURE = 40, 12  # recordings that are shown
LONGEST_S = 20.0  # seconds of each
SOUND_BYTES = 20_000_000  # of these together
_FIGURES = ("auc", "ap", "precision", "recall")


def write_run_page(
    path: Path, *, name: str, facts: Sequence[tuple[str, str]], epochs: Sequence[Mapping[str, Any]],
    kept_epoch: int | None, table: ScoreTable | None, names: Mapping[str, str], paths: Mapping[str, str],
    thresholds: np.ndarray | None, threshold_name: str, classes: Sequence[Mapping[str, Any]],
    settings: Sequence[tuple[str, str, str]], process: DataProcess, out_of_fold: bool,
) -> "pd.DataFrame | None":  # fmt: skip
    """Write the page and, beside it, ``doubts.csv``, each completely or not at all.

    Args:
        facts: names and values, for the beginning and for the end of the page.
        epochs: rows of ``metrics.jsonl``; none for several runs.
        table: the scores of recordings that the run has not trained on, by recording, or by window where thresholds
            were fitted; None where there are none.
        names: a name to show for each label.
        paths: the file of each recording of the table.
        thresholds: ``(classes,)``, NaN for a class that is never detected; None: none were fitted.
        threshold_name: a description of the thresholds.
        classes: what the data hold: ``label``, ``recordings``, ``groups``, ``hours``, and ``splits``, the recordings in
            each split, the same splits for all.
        settings: those that differ from the defaults: name, value, default.
        process: the settings of the model's spectrograms, for the pictures.
        out_of_fold: whether every recording was scored by a run that had not trained on it.

    Returns:
        The recordings in the order of doubt, as they are listed, or None.
    """
    fitted = thresholds is not None
    evaluation = by_recording = doubts = listed = None
    if table is not None:
        evaluation = evaluate(table, thresholds, threshold_name=threshold_name) if fitted else evaluate(table)
        by_recording = evaluation.ranked.by_recording() if table.timed else evaluation.ranked
        doubts = find_doubts(by_recording)
        listed = _listed(by_recording, doubts)
    write_page(
        path, "run.html", title=f"Run {name}", facts=facts, level=f"{LEVEL:.0%}",
        charts=_curves(epochs, kept_epoch), kept_epoch=kept_epoch, summary=_summary(evaluation),
        rows=_class_rows(evaluation, names, classes), heads=_heads(evaluation, classes, fitted=fitted), fitted=fitted,
        evaluation=evaluation, confusions=_confusions(evaluation, names), reliability=_reliability(evaluation),
        doubts=_doubts(by_recording, doubts, names, paths, process) if doubts is not None else iter(()),
        out_of_fold=out_of_fold, settings=settings, row_unit="window" if fitted else "recording",
    )  # fmt: skip
    if listed is not None:
        write_text(path.with_name(DOUBTS), listed.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    return listed


def _curves(epochs: Sequence[Mapping[str, Any]], kept: int | None) -> list[dict[str, Any]]:
    if not epochs:
        return []
    x = [row["epoch"] for row in epochs]
    panels = {
        "loss": {"training": "train_loss", "validation": "val_loss"},
        "score": {"macro AUC": "val_macro_auc", "top-1": "val_top1", "cmAP": "val_cmap"},
    }
    charts = (
        line_chart(
            x, {name: [row.get(column) for row in epochs] for name, column in columns.items()},
            x_name="epoch", y_name=y_name, marked=kept,
        )
        for y_name, columns in panels.items()
    )  # fmt: skip
    return [chart for chart in charts if chart is not None]


def _summary(evaluation: Evaluation | None) -> list[tuple[str, str, str]]:
    """The name, value and remark of each figure over all classes."""
    if evaluation is None:
        return []
    return [
        (NAMES[key], str(one) if one.value is not None else "not computed", evaluation.unscored.get(key, ""))
        for key, one in evaluation.overall.items()
        if key in ("macro_auc", "cmap", "cmap_padded", "map", "top1", "top5")
    ]


def _heads(evaluation: Evaluation | None, classes: Sequence[Mapping[str, Any]], *, fitted: bool) -> list[str]:
    """The columns of the table of classes, first those that a narrow screen should show."""
    figures = ["AUC", "AP", "precision", "recall"] if evaluation is not None else []
    figures += ["threshold"] if fitted else []
    return [*figures, *(classes[0]["splits"] if classes else ()), "recordings", "groups", "hours"]


def _class_rows(
    evaluation: Evaluation | None, names: Mapping[str, str], classes: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:  # fmt: skip
    """One row for each class: its recordings, and its scores."""
    scored = {} if evaluation is None else {row["label"]: row for row in evaluation.classes.to_dict("records")}
    rows = []
    for one in classes:
        label, score = one["label"], scored.get(one["label"], {})
        cells = [_cell(Estimate(*(score.get(f"{name}{end}", math.nan) for end in ("", "_low", "_high"))))
                 for name in _FIGURES] if evaluation is not None else []  # fmt: skip
        threshold = score.get("threshold", math.nan)
        rows.append(
            {
                **one,
                "name": names.get(label, label),
                "cells": cells,
                "positives": int(score.get("positives", 0)),
                "threshold": "" if math.isnan(threshold) else f"{threshold:.2f}",
                "why": "" if evaluation is None else evaluation.unscored.get(label, ""),
            }
        )
    return rows


def _cell(one: Estimate) -> dict[str, Any]:
    """A figure and its interval, with what the table shows and what it sorts by."""
    if one.value is None or math.isnan(one.value):
        return {"value": "", "text": "-", "interval": ""}
    known = one.low is not None and not math.isnan(one.low)
    interval = f"{one.low:.2f} to {one.high:.2f}" if known else ""
    return {"value": f"{one.value:.6f}", "text": f"{one.value:.2f}", "interval": interval}


def _confusions(evaluation: Evaluation | None, names: Mapping[str, str]) -> list[dict[str, Any]]:
    if evaluation is None:
        return []
    return [
        {
            "present": names.get(one["present"], one["present"]), "highest": names.get(one["highest"], one["highest"]),
            "rows": int(one["rows"]), "share": f"{one['share']:.0%}",
        }
        for one in evaluation.confusions.to_dict("records")
    ]  # fmt: skip


def _reliability(evaluation: Evaluation | None) -> dict[str, Any] | None:
    if evaluation is None:
        return None
    found = evaluation.reliability
    x = [round(float(one), 3) for one in found.mean_score if not math.isnan(one)]
    shares = [round(float(one), 3) for one in found.share_present if not math.isnan(one)]
    chart = line_chart(
        [0.0, *x, 1.0], {"share present": [None, *shares, None]}, x_name="score", y_name="share of cells in which "
        "the class is present", limits=(0.0, 1.0), diagonal=True,
    )  # fmt: skip
    return None if chart is None else {"chart": chart, "error": found.error, "highest": found.error_of_highest}


def _order(doubts: Doubts) -> list[tuple[int, str]]:
    """The recordings that are shown, each with the reason."""
    order = doubts.order()
    wrong = [(int(row), "wrong") for row in order[:WRONG] if doubts.wrong[row] > 0 or len(order) <= WRONG]
    shown = {row for row, _ in wrong}
    unsure = [int(row) for row in np.argsort(-doubts.unsure, kind="stable") if int(row) not in shown][:UNSURE]
    return wrong + [(row, "unsure") for row in unsure]


def _listed(table: ScoreTable, doubts: Doubts) -> "pd.DataFrame":
    """All recordings in the order of doubt."""
    import pandas as pd

    order = doubts.order()
    labels = np.array([*table.labels, ""], dtype=object)
    return pd.DataFrame(
        {
            "filename": [table.recordings[row] for row in order],
            "label": labels[doubts.labelled[order]],
            "sounds_like": labels[doubts.other[order]],
            "doubt": doubts.wrong[order].round(4),
            "score_of_label": [table.scores[row, doubts.labelled[row]] if doubts.labelled[row] >= 0 else None
                               for row in order],
            "score_of_other": [table.scores[row, doubts.other[row]] for row in order],
        }
    )  # fmt: skip


def _doubts(
    table: ScoreTable, doubts: Doubts, names: Mapping[str, str], paths: Mapping[str, str], process: DataProcess
) -> Iterator[dict[str, Any]]:
    """Each recording that is shown, with its picture and sound."""
    mel, room, order = MelSpectrogram(process), Room(SOUND_BYTES), _order(doubts)

    def media_of(recording: str) -> tuple[str, str]:
        return _picture_and_sound(Path(paths[recording]), mel) if recording in paths else ("", "")

    with ThreadPoolExecutor(cores()) as pool:  # making an MP3 takes a third of a second
        clips = pool.map(media_of, [table.recordings[row] for row, _ in order])
        for (row, kind), (picture, sound) in zip(order, clips, strict=True):
            labelled = [
                {"name": names.get(table.labels[key], table.labels[key]), "score": f"{table.scores[row, key]:.2f}"}
                for key in np.flatnonzero(table.targets[row] == PRESENT)
            ]
            if not room.take(len(picture) + len(sound)):
                picture = sound = ""
            label = table.labels[doubts.other[row]]
            yield {
                "kind": kind, "recording": printable(table.recordings[row]), "labelled": labelled,
                "picture": picture, "sound": sound, "length": f"the first {counted(round(LONGEST_S), 'second')}",
                "other": {"name": names.get(label, label), "score": f"{table.scores[row, doubts.other[row]]:.2f}"},
            }  # fmt: skip


def _picture_and_sound(path: Path, mel: MelSpectrogram) -> tuple[str, str]:
    """The beginning of a recording, as two data URIs; empty if it cannot be read."""
    slower = media.slower(mel.process)
    try:
        db = narrowed(media.excerpt(path, mel, 0.0, LONGEST_S / slower), 600)
        sound = media.mp3(path, 0.0, LONGEST_S / slower, slower=slower)
    except (BadRecording, OSError):  # deleted since, or damaged
        return "", ""
    return data_uri(media.png(db), "image/png"), data_uri(sound, "audio/mpeg")
