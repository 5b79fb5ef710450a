"""What does scikit-learn score on the same embeddings? The reference of few_shot.py for heads on encoders.

A logistic regression (C = 0.1, balanced classes) on the standardised mean embedding of each recording, which is what a
few lines in a notebook would compute.
"""

from functools import lru_cache

import numpy as np
import pandas as pd

from dataloader.cache.entries import entry_path, read_index, read_window
from dataloader.data_preprocess import stage_of
from training.planned_runs import PlannedRun, labels_of, tested_of
from utils.config import load_config
from utils.run_folder import CONFIG, SEPARATOR, SPLIT


def reference_scores(planned: PlannedRun) -> pd.DataFrame:
    """The probabilities of the test recordings, as ``scores_of`` gives the run's own scores: by filename and label."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    means = mean_embeddings(planned)
    split = pd.read_csv(planned.run / SPLIT, dtype=str, keep_default_na=False)
    train, test = split[split["split"] == "train"], tested_of(planned.run)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=3000))
    model.fit(means.loc[train["filename"]], train["label"].str.split(SEPARATOR).str[0])
    found = pd.DataFrame(model.predict_proba(means.loc[test["filename"]]), test["filename"], model.classes_)
    return found.reindex(columns=labels_of(planned.run), fill_value=0.0)


def mean_embeddings(planned: PlannedRun) -> pd.DataFrame:
    """``(recordings, size)`` by filename, from the cache of a run.

    Raises:
        UserError: the file of the run's encoder no longer exists.
    """
    config = load_config(planned.run / CONFIG)
    stage = stage_of(config)
    return _means(config.data.output_dir / stage.key(), stage.n_features)


@lru_cache(maxsize=2)
def _means(folder, size: int) -> pd.DataFrame:
    means = {}
    for name, record in read_index(folder).items():
        if not record.reason:
            windows = np.empty((record.frames, size), np.float16)
            _, scale = read_window(str(entry_path(folder, name)), size, record.frames, 0, windows)
            means[name] = (windows * scale).mean(axis=0)
    return pd.DataFrame.from_dict(means, orient="index")
