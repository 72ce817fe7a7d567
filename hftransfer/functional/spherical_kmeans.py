"""k-means by angles: centres are directions (Dhillon and Modha 2001, Machine Learning 42)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hftransfer.functional.unit import unit

Array = NDArray[Any]


def spherical_kmeans(
    vectors: Array, k: int, seed: int, *, n_init: int = 10, max_iter: int = 300, tol: float = 1e-6
) -> Array:
    """(k, width) directions, those with the largest sum of cosines of `n_init` starts by k-means++.

    A direction that loses all its rows is moved to the row that lies farthest from its own.
    """
    rows = unit(vectors)
    starts = np.random.SeedSequence(seed).spawn(n_init)
    found = [_one(rows, k, np.random.default_rng(start), max_iter, tol) for start in starts]
    return max(found, key=lambda one: one[1])[0]


def _one(rows: Array, k: int, noise: np.random.Generator, max_iter: int, tol: float) -> tuple[Array, float]:
    centres, before = _plus_plus(rows, k, noise), -np.inf
    for _ in range(max_iter):
        cosines = rows @ centres.T
        labels = cosines.argmax(axis=1)
        own = cosines[np.arange(len(rows)), labels]
        if own.sum() - before <= tol * len(rows):
            break
        before = own.sum()
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, rows)
        empty = np.flatnonzero(np.bincount(labels, minlength=k) == 0)
        sums[empty] = rows[np.argsort(own)[: len(empty)]]
        centres = unit(sums)
    return centres, float((rows @ centres.T).max(axis=1).sum())


def _plus_plus(rows: Array, k: int, noise: np.random.Generator) -> Array:
    """Rows that are drawn one after another, the likelier the farther from those before (Arthur and Vassilvitskii)."""
    chosen = [int(noise.integers(len(rows)))]
    far = 1 - rows @ rows[chosen[0]]
    for _ in range(k - 1):
        weights = far.clip(min=0) ** 2
        total = weights.sum()
        chosen.append(int(noise.choice(len(rows), p=weights / total) if total > 0 else noise.integers(len(rows))))
        far = np.minimum(far, 1 - rows @ rows[chosen[-1]])
    return rows[chosen].copy()
