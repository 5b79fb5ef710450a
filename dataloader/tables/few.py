"""What would a smaller collection give? Keep fewer training recordings of each class, drawn by the seed."""

from typing import TYPE_CHECKING

import numpy as np

from utils.utils import seed_for

if TYPE_CHECKING:
    import pandas as pd


def keep_few(table: "pd.DataFrame", count: int, seed: int) -> "pd.DataFrame":
    """Leave out training recordings until there are ``count`` of each class; other subsets do not change.

    A recording of two species is kept if it is drawn for one of them. Recordings without any species are drawn like a
    class.

    Args:
        table: with ``filename``, ``labels`` and ``split``.
        count: recordings of a class; 0: all.
    """
    if not count:
        return table
    of_class: dict[str, list[int]] = {}
    for row in np.argsort(table["filename"].to_numpy(), kind="stable").tolist():
        if table["split"].iloc[row] == "train":
            for label in table["labels"].iloc[row] or ("",):
                of_class.setdefault(label, []).append(row)
    kept = set(np.flatnonzero(table["split"] != "train").tolist())
    for label, rows in of_class.items():
        drawn = np.random.default_rng(seed_for(seed, "few", label)).permutation(len(rows))[:count]
        kept |= {rows[index] for index in drawn}
    return table.iloc[sorted(kept)].reset_index(drop=True)
