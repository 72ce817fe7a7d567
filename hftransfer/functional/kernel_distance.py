"""Bińkowski et al. 2018, Demystifying MMD GANs, arXiv:1801.01401: a distance that few rows make no larger."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hftransfer.functional.samples import Rows, two_samples


class KernelDistance(NamedTuple):
    """A distance over subsets of the rows."""

    mean: float  # near 0, on either side, for samples of one distribution
    std: float  # of a subset's distance, not of the mean


def kernel_distance(
    first: ArrayLike, second: ArrayLike, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> KernelDistance:
    """Squared maximum mean discrepancy under the kernel (x'y / d + 1)^3, the U-statistic on pairs of subsets.

    Args:
        first: (n, d), n >= 2.
        second: (m, d), m >= 2.
        subsets: how many pairs are drawn.
        subset_size: rows in each, at most as many as the smaller sample has; where both have no more, every subset is
            the whole and `std` is 0.
        seed: of the draws.
    """
    one, two = two_samples(first, second, least=2)
    size = min(subset_size, len(one), len(two))
    rng = np.random.default_rng(seed)
    distances = [
        _unbiased(one[rng.choice(len(one), size, replace=False)], two[rng.choice(len(two), size, replace=False)])
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(distances)), float(np.std(distances)))


def _unbiased(one: Rows, two: Rows) -> float:
    """Means over pairs of different rows within each sample, less twice the mean over pairs between them."""
    within = sum(kernel.sum() - kernel.trace() for kernel in (_cubic(one, one), _cubic(two, two)))
    return float(within / (len(one) * (len(one) - 1)) - 2 * _cubic(one, two).mean())


def _cubic(one: Rows, two: Rows) -> Rows:
    base = one @ two.T / one.shape[1] + 1
    return base * base * base  # several times as fast as a power
