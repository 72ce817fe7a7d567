"""Bińkowski et al. 2018, Demystifying MMD GANs, arXiv:1801.01401: a distance that few rows make no larger."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from hftransfer.functional.bootstrap import Interval
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


def kernel_gain(
    real: ArrayLike, before: ArrayLike, after: ArrayLike, *, num_resamples: int = 1000, seed: int = 0
) -> Interval:
    """How much nearer to `real` (n, d) the sample `after` is than `before`: the difference of their distances.

    The interval is a bootstrap over the rows of all three samples; pairs of one row with itself never count, so that
    drawing a row twice makes nothing nearer. Below 0, `after` is nearer.
    """
    real, one = two_samples(real, before, least=2)
    real, two = two_samples(real, after, least=2)
    rng = np.random.default_rng(seed)
    within = {name: _cubic(rows, rows) for name, rows in (("real", real), ("before", one), ("after", two))}
    across = {name: _cubic(real, rows) for name, rows in (("before", one), ("after", two))}

    def distances(name: str, rows: Rows, counts: Rows, wanted: Rows) -> Rows:
        """(resamples,) of counts (resamples, n) of each row."""
        own = [_pairs(within["real"], counts), _pairs(within[name], wanted)]
        between = np.einsum("bi,bi->b", counts @ across[name], wanted) / (len(real) * len(rows))
        return own[0] + own[1] - 2 * between

    def gains(counts: dict[str, Rows]) -> Rows:
        found = [
            distances(name, rows, counts["real"], counts[name]) for name, rows in (("before", one), ("after", two))
        ]
        return found[1] - found[0]

    samples = {"real": real, "before": one, "after": two}
    once = {name: np.ones((1, len(rows))) for name, rows in samples.items()}
    drawn = {
        name: rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), num_resamples).astype(float)
        for name, rows in samples.items()
    }
    low, high = np.quantile(gains(drawn), [0.025, 0.975])
    return Interval(float(gains(once)[0]), float(low), float(high))


def _pairs(kernel: Rows, counts: Rows) -> Rows:
    """(resamples,) the mean over pairs of different rows, each row as often as it is counted."""
    same = np.square(counts) @ np.diag(kernel)
    total = np.square(counts.sum(1)) - np.square(counts).sum(1)
    return (np.einsum("bi,bi->b", counts @ kernel, counts) - same) / total
