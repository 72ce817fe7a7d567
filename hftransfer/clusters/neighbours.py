"""The nearest of some fixed rows, exactly: a row that is among them finds itself, in whatever batch it comes.

Distances by matrix products are quick, and off by rounding that depends on the batch: they choose candidates, whose
distances are then computed number by number.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

Array = NDArray[Any]
SPARE = 4  # candidates beyond those that are asked for
AT_ONCE = 20_000  # rows


def neighbours(rows: Array, reference: Array, count: int = 1) -> tuple[Array, Array]:
    """The nearest of `reference` to each row, the nearest first; of equally near ones the first.

    Args:
        rows: (n, numbers).
        reference: (m, numbers), m >= count.

    Returns:
        (n, count) Euclidean distances, (n, count) numbers of reference rows.
    """
    fixed = np.asarray(reference, dtype=np.float64)
    middle = fixed.mean(axis=0)  # products of large numbers would tell nothing apart
    near = NearestNeighbors(n_neighbors=min(len(fixed), count + SPARE), algorithm="brute").fit(fixed - middle)
    found = [
        _exact(np.asarray(rows[start : start + AT_ONCE], dtype=np.float64), fixed, middle, near, count)
        for start in range(0, len(rows), AT_ONCE)
    ]
    distances, numbers = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return distances, numbers


def _exact(rows: Array, fixed: Array, middle: Array, near: NearestNeighbors, count: int) -> tuple[Array, Array]:
    candidates = np.sort(near.kneighbors(rows - middle, return_distance=False), axis=1)
    squares = np.stack([np.square(rows - fixed[column]).sum(axis=1) for column in candidates.T], axis=1)
    order = np.argsort(squares, axis=1, kind="stable")[:, :count]
    return np.sqrt(np.take_along_axis(squares, order, axis=1)), np.take_along_axis(candidates, order, axis=1)


def first_of_twins(rows: Array) -> tuple[Array, Array]:
    """Numbers of the rows that differ from all before them, and for each row which of those it equals."""
    _, first, place = np.unique(np.asarray(rows) + 0.0, axis=0, return_index=True, return_inverse=True)  # -0 is 0
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[place.ravel()]
