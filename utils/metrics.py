"""How good are these scores? Metrics from arrays of targets and scores.

``targets`` and ``scores`` are ``(rows, n_classes)``; a target above 0.5 is a positive; scores are
probabilities, finite. A metric for which no row or class counts is None.
"""

import numpy as np

PADDING = 5  # rows of ones that the padded cmAP of BirdCLEF 2023 appends


def mean_by_recording(window_scores: np.ndarray, recording: np.ndarray, n_recordings: int) -> np.ndarray:
    """The mean score of each recording over its windows.

    Args:
        window_scores: ``(n_windows, n_classes)``.
        recording: ``(n_windows,)``, for each window its recording, 0 to n_recordings - 1, in any order.

    Returns:
        ``(n_recordings, n_classes)``, float64.

    Raises:
        ValueError: the lengths differ, or a recording has no window.
    """
    window_scores, recording = np.asarray(window_scores, dtype=np.float64), np.asarray(recording)
    if window_scores.ndim != 2 or recording.shape != (len(window_scores),):
        raise ValueError(f"expected a recording for each window, got {recording.shape} for {window_scores.shape}")
    counts = np.bincount(recording, minlength=n_recordings)
    if len(counts) != n_recordings or not counts.all():
        raise ValueError(f"expected windows of each of {n_recordings} recordings and of no other")
    order = np.argsort(recording, kind="stable")
    starts = np.cumsum(counts) - counts
    return np.add.reduceat(window_scores[order], starts, axis=0) / counts[:, None]


def macro_auc(targets: np.ndarray, scores: np.ndarray) -> float | None:
    """The mean ROC-AUC over the classes with at least one positive and one negative row (BirdCLEF 2024).

    The AUC of a class is the share of its pairs of a positive and a negative row in which the
    positive has the higher score; a tie is half a pair (Mann and Whitney 1947).

    Raises:
        ValueError: the shapes differ, or a score is not finite.
    """
    positive, scores = _checked(targets, scores)
    areas = []
    for of_class, score in zip(positive.T, scores.T, strict=True):
        positives, negatives = score[of_class], np.sort(score[~of_class])
        if len(positives) and len(negatives):
            below = np.searchsorted(negatives, positives, "left")
            not_above = np.searchsorted(negatives, positives, "right")
            areas.append(np.mean(below + not_above) / 2 / len(negatives))
    return float(np.mean(areas)) if areas else None


def top1(targets: np.ndarray, scores: np.ndarray) -> float | None:
    """The share of rows whose class of the highest score is a positive; rows without positives are left out.

    Raises:
        ValueError: the shapes differ, or a score is not finite.
    """
    positive, scores = _checked(targets, scores)
    counted = positive.any(axis=1)
    if not counted.any():
        return None
    best = scores[counted].argmax(axis=1)
    return float(positive[counted][np.arange(len(best)), best].mean())


def padded_cmap(targets: np.ndarray, scores: np.ndarray, padding: int = PADDING) -> float | None:
    """Padded class-wise mean average precision (BirdCLEF 2023).

    ``padding`` rows of ones are appended to both arrays, so that a class without positives has a
    score, and a class with few does not depend on them alone.

    Raises:
        ValueError: the shapes differ, or a score is not finite.
    """
    positive, scores = _checked(targets, scores)
    if not positive.size:
        return None
    padding_rows = np.ones((padding, positive.shape[1]))
    positive = np.vstack([positive, padding_rows > 0])
    scores = np.vstack([scores, padding_rows])
    return float(np.mean([_average_precision(*column) for column in zip(positive.T, scores.T, strict=True)]))


def is_mostly_padding(positives: np.ndarray) -> bool:
    """Whether the padded cmAP consists mostly of padding: most classes have fewer positives than ``PADDING``.

    Args:
        positives: of each class, ``(n_classes,)``.
    """
    return len(positives) == 0 or bool(np.median(positives) < PADDING)


def _average_precision(positive: np.ndarray, score: np.ndarray) -> float:
    """The mean over the positives of the share of positives among the rows that score at least as high."""
    positives = np.sort(score[positive])
    positives_as_high = len(positives) - np.searchsorted(positives, positives, "left")
    all_as_high = len(score) - np.searchsorted(np.sort(score), positives, "left")
    return np.mean(positives_as_high / all_as_high) if len(positives) else 0.0


def scores(targets: np.ndarray, scores: np.ndarray, prefix: str = "val_") -> dict[str, float | None]:
    """All metrics by name: ``macro_auc``, ``top1`` and ``cmap``, each after ``prefix``.

    Raises:
        ValueError: the shapes differ, or a score is not finite.
    """
    metrics = {"macro_auc": macro_auc, "top1": top1, "cmap": padded_cmap}
    return {prefix + name: metric(targets, scores) for name, metric in metrics.items()}


def window_scores(targets: np.ndarray, scores: np.ndarray, prefix: str = "test_") -> dict[str, float | int | None]:
    """Metrics of windows whose labels have times: ``window_macro_auc``, and how many windows and positives there are.

    Args:
        targets: ``(windows, classes)``; a target below 0 is unknown and is left out of the AUC of its class.

    Raises:
        ValueError: the shapes differ, or a score is not finite.
    """
    targets = np.asarray(targets)
    _checked(targets, scores)
    areas = []
    for of_class, score in zip(targets.T, np.asarray(scores).T, strict=True):
        known = of_class >= 0
        if (area := macro_auc(of_class[known, None], score[known, None])) is not None:
            areas.append(area)
    return {
        f"{prefix}window_macro_auc": float(np.mean(areas)) if areas else None,
        f"{prefix}n_windows": int((targets >= 0).any(axis=1).sum()),
        f"{prefix}n_labelled_windows": int((targets > 0.5).any(axis=1).sum()),
    }


def _checked(targets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are positive, and the scores; both ``(rows, n_classes)``."""
    positive, scores = np.asarray(targets) > 0.5, np.asarray(scores)
    if positive.shape != scores.shape or scores.ndim != 2:
        raise ValueError(f"expected (rows, classes) of both, got targets {positive.shape} and scores {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    return positive, scores
