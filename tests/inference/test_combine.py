"""How do several scores become one?"""

import numpy as np
import pytest

from inference.combine import KERNEL, combine, rank_mean, smooth


def scores(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def test_mean_and_min_are_over_the_models():
    each = [scores(2, 5, 3), scores(2, 1, 3, seed=1)]
    for how, expected in (("mean", np.mean), ("min", np.min)):
        for one, its in zip(combine(each, how), each, strict=True):
            assert one.dtype == np.float32
            np.testing.assert_allclose(one, expected(its, axis=0), rtol=1e-6)


def test_ranks_are_among_the_rows_of_all_recordings():
    one_model = [np.array([[[0.1], [0.9]]], np.float32), np.array([[[0.5], [0.5]]], np.float32)]
    first, second = rank_mean(one_model)
    assert first.ravel().tolist() == [0.25, 1.0]
    assert second.ravel().tolist() == [0.625, 0.625]  # equal scores share the mean of ranks 2 and 3, of 4


def test_the_rank_of_several_models_is_the_mean_of_theirs():
    (one,) = [scores(1, 6, 3)]
    twice = np.concatenate([one, one])
    np.testing.assert_allclose(rank_mean([twice])[0], rank_mean([one])[0])
    assert rank_mean([scores(3, 6, 3)])[0].max() <= 1


def test_ranks_ignore_the_size_of_a_models_scores():
    each = [scores(2, 6, 3), scores(2, 4, 3, seed=1)]
    squeezed = [np.stack([one[0], one[1] ** 3 / 100]) for one in each]
    for one, other in zip(combine(each, "rank"), combine(squeezed, "rank"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_kernel_weighs_1_and_a_constant_stays():
    assert sum(KERNEL) == pytest.approx(1)
    constant = np.full((7, 2), 0.3, np.float32)
    np.testing.assert_allclose(smooth(constant), constant, rtol=1e-6)


def test_smoothing_spreads_a_row_over_its_neighbours_and_repeats_the_ends():
    one = np.zeros((7, 1), np.float32)
    one[3] = 1
    np.testing.assert_allclose(smooth(one).ravel(), [0, 0.1, 0.2, 0.4, 0.2, 0.1, 0], atol=1e-7)
    first = np.zeros((7, 1), np.float32)
    first[0] = 1
    np.testing.assert_allclose(smooth(first).ravel(), [0.7, 0.3, 0.1, 0, 0, 0, 0], atol=1e-7)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_few_rows_can_be_smoothed(rows):
    smoothed = smooth(scores(rows, 2))
    assert smoothed.shape == (rows, 2)
    assert smoothed.dtype == np.float32
    if rows == 1:
        np.testing.assert_allclose(smoothed, scores(1, 2), rtol=1e-6)
