"""Are our scores scikit-learn's, on the classes that count?"""

import time

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from utils.metrics import (
    is_mostly_padding,
    macro_auc,
    mean_by_recording,
    padded_cmap,
    scores,
    top1,
    window_scores,
)

METRICS = [macro_auc, top1, padded_cmap]


def example(rows: int = 300, classes: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Targets of which some classes have no positive and one no negative, and scores with many ties."""
    random = np.random.default_rng(seed)
    targets = (random.random((rows, classes)) < 0.1).astype(np.float32)
    targets[:, 2], targets[:, 4] = 0, 1
    return targets, np.round(random.random((rows, classes)) * 0.7 + targets * 0.3, 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_macro_auc_is_scikit_learns_on_the_classes_with_positives_and_negatives(dtype):
    targets, predicted = example()
    predicted = predicted.astype(dtype)
    counted = [0, 1, 3, 5, 6]
    expected = roc_auc_score(targets[:, counted], predicted[:, counted], average="macro")
    assert macro_auc(targets, predicted) == pytest.approx(expected, abs=1e-12)


def test_equal_scores_have_auc_one_half():
    targets, predicted = example()
    assert macro_auc(targets, np.full_like(predicted, 0.3)) == 0.5


def test_perfect_scores_are_perfect():
    targets, _ = example()
    assert macro_auc(targets, targets) == 1.0
    assert top1(targets, targets) == 1.0


def test_a_soft_target_above_one_half_is_a_positive():
    targets, predicted = example()
    assert macro_auc(targets * 0.1 + 0.45, predicted) == macro_auc(targets, predicted)
    assert macro_auc(targets * 0.5, predicted) is None


@pytest.mark.parametrize("targets", [np.zeros((4, 3)), np.ones((4, 3)), np.zeros((0, 3)), np.ones((1, 3))])
def test_without_a_class_that_counts_there_is_no_macro_auc(targets):
    assert macro_auc(targets, np.full(targets.shape, 0.5)) is None


def test_top1_counts_rows_with_positives_only():
    targets = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 1, 0]])
    predicted = np.array([[0.1, 0.2, 0.9], [0.9, 0.1, 0.1], [0.9, 0.0, 0.0], [0.2, 0.3, 0.1]])
    assert top1(targets, predicted) == pytest.approx(2 / 3)
    assert top1(targets[2:3], predicted[2:3]) is None


@pytest.mark.parametrize("padding", [1, 5])
@pytest.mark.filterwarnings("error")
def test_padded_cmap_is_average_precision_after_rows_of_ones(padding):
    targets, predicted = example()
    columns = [
        average_precision_score(np.r_[of_class, np.ones(padding)], np.r_[score, np.ones(padding)])
        for of_class, score in zip(targets.T, predicted.T, strict=True)
    ]
    assert padded_cmap(targets, predicted, padding) == pytest.approx(np.mean(columns))


def test_padded_cmap_appends_five_rows_as_birdclef_did():
    targets, predicted = np.array([[1, 0], [0, 1], [0, 0]]), np.array([[0.2, 0.9], [0.6, 0.3], [0.9, 0.1]])
    assert padded_cmap(targets, predicted) == padded_cmap(targets, predicted, 5) != padded_cmap(targets, predicted, 1)


def test_padded_cmap_of_one_class_and_of_no_row():
    assert padded_cmap(np.array([[1], [0]]), np.array([[0.9], [0.1]])) == 1.0
    assert padded_cmap(np.zeros((0, 3)), np.zeros((0, 3))) is None


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_an_error(metric, bad):
    targets, predicted = example()
    predicted[3, 2] = bad
    with pytest.raises(ValueError, match="not finite"):
        metric(targets, predicted)


@pytest.mark.parametrize("metric", METRICS)
def test_arrays_of_other_shapes_are_an_error(metric):
    targets, predicted = example()
    with pytest.raises(ValueError, match=r"targets \(300, 7\) and scores \(300, 6\)"):
        metric(targets, predicted[:, :6])


def test_scores_are_named_after_their_set():
    targets, predicted = example()
    assert scores(targets, predicted) == {
        "val_macro_auc": macro_auc(targets, predicted),
        "val_top1": top1(targets, predicted),
        "val_cmap": padded_cmap(targets, predicted),
    }
    assert set(scores(targets, predicted, "test_")) == {"test_macro_auc", "test_top1", "test_cmap"}


def test_all_scores_of_a_large_validation_set_take_less_than_a_second():
    random = np.random.default_rng(0)
    targets, predicted = random.random((10_000, 200)) < 0.01, random.random((10_000, 200))
    start = time.process_time()
    scores(targets, predicted)
    assert time.process_time() - start < 1.0


def test_a_recordings_score_is_the_mean_over_its_windows_in_any_order():
    windows = np.array([[1.0, 0.0], [0.2, 0.6], [0.0, 1.0], [0.4, 0.0]], dtype=np.float16)
    means = mean_by_recording(windows, np.array([2, 0, 2, 1]), 3)
    np.testing.assert_allclose(means, [[0.2, 0.6], [0.4, 0.0], [0.5, 0.5]], atol=1e-3)


@pytest.mark.parametrize("recording", [[0, 0, 2], [0, 1, 3], [0, 1]])
def test_windows_that_do_not_match_the_recordings_are_an_error(recording):
    with pytest.raises(ValueError, match="expected"):
        mean_by_recording(np.zeros((3, 2)), np.array(recording), 3)


def test_windows_are_scored_without_what_is_not_known():
    targets = np.array([[1, -1], [0, 1], [0, -1], [-1, -1], [1, -1]], dtype=np.float32)
    predicted = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.9], [1.0, 0.1], [0.25, 0.5]])
    found = window_scores(targets, predicted)
    assert found == {"test_window_macro_auc": 0.75, "test_n_windows": 4, "test_n_labelled_windows": 3}
    assert window_scores(-np.ones((2, 2)), predicted[:2])["test_window_macro_auc"] is None


def test_a_padded_cmap_is_mostly_padding_where_most_classes_have_fewer_positives_than_that():
    assert is_mostly_padding(np.array([1, 4, 90]))
    assert is_mostly_padding(np.array([]))
    assert not is_mostly_padding(np.array([5, 0, 6]))
