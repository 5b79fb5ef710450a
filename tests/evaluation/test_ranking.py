"""Are AUC, average precision and top-k those of scikit-learn, for the data and for every resample?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_score, recall_score, roc_auc_score

from evaluation.intervals import draw_weights
from evaluation.ranking import PADDING, count_decisions, mean_of_rows, rank_classes, rank_rows
from utils.metrics import macro_auc, padded_cmap


@st.composite
def tables(draw):
    """Targets, scores with ties, and groups."""
    rows, classes = draw(st.integers(2, 40)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    targets = (rng.random((rows, classes)) < draw(st.sampled_from([0.1, 0.5, 0.9]))).astype(np.int8)
    scores = np.round(rng.random((rows, classes)), draw(st.sampled_from([1, 3])))
    return targets, scores, rng.integers(0, draw(st.integers(1, 8)), rows)


@settings(max_examples=40, deadline=None)
@given(tables())
def test_every_resample_is_that_of_scikit_learn(table):
    targets, scores, group = table
    weights = draw_weights(group.max() + 1, resamples=2)
    ranking = rank_classes(targets, scores, group, weights)
    for column in range(targets.shape[1]):
        for draw, of_groups in enumerate(weights.T):
            its = of_groups[group]
            present = its[targets[:, column] == 1].sum()
            if not 0 < present < its.sum():
                assert np.isnan(ranking.auc[column, draw])
                continue
            auc = roc_auc_score(targets[:, column], scores[:, column], sample_weight=its)
            ap = average_precision_score(targets[:, column], scores[:, column], sample_weight=its)
            padded = average_precision_score(
                np.append(targets[:, column], np.ones(PADDING)),
                np.append(scores[:, column], np.ones(PADDING)),
                sample_weight=np.append(its, np.ones(PADDING)),
            )
            assert ranking.auc[column, draw] == pytest.approx(auc, abs=1e-6)
            assert ranking.average_precision[column, draw] == pytest.approx(ap, abs=1e-6)
            assert ranking.padded_average_precision[column, draw] == pytest.approx(padded, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(tables())
def test_the_means_are_those_that_training_reports(table):
    targets, scores, group = table
    ranking = rank_classes(targets, scores, group, np.ones((group.max() + 1, 1)))
    scored = np.isfinite(ranking.auc[:, 0])
    ours = ranking.auc[scored, 0].mean() if scored.any() else None
    assert ours == pytest.approx(macro_auc(targets, scores)) if ours is not None else macro_auc(targets, scores) is None
    assert ranking.padded_average_precision[:, 0].mean() == pytest.approx(padded_cmap(targets, scores))


@settings(max_examples=30, deadline=None)
@given(tables())
def test_the_mean_over_rows_is_that_of_scikit_learn(table):
    targets, scores, group = table
    present = targets.any(axis=1)
    found = rank_rows(targets, scores)
    assert np.isnan(found["average_precision"][~present]).all()
    if present.any() and targets.shape[1] > 1:  # of one class scikit-learn takes the rows for classes
        reference = average_precision_score(targets[present], scores[present], average="samples")
        assert mean_of_rows(found["average_precision"], group, np.ones((group.max() + 1, 1)))[0] == pytest.approx(
            reference
        )
        alone = np.where(targets == 0, scores, -1).max(axis=1) != np.where(targets == 1, scores, -1).max(axis=1)
        clear = present & alone  # without a tie of a class that is there and one that is not
        best = scores[clear].argmax(axis=1)
        np.testing.assert_array_equal(found["top1"][clear], targets[clear][np.arange(len(best)), best])
        assert not found["top1"][present & ~alone].any()


@settings(max_examples=30, deadline=None)
@given(tables())
def test_decisions_are_counted_as_scikit_learn_does(table):
    targets, scores, group = table
    counts = count_decisions(targets, scores, np.full(targets.shape[1], 0.5), group, np.ones((group.max() + 1, 1)))
    for column in range(targets.shape[1]):
        true, false, missed = (counts[name][column, 0] for name in ("true", "false", "missed"))
        decided = scores[:, column] >= 0.5
        if true + false:
            assert true / (true + false) == pytest.approx(precision_score(targets[:, column], decided))
        if true + missed:
            assert true / (true + missed) == pytest.approx(recall_score(targets[:, column], decided))


def test_unknown_cells_are_as_if_they_were_not_there():
    rng = np.random.default_rng(1)
    targets, scores, group = (rng.random((60, 3)) < 0.4).astype(np.int8), rng.random((60, 3)), np.arange(60) % 7
    unknown = rng.random((60, 3)) < 0.3
    masked = np.where(unknown, -1, targets)
    weights = draw_weights(7, resamples=3)
    found = rank_classes(masked, scores, group, weights)
    for column in range(3):
        rows = ~unknown[:, column]
        alone = rank_classes(
            targets[rows, column : column + 1], scores[rows, column : column + 1], group[rows], weights
        )
        np.testing.assert_allclose(found.auc[column], alone.auc[0])
    never = count_decisions(masked, scores, np.full(3, np.nan), group, weights)
    assert not never["true"].any()
    assert not never["false"].any()


def test_the_products_of_few_and_of_many_groups_agree():
    rng = np.random.default_rng(2)
    targets, scores = (rng.random((3000, 1)) < 0.5).astype(np.int8), rng.random((3000, 1))
    many = np.arange(3000)  # a sparse product; with few groups it is a dense one
    one = rank_classes(targets, scores, many, np.ones((3000, 2)))
    few = rank_classes(targets, scores, many % 2, np.ones((2, 2)))
    np.testing.assert_allclose(one.auc, few.auc)
    np.testing.assert_allclose(one.average_precision, few.average_precision)


def test_a_row_in_which_nothing_was_detected_is_no_hit_of_the_first_class():
    found = rank_rows(np.array([[1, 0, 0], [1, 1, -1]]), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.9]]))
    assert found["top1"].tolist() == [0, 1]  # in the second both are there, and the third is not known


def test_a_hit_of_the_top_five_has_fewer_than_five_absent_classes_with_as_high_a_score():
    targets, scores = np.eye(7)[[0, 0]].astype(np.int8), np.tile(np.arange(7, 0, -1) / 10, (2, 1))
    scores[:, 0] = [0.25, 0.2]  # four classes have a higher score than 0.25; five have at least 0.2, one of them a tie
    assert rank_rows(targets, scores)["top5"].tolist() == [1, 0]
