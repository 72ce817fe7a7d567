import itertools

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from hftransfer.errors import HFTransferError
from hftransfer.functional.kernel_distance import kernel_distance


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, 4)), rng.normal(0.5, 1.5, size=(30, 4))


def test_sums_written_out():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 5, 3))

    def kernel(x, y):
        return (x @ y / 3 + 1) ** 3

    within = sum(np.mean([kernel(x, y) for x, y in itertools.permutations(rows, 2)]) for rows in (first, second))
    between = np.mean([kernel(x, y) for x in first for y in second])
    found = kernel_distance(first, second, subsets=3)
    assert found.mean == pytest.approx(within - 2 * between, rel=1e-10)
    assert found.std == pytest.approx(0, abs=1e-12)  # every subset is the whole


def test_torchmetrics_agrees(samples):
    expected = poly_mmd(*(torch.from_numpy(rows) for rows in samples)).item()
    assert kernel_distance(*samples, subsets=1).mean == pytest.approx(expected, rel=1e-9)


def test_unbiased_by_smaller_subsets(samples):
    whole = kernel_distance(*samples, subsets=1).mean
    for size in (3, 10, 20):
        found = kernel_distance(*samples, subsets=3000, subset_size=size)
        assert abs(found.mean - whole) < 4 * found.std / np.sqrt(3000)
        assert found.std > 0


def test_samples_of_one_distribution_are_about_zero_on_either_side():
    rng = np.random.default_rng(0)
    found = [kernel_distance(*rng.normal(size=(2, 40, 4)), subsets=1).mean for _ in range(400)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 20
    assert 0.2 < np.mean(np.less(found, 0)) < 0.8
    far = kernel_distance(rng.normal(size=(40, 4)), rng.normal(1, 1, size=(40, 4)), subsets=1).mean
    assert far > 5 * np.std(found)


def test_invariances(samples):
    first, second = samples
    value = kernel_distance(first, second, subsets=1).mean
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    assert kernel_distance(first @ turn, second @ turn, subsets=1).mean == pytest.approx(value, rel=1e-9)
    assert kernel_distance(second, first, subsets=1).mean == pytest.approx(value, rel=1e-9)


def test_the_seed_decides(samples):
    first = kernel_distance(*samples, subset_size=5, seed=1)
    assert first == kernel_distance(*samples, subset_size=5, seed=1)
    assert first != kernel_distance(*samples, subset_size=5, seed=2)


def test_the_smaller_sample_limits_a_subset(samples):
    first, second = samples
    assert kernel_distance(first, second[:4], subset_size=20) == kernel_distance(first, second[:4], subset_size=4)
    with pytest.raises(HFTransferError, match="give at least 2"):
        kernel_distance(first, second[:1])
