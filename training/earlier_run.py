"""Which recordings did an earlier run train on, whose weights are the start of this one? They must not be held out."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from dataloader.tables.schema import counted
from dataloader.tables.splits import SPLITS
from utils.config import Config
from utils.errors import ConfigError, Problem
from utils.run_folder import CONTENT, SPLIT

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def earlier_splits(config: Config, metadata: "pd.DataFrame") -> "pd.Series | None":
    """For each recording its split in the run that ``weights_path`` is a checkpoint of, empty for new ones.

    A recording is known by its content, and where that run has no digests by its filename. A new recording of a group
    that stands on one side there belongs to that side.

    Returns:
        None where there is no such run, or none of its recordings are here.

    Raises:
        ConfigError: [data] folds would test on recordings that it trained on.
    """
    path = config.model.weights_path
    if not config.model.transfer_learning or path is None or not (path.parent / SPLIT).is_file():
        return None
    known = _splits_of(path.parent, metadata)
    n_known, n_trained = int(known.ne("").sum()), int((known == "train").sum())
    if not n_known:
        return None
    if config.data.folds and n_trained:
        text = (
            f"{counted(n_trained, 'recording')} of the folds trained the run of weights_path, {path.parent}, and would "
            "be tested on; set folds = 0, or start from other weights"
        )
        raise ConfigError(Problem(text, "data", "folds", config.data.folds))
    of_group = dict(zip(metadata["group"][known.ne("")], known[known.ne("")], strict=True))
    sides = known.where(known.ne(""), metadata["group"].map(of_group).fillna(""))
    log.info(
        "%s trained on %d of these recordings, which train again; %d keep their side of its split (val or test), and "
        "%d new ones are dealt out", path, n_trained, n_known - n_trained, len(known) - n_known,
    )  # fmt: skip
    return sides


def must_leave_a_test(config: Config, splits: list[str], known: "pd.Series") -> None:
    """Refuse a split without a test set that the earlier run has used up.

    Raises:
        ConfigError: every recording that could be tested on has trained that run.
    """
    wants_test = config.data.train_ratio < 1 and config.data.test_val_ratio > 0
    if wants_test and "test" not in splits:
        n_trained = int((known == "train").sum())
        text = (
            f"this run trained on {counted(n_trained, 'recording')} of the {len(splits)} here, and none is left to "
            "test on; bring new recordings, or set [data] train_ratio = 1.0"
        )
        raise ConfigError(Problem(text, "model", "weights_path", config.model.weights_path))


def _splits_of(run: Path, metadata: "pd.DataFrame") -> "pd.Series":
    import pandas as pd

    split = pd.read_csv(run / SPLIT, dtype=str, keep_default_na=False).set_index("filename")["split"]
    split = split[split.isin(SPLITS)]
    if (run / CONTENT).is_file() and "digest" in metadata:
        digests = pd.read_csv(run / CONTENT, dtype=str, keep_default_na=False).set_index("filename")["digest"]
        of_digest = {digests[name]: side for name, side in split.items() if name in digests}
        return metadata["digest"].map(of_digest).fillna("").astype(object)
    return metadata["filename"].map(split).fillna("").astype(object)
