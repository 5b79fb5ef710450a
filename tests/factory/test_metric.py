"""Is an epoch rightly called better?"""

import math

import pytest

from factory.metric import METRICS, build_metric
from utils.errors import ConfigError
from utils.settings import Callbacks


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_prefers_its_own_side(name):
    metric = build_metric(Callbacks(model_checkpoint_type=name))
    low_wins = name == "val_loss"
    assert metric.name == name
    assert metric.better(0.4, 0.5) is low_wins
    assert metric.better(0.5, 0.4) is not low_wins
    assert not metric.better(0.5, 0.5)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_missing_score_never_beats_and_is_always_beaten(name, missing):
    metric = build_metric(Callbacks(model_checkpoint_type=name))
    assert not metric.better(missing, 0.5)
    assert not metric.better(missing, missing)
    assert metric.better(0.5, missing)


def test_an_unknown_metric_names_the_nearest():
    with pytest.raises(ConfigError, match=r"model_checkpoint_type = 'val_auc': unknown; did you mean 'val_macro_auc'"):
        build_metric(Callbacks(model_checkpoint_type="val_auc"))
