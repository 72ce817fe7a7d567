import numpy as np
import pytest
from scipy.stats import chi2, entropy

from hftransfer.functional.modes import label_divergence, modes

GRID = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), -1).reshape(25, 2)
STD = 0.05


def mixture(rows, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(25, size=rows)
    return rng.normal(GRID[labels], STD), labels


def test_of_the_mixture_itself_all_modes_and_the_expected_share():
    samples, labels = mixture(20_000)
    found = modes(samples, GRID, STD)
    assert found.found == 25
    assert found.good == pytest.approx(chi2.cdf(9, df=2), abs=0.003)
    assert found.counts.sum() == round(found.good * 20_000)
    assert (found.counts <= np.bincount(labels)).all()
    assert modes(samples, GRID, STD, radius=2).good == pytest.approx(chi2.cdf(4, df=2), abs=0.01)


def test_collapse_noise_and_what_lies_between():
    samples, labels = mixture(1000)
    kept = np.isin(labels, [3, 7])
    found = modes(samples[kept], GRID, STD)
    assert found.found == 2 and np.flatnonzero(found.counts).tolist() == [3, 7]
    assert found.good > 0.95
    between = modes(GRID + 0.5, GRID, STD)
    assert (between.found, between.good, between.counts.sum()) == (0, 0.0, 0)


def test_the_edge_and_the_least_number():
    samples = [[0.14, 0], [0.16, 0], [1, 1], [1, 1.01]]
    found = modes(samples, GRID, STD)
    assert (found.found, found.good) == (2, 0.75)
    assert modes(samples, GRID, STD, least=2).found == 1


def test_of_two_near_centres_the_nearer_counts():
    found = modes([[0.4], [0.4], [0.6]], [[0.0], [1.0]], 1.0)
    assert found.counts.tolist() == [2, 1] and found.good == 1


def test_divergence_is_scipys_without_smoothing():
    generated, real = [5, 3, 2], [10, 30, 60]
    assert label_divergence(generated, real, smoothing=0.0) == pytest.approx(entropy(generated, real))
    assert label_divergence(generated, real) == pytest.approx(entropy(generated, real), rel=0.01)


def test_divergence_of_collapse_is_the_logarithm_of_the_classes():
    collapsed = np.eye(10)[4] * 700
    assert label_divergence(collapsed, np.ones(10)) == pytest.approx(np.log(10), abs=0.02)
    assert label_divergence([7, 14, 0], [1, 2, 0]) == pytest.approx(0, abs=1e-15)
    assert label_divergence([1, 1], [1, 3]) == label_divergence([100, 100], [0.25, 0.75])


def test_a_class_that_the_data_lack_costs_a_finite_price():
    price = label_divergence([1, 1], [1, 0])
    assert np.isfinite(price) and price > 2
    assert label_divergence([1, 1], [1, 0], smoothing=0.1) < price
