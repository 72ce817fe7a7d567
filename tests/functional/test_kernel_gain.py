"""Which of two generators' samples are nearer to real ones."""

import numpy as np
import pytest

from hftransfer.functional.kernel_distance import kernel_distance, kernel_gain


def drawn(seed, shift=0.0, rows=150):
    return np.random.default_rng(seed).normal(size=(rows, 3)) + shift


def test_it_is_the_difference_of_the_two_distances():
    real, before, after = drawn(0), drawn(1, 1.0), drawn(2, 0.3, rows=120)
    found = kernel_gain(real, before, after, num_resamples=50)
    alone = [kernel_distance(real[: len(some)], some, subsets=1).mean for some in (before,)]
    assert found.difference == pytest.approx(kernel_gain(real, after, before, num_resamples=50).difference * -1)
    same = kernel_gain(real, before, before, num_resamples=50)
    assert same.difference == pytest.approx(0, abs=1e-12) and alone[0] > 0
    nearer = kernel_gain(real, before, real + 1e-9, num_resamples=50).difference
    assert nearer < found.difference < 0


def test_equal_sizes_give_kernel_distances_exactly():
    real, before, after = drawn(0), drawn(1, 1.0), drawn(2, 0.3)
    found = kernel_gain(real, before, after, num_resamples=10)
    expected = kernel_distance(real, after, subsets=1).mean - kernel_distance(real, before, subsets=1).mean
    assert found.difference == pytest.approx(expected)


def test_the_interval_holds_nothing_of_luck():
    """Two samples of one distribution: 0 is inside about as often as it should be."""
    inside = 0
    for seed in range(40):
        found = kernel_gain(drawn(3 * seed), drawn(3 * seed + 1), drawn(3 * seed + 2), num_resamples=200, seed=seed)
        inside += found.low <= 0 <= found.high
    assert inside >= 34
    far = kernel_gain(drawn(0), drawn(1, 1.0), drawn(2))
    assert far.high < 0
