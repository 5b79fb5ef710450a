"""Which recordings train, which validate and which test? Whole groups, never single clips.

Recordings of one recordist at one place share the microphone, the background and often the bird, so a group is in one
subset only. The subsets are filled class by class, so that each class has about the same shares everywhere. A split
that the data contain is kept.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from dataloader.tables.schema import KNOWN_SPLIT, listed
from utils.errors import ConfigError, Problem, counted

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
NOTHING = "no species"  # used as the label of a recording that has none


def split_by_group(table: "pd.DataFrame", *, train_ratio: float, test_val_ratio: float, seed: int) -> list[str]:
    """Assign every recording to a subset.

    Groups are assigned one by one, those of the rarest classes first (as in the iterative stratification of Sechidis et
    al. 2011) and large before small. Each goes to the subset where it brings its classes closest to their shares: the
    least sum of (recordings / share's recordings - 1)^2. The first group of a class goes to training, so a class that
    is too small for every subset is used for training.

    Args:
        table: with ``labels`` (tuple) and ``group``, one row for each recording. Recordings without a
            label are treated like a class.
        train_ratio: share of the recordings to train on.
        test_val_ratio: share of the rest that is the test set.

    Returns:
        ``train``, ``val`` or ``test`` for each row.
    """
    shares = np.array([train_ratio, (1 - train_ratio) * (1 - test_val_ratio), (1 - train_ratio) * test_val_ratio])
    if shares[0] >= 1.0:
        return ["train"] * len(table)
    labels_of_rows = [labels or (NOTHING,) for labels in table["labels"]]
    split_of = _deal(_count_classes(labels_of_rows, table["group"]), shares, np.random.default_rng(seed))
    splits = [SPLITS[split_of[group]] for group in table["group"]]
    _log_small_classes(table, splits, [split for split, share in zip(SPLITS, shares, strict=True) if share > 0])
    return splits


def known_split(table: "pd.DataFrame", *, folds: int, fold: int) -> list[str] | None:
    """The split that the data contain; None if they have none.

    If it has folds, the recordings of ``fold`` are the test set and all others train, as with [data] ``folds``. There
    is a warning of groups in two subsets, because a model that is trained on one recording of a group knows the others.

    Args:
        table: with ``filename`` and ``group``, and if a split is known ``known_split``: train, val, test, the number
            of a fold, or nothing for a recording that trains.
        folds: of [data]; 0: no folds.

    Raises:
        ConfigError: [data] sets folds but the split has names, or there is no such fold.
    """
    if KNOWN_SPLIT not in table or not table[KNOWN_SPLIT].ne("").any():
        return None
    known = table[KNOWN_SPLIT].tolist()
    numbers = sorted({int(name) for name in known if name.isdecimal()})
    if numbers and fold not in numbers:
        text = f"the split of the data has the folds {', '.join(map(str, numbers))}; name one of them"
        raise ConfigError(Problem(text, "data", "fold", fold))
    if folds and not numbers:
        raise ConfigError(
            Problem("the split of the data has train, val and test, not folds; set it to 0", "data", "folds", folds)
        )
    splits = [
        "test" if name.isdecimal() and int(name) == fold else name if name in SPLITS else "train" for name in known
    ]
    counts = Counter(splits)
    unknown = known.count("")
    log.info(
        "the split of the data is used%s: %s%s",
        f", fold {fold} of {len(numbers)} is the test set" if numbers else "",
        ", ".join(f"{counts[split]} for {split}" for split in SPLITS),
        f"; {unknown} without a split train" if unknown else "",
    )
    subsets: dict[str, set[str]] = {}
    for group, split in zip(table["group"], splits, strict=True):
        subsets.setdefault(group, set()).add(split)
    straddling = sorted(group for group, found in subsets.items() if len(found) > 1)
    if straddling:
        log.warning(
            "%s in more than one subset of the data's split, so that its scores are too good (a group is of one "
            "recordist and place, one archive number, or one recorder and day): %s",
            counted(len(straddling), "group is", "groups are"), listed(straddling, 3),
        )  # fmt: skip
    return splits


def deal_into_folds(table: "pd.DataFrame", n_folds: int) -> list[int]:
    """Assign every recording to one of ``n_folds`` folds; a model that is trained on the others will test it.

    Groups are assigned as in ``split_by_group``, with equal shares, so that the folds have equal sizes too. There is no
    seed: all runs on the same recordings have the same folds, in any order of rows.

    Args:
        table: as in ``split_by_group``.

    Returns:
        1 to ``n_folds`` for each row.

    Raises:
        ConfigError: there are fewer groups than folds.
    """
    groups = _count_classes([labels or (NOTHING,) for labels in table["labels"]], table["group"])
    if len(groups) < n_folds:
        text = f"the recordings have only {counted(len(groups), 'group')} to divide; lower it"
        raise ConfigError(Problem(text, "data", "folds", n_folds))
    # The size is treated as one more class, which every group has; it counts as much as all others together.
    groups = {group: np.append(counts, counts.sum()) for group, counts in groups.items()}
    weights = np.ones(len(next(iter(groups.values()))))
    weights[-1] = len(weights) - 1
    fold_of = _deal(groups, np.full(n_folds, 1 / n_folds), np.random.default_rng(0), weights)
    folds_of_class: dict[str, set[int]] = {}
    for labels, group in zip(table["labels"], table["group"], strict=True):
        for label in labels:
            folds_of_class.setdefault(label, set()).add(fold_of[group])
    if alone := sorted(label for label, folds in folds_of_class.items() if len(folds) == 1):
        classes = counted(len(alone), "class is", "classes are")
        log.warning(
            "%s in one fold only, so that no model that tests them was trained on them: %s", classes, ", ".join(alone)
        )
    return [fold_of[group] + 1 for group in table["group"]]


def _count_classes(labels_of_rows: Iterable[tuple[str, ...]], group_of_rows: Iterable[str]) -> dict[str, np.ndarray]:
    """The number of recordings of each class in each group."""
    labels_of_rows = list(labels_of_rows)
    classes = {label: index for index, label in enumerate(sorted({label for row in labels_of_rows for label in row}))}
    groups: dict[str, np.ndarray] = {}
    for labels, group in zip(labels_of_rows, group_of_rows, strict=True):
        counts = groups.setdefault(group, np.zeros(len(classes)))
        for label in labels:
            counts[classes[label]] += 1
    return groups


def _deal(
    groups: dict[str, np.ndarray], shares: np.ndarray, rng: np.random.Generator, weights: np.ndarray | None = None
) -> dict[str, int]:
    """The subset of each group.

    Args:
        weights: of each class in the cost of an assignment. With weights the subsets are folds, which are equal;
            without, the first subset is training, which has priority.
    """
    names = sorted(groups)
    counts = np.array([groups[name] for name in names])  # (groups, classes)
    target = np.maximum(shares[:, None] * counts.sum(axis=0), 1e-9)  # (splits, classes)
    filled = np.zeros_like(target)
    groups_of_class = np.maximum((counts > 0).sum(axis=0), 1)
    rarest = np.where(counts > 0, groups_of_class, len(names) + 1).min(axis=1)
    order = rng.permutation(len(names))  # the seed decides between equals
    order = order[np.lexsort((-counts[order].sum(axis=1), rarest[order]))]
    left = (counts > 0).sum(axis=0)  # groups of each class that are not assigned yet
    split_of = {}
    for index in order:
        present = counts[index] > 0
        before = filled[:, present] / target[:, present] - 1
        after = before + counts[index, present] / target[:, present]
        cost = np.square(after) - np.square(before)
        cost = cost.sum(axis=1) if weights is None else cost @ weights[present]
        cost[shares == 0] = np.inf
        empty = (filled == 0) & (shares > 0)[:, None] & present  # (splits, classes)
        if weights is None:  # training first, because a class that is not trained cannot be scored; then the shares
            split = 0 if empty[0].any() else int(cost.argmin())
        else:  # first the folds without a class of which no more groups are left than such folds
            waiting = (empty & (left <= empty.sum(axis=0))).sum(axis=1)
            split = int(np.lexsort((cost, -waiting))[0])
        left -= present
        split_of[names[index]] = split
        filled[split] += counts[index]
    return split_of


def _log_small_classes(table: "pd.DataFrame", splits: list[str], expected: list[str]) -> None:
    """Report which classes are not in every subset, and why."""
    present: dict[str, Counter] = {}
    for labels, split in zip(table["labels"], splits, strict=True):
        for label in labels:
            present.setdefault(label, Counter())[split] += 1
    for missing in expected[1:]:
        absent = sorted(label for label, counts in present.items() if not counts[missing])
        if absent:
            classes = counted(len(absent), "class has", "classes have")
            text = (
                "%s too few groups of recordings for %s, so that they are not scored there; training has priority: %s"
            )
            log.warning(text, classes, missing, ", ".join(absent))
