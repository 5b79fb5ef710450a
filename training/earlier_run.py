"""Which recordings did the run train on whose weights this one starts from? They must not be used for testing."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from dataloader.tables.splits import SPLITS
from utils.errors import ConfigError, Problem, counted
from utils.run_folder import CONTENT, SPLIT
from utils.settings import Config

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def earlier_splits(config: Config, metadata: "pd.DataFrame") -> "pd.Series | None":
    """For each recording its subset in the run of the checkpoint ``weights_path``; empty for new ones.

    A recording is recognised by its content, or by its filename if that run has no digests. If all known recordings of
    a group are in one subset, a new recording of the group belongs to it too.

    Returns:
        The subsets; None if there is no such run, or none of its recordings are in the data.

    Raises:
        ConfigError: [data] folds would test on recordings that the earlier run trained on.
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
            "be used for testing; set folds = 0, or start from other weights"
        )
        raise ConfigError(Problem(text, "data", "folds", config.data.folds))
    of_group = dict(zip(metadata["group"][known.ne("")], known[known.ne("")], strict=True))
    splits = known.where(known.ne(""), metadata["group"].map(of_group).fillna(""))
    log.info(
        "%s trained on %d of these recordings, which train again; %d keep their subset (val or test), and "
        "%d new ones are divided", path, n_trained, n_known - n_trained, len(known) - n_known,
    )  # fmt: skip
    return splits


def must_leave_a_test(config: Config, splits: list[str], known: "pd.Series") -> None:
    """Refuse to start if the earlier run has trained on all recordings that could be tested.

    Raises:
        ConfigError: the earlier run trained on every recording that could be tested.
    """
    wants_test = config.data.train_ratio < 1 and config.data.test_val_ratio > 0
    if wants_test and "test" not in splits:
        n_trained = int((known == "train").sum())
        text = (
            f"this run trained on {counted(n_trained, 'recording')} of the {len(splits)} here, and none is left to "
            "test with; add new recordings, or set [data] train_ratio = 1.0"
        )
        raise ConfigError(Problem(text, "model", "weights_path", config.model.weights_path))


def _splits_of(run: Path, metadata: "pd.DataFrame") -> "pd.Series":
    import pandas as pd

    split = pd.read_csv(run / SPLIT, dtype=str, keep_default_na=False).set_index("filename")["split"]
    split = split[split.isin(SPLITS)]
    if (run / CONTENT).is_file() and "digest" in metadata:
        digests = pd.read_csv(run / CONTENT, dtype=str, keep_default_na=False).set_index("filename")["digest"]
        of_digest = {digests[name]: subset for name, subset in split.items() if name in digests}
        return metadata["digest"].map(of_digest).fillna("").astype(object)
    return metadata["filename"].map(split).fillna("").astype(object)
