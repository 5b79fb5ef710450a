"""Which figures does a table of scores and labels give, with intervals, and which cannot be computed?"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaincinv

from evaluation.calibration import Reliability, reliability
from evaluation.intervals import LEVEL, RESAMPLES, Estimate, draw_weights, estimate, estimate_share
from evaluation.ranking import count_decisions, mean_of_rows, rank_classes, rank_rows
from evaluation.table import NOCALL, ScoreTable
from utils.errors import counted
from utils.metrics import PADDING, is_mostly_padding

if TYPE_CHECKING:  # it takes a second to import
    import pandas as pd

DEFAULT_THRESHOLD = 0.25  # of predict.py, if none was fitted
FEW_RECORDINGS = 20  # with fewer held-out recordings a score is too uncertain
WIDE = 0.1  # and so it is if the interval of the macro AUC is wider
STRONGEST = 10  # pairs of classes that are listed as confused most

NAMES = {  # of the overall figures, as they are printed
    "macro_auc": "macro AUC",
    "cmap": "cmAP",
    "cmap_padded": "cmAP, padded",
    "map": "mAP",
    "top1": "top-1",
    "top5": "top-5",
    "macro_f1": "macro F1",
    "precision": "precision, all classes together",
    "recall": "recall, all classes together",
    "f1": "F1, all classes together",
    "macro_auc_by_recording": "macro AUC, by recording",  # these two where the others are of windows
    "top1_by_recording": "top-1, by recording",
}


@dataclass(frozen=True)
class Evaluation:
    """All figures of a table of scores.

    Attributes:
        ranked: the table for AUC, average precision and top-k; with a row for each recording if labels have no times.
        decided: the table for thresholds: precision, recall, F1, false alarms, reliability.
        overall: the figures of NAMES that are of this table.
        classes: a row for each class, in the order of the labels: counts, figures and the ends of their intervals.
        thresholds: ``(classes,)``; NaN for a class that is never detected.
        threshold_name: the thresholds in words.
        unscored: the reason why a figure of ``overall``, or a class, has no value, by its name.
        reliability: of the scores.
        confusions: the pairs of classes that are confused most: ``present``, ``highest``, ``rows``, ``share``.
        false_alarms_per_hour: over all classes, in recordings in which no species calls; None without such.
        nocall_hours: the length of these.
        advice: what to do if there are too few data.
    """

    ranked: ScoreTable
    decided: ScoreTable
    overall: dict[str, Estimate]
    classes: "pd.DataFrame"
    thresholds: np.ndarray
    threshold_name: str
    unscored: dict[str, str]
    reliability: Reliability
    confusions: "pd.DataFrame"
    false_alarms_per_hour: Estimate
    nocall_hours: float
    advice: list[str] = field(default_factory=list)

    @property
    def unit(self) -> str:
        """What a row of the ranking is, a window or a recording."""
        return "window" if self.ranked is self.decided and self.ranked.timed else "recording"


def evaluate(
    table: ScoreTable,
    thresholds: np.ndarray | float = DEFAULT_THRESHOLD,
    *,
    threshold_name: str | None = None,
    min_positives: int = 1,
    resamples: int = RESAMPLES,
    all_scored: bool = False,
) -> Evaluation:
    """Compute all figures of a table.

    Labels with times are scored by window, and macro AUC and top-1 by recording as well. Labels of whole recordings
    are scored by recording, by the mean over its windows, as in training: a species in its background counts as absent
    there. Thresholds are applied to the rows as they are, as predict.py applies them to windows, and leave such cells
    out.

    Args:
        thresholds: ``(classes,)``, or one for all; NaN for a class that is never detected.
        min_positives: a class with fewer positive rows is listed and left out of the means. 1 gives exactly the macro
            AUC of BirdCLEF.
        all_scored: the table has every recording there is, as that of all folds; so more folds are no advice.
    """
    weights = draw_weights(table.n_groups, resamples)
    thresholds = np.broadcast_to(np.asarray(thresholds, dtype=float), (len(table.labels),))
    ranked = table if table.timed else _foreground_only(table.by_recording())
    classes, overall, unscored = _rank(ranked, weights, min_positives)
    if table.timed:
        _, by_recording, _ = _rank(table.by_recording(), weights, min_positives)
        overall |= {f"{name}_by_recording": by_recording[name] for name in ("macro_auc", "top1")}
    decisions, overall_decisions = _decide(table, thresholds, weights, classes["label"].map(unscored).isna().to_numpy())
    for name, column in decisions.items():
        classes[name] = column
    n_highest = min(5, len(table.labels))
    if n_highest < 5:
        unscored["top5"] = f"there are {len(table.labels)} classes"
    per_hour, hours = _nocall_alarms(table, thresholds, weights)
    return Evaluation(
        ranked=ranked,
        decided=table,
        overall=overall | overall_decisions,
        classes=classes,
        thresholds=thresholds,
        threshold_name=threshold_name or f"a threshold of {thresholds[0]:g}",
        unscored=unscored,
        reliability=reliability(table, weights),
        confusions=_confusions(ranked),
        false_alarms_per_hour=per_hour,
        nocall_hours=hours,
        advice=advice_on(len(table.recordings), overall["macro_auc"], all_scored=all_scored),
    )


def advice_on(n_recordings: int, macro_auc: Estimate, *, all_scored: bool = False) -> list[str]:
    """What to do if there are too few recordings for the scores."""
    if n_recordings < FEW_RECORDINGS:
        why = counted(n_recordings, "held-out recording says", "held-out recordings say") + " little"
    elif macro_auc.width is not None and macro_auc.width > WIDE:
        why = f"the interval of the macro AUC is {macro_auc.width:.2f} wide"
    else:
        return []
    if all_scored:
        return [f"{why}; only more recordings make the scores more certain"]
    return [f"{why}; score every recording once: python train_classifier.py --folds 5, or [data] folds and fold"]


def _foreground_only(table: ScoreTable) -> ScoreTable:
    """The table with species in the background as absent."""
    return replace(table, targets=np.maximum(table.targets, 0))


def _rank(
    table: ScoreTable, weights: np.ndarray, min_positives: int
) -> tuple["pd.DataFrame", dict[str, Estimate], dict[str, str]]:
    """The counts and rankings of each class, the overall ones, and the classes that cannot be ranked."""
    import pandas as pd

    group, positive = table.group_of_rows, table.targets == 1
    ranking = rank_classes(table.targets, table.scores, group, weights)
    rows, columns = np.nonzero(positive)
    counts = {
        "rows": (table.targets >= 0).sum(axis=0),
        "positives": positive.sum(axis=0),
        "recordings": _distinct(table.recording[rows], columns, len(table.labels)),
        "groups": _distinct(group[rows], columns, len(table.labels)),
    }
    frame = pd.DataFrame({"label": table.labels, **counts})
    unscored = {}
    for label, n, n_positive in zip(table.labels, frame["rows"], frame["positives"], strict=True):
        if not n_positive:
            unscored[label] = "no positives"
        elif n_positive == n:
            unscored[label] = "no negatives"
        elif n_positive < min_positives:
            unscored[label] = f"{counted(n_positive, 'positive')}, fewer than {min_positives}"
    scored = ~frame["label"].isin(list(unscored)).to_numpy()
    for name, values in (("auc", ranking.auc), ("ap", ranking.average_precision)):
        estimates = [
            estimate_share(row, n) if use else Estimate(None)
            for row, n, use in zip(values, frame["groups"], scored, strict=True)
        ]
        _add(frame, name, estimates)
    n_groups, of_rows = table.n_groups, rank_rows(table.targets, table.scores)
    overall = {
        "macro_auc": estimate_share(_mean(ranking.auc[scored]), n_groups),
        "cmap": estimate_share(_mean(ranking.average_precision[scored]), n_groups),
        "cmap_padded": estimate_share(_mean(ranking.padded_average_precision), n_groups),
        "map": estimate_share(mean_of_rows(of_rows["average_precision"], group, weights), n_groups),
        "top1": estimate_share(mean_of_rows(of_rows["top1"], group, weights), n_groups),
        "top5": estimate_share(mean_of_rows(of_rows["top5"], group, weights), n_groups),
    }
    if len(table.labels) < 5:
        overall["top5"] = Estimate(None)
    if is_mostly_padding(frame["positives"].to_numpy()):
        overall["cmap_padded"] = Estimate(None)
        unscored["cmap_padded"] = f"most classes have fewer than the {PADDING} positives that it adds"
    return frame, overall, unscored


def _distinct(values: np.ndarray, columns: np.ndarray, n_columns: int) -> np.ndarray:
    """The number of distinct values in each column."""
    seen = np.zeros((n_columns, values.max(initial=0) + 1), dtype=bool)
    seen[columns, values] = True
    return seen.sum(axis=1)


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean over the classes that can be scored in a draw, ``(resamples,)``; NaN if there are none.

    A class whose positives were not drawn is left out of that draw, as it would be for data without it.
    """
    counted = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(counted, values, 0).sum(axis=0) / counted.sum(axis=0)


def _add(frame: "pd.DataFrame", name: str, estimates: list[Estimate]) -> None:
    columns = np.array([[np.nan if value is None else value for value in one] for one in estimates], dtype=float)
    for column, ending in zip(columns.reshape(-1, 3).T, ("", "_low", "_high"), strict=True):
        frame[name + ending] = column


def _decide(
    table: ScoreTable, thresholds: np.ndarray, weights: np.ndarray, scored: np.ndarray
) -> tuple["pd.DataFrame", dict[str, Estimate]]:
    """The result of the thresholds: for each class, and over all classes together.

    Args:
        scored: ``(classes,)``, the classes that count for the macro F1.
    """
    import pandas as pd

    group = table.group_of_rows
    counts = count_decisions(table.targets, table.scores, thresholds, group, weights)
    true, false, missed = counts["true"], counts["false"], counts["missed"]
    with np.errstate(invalid="ignore"):
        precision, recall = true / (true + false), true / (true + missed)
        f1 = 2 * true / (2 * true + false + missed)
        together = [values.sum(axis=0) for values in (true, false, missed)]
        overall = {
            "macro_f1": estimate_share(_mean(f1[scored]), table.n_groups),
            "precision": estimate_share(together[0] / (together[0] + together[1]), table.n_groups),
            "recall": estimate_share(together[0] / (together[0] + together[2]), table.n_groups),
            "f1": estimate_share(2 * together[0] / (2 * together[0] + together[1] + together[2]), table.n_groups),
        }
    detected = table.scores >= np.where(np.isnan(thresholds), np.inf, thresholds)
    groups_of = {
        "detected": _groups_with(detected & (table.targets >= 0), group),
        "present": _groups_with(table.targets == 1, group),
    }
    frame = pd.DataFrame({"threshold": thresholds})
    frame["detections"] = (true + false)[:, 0].astype(int)
    _add(frame, "precision", [estimate_share(*one) for one in zip(precision, groups_of["detected"], strict=True)])
    _add(frame, "recall", [estimate_share(*one) for one in zip(recall, groups_of["present"], strict=True)])
    _add(frame, "f1", [estimate_share(*one) for one in zip(f1, groups_of["present"], strict=True)])
    alarms, hours = _alarms(table, detected, weights)
    frame["hours_without"] = hours
    _add(frame, "false_alarms_per_hour", alarms)
    return frame, overall


def _groups_with(cells: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The number of groups in which each class has such a cell."""
    rows, columns = np.nonzero(cells)
    return _distinct(group[rows], columns, cells.shape[1])


def _alarms(table: ScoreTable, detected: np.ndarray, weights: np.ndarray) -> tuple[list[Estimate], np.ndarray]:
    """Detections of each class per hour of the recordings without it, and the number of these hours."""
    order = np.argsort(table.recording, kind="stable")
    starts = np.searchsorted(table.recording[order], np.arange(len(table.recordings)))
    without = np.maximum.reduceat(np.abs(table.targets[order]), starts, axis=0) == 0  # (recordings, classes)
    number = np.add.reduceat(detected[order].astype(np.float32), starts, axis=0) * without
    hours = np.add.reduceat(table.seconds[order], starts)[:, None] / 3600 * without
    group = table.group_of_rows[order][starts]
    n_groups = len(weights)
    by_group = [np.zeros((n_groups, len(table.labels)), dtype=np.float32) for _ in range(2)]
    for sums, values in zip(by_group, (number, hours), strict=True):
        np.add.at(sums, group, values)
    total, length = (sums.T @ weights for sums in by_group)
    with np.errstate(invalid="ignore", divide="ignore"):
        estimates = [_rate(*one, n_groups) for one in zip(total / length, length[:, 0], strict=True)]
    return estimates, length[:, 0]


def _rate(resampled: np.ndarray, hours: float, n_groups: int) -> Estimate:
    """Events per hour. If there are none, the interval is that of Garwood (1936) for a count of 0."""
    if not hours:
        return Estimate(None)
    if resampled[0] == 0:
        return Estimate(0.0, 0.0, float(gammaincinv(1, (1 + LEVEL) / 2) / hours))
    return estimate(resampled, n_groups)


def _nocall_alarms(table: ScoreTable, thresholds: np.ndarray, weights: np.ndarray) -> tuple[Estimate, float]:
    """Detections of any species per hour of recordings in which none calls, and the number of these hours."""
    species = np.array([label != NOCALL for label in table.labels])
    calls = np.array(table.with_others or [False] * len(table.recordings))
    np.logical_or.at(calls, table.recording, (table.targets[:, species] != 0).any(axis=1))
    rows = ~calls[table.recording]
    if not rows.any() or not species.any():
        return Estimate(None), 0.0
    limits = np.where(np.isnan(thresholds), np.inf, thresholds)
    number = (table.scores[rows] >= limits)[:, species].sum(axis=1)
    group, n_groups = table.group_of_rows[rows], len(weights)
    hours = np.bincount(group, table.seconds[rows] / 3600, minlength=n_groups)
    total = np.bincount(group, number, minlength=n_groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = (total @ weights) / (hours @ weights)
    return _rate(rate, float(hours.sum()), int((hours > 0).sum())), float(hours.sum())


def _confusions(table: ScoreTable) -> "pd.DataFrame":
    """Rows with a single class in which another class has the highest score: the pairs with the most rows.

    ``share`` is the share of all rows with this single class.
    """
    import pandas as pd

    single = np.flatnonzero(((table.targets == 1).sum(axis=1) == 1) & (table.targets >= 0).all(axis=1))
    present, highest = table.targets[single].argmax(axis=1), table.scores[single].argmax(axis=1)
    of_class = np.bincount(present, minlength=len(table.labels))
    rows = np.arange(len(single))
    wrong = table.scores[single][rows, highest] > table.scores[single][rows, present]
    pairs, rows = np.unique(present[wrong] * len(table.labels) + highest[wrong], return_counts=True)
    pairs = np.divmod(pairs, len(table.labels))
    share = rows / of_class[pairs[0]] if len(rows) else np.empty(0)
    order = np.lexsort((-share, -rows))[:STRONGEST]
    names = np.array(table.labels, dtype=object)
    return pd.DataFrame(
        {
            "present": names[pairs[0][order]],
            "highest": names[pairs[1][order]],
            "rows": rows[order],
            "share": share[order],
        }
    )
