"""A hierarchy of joins, cut into groups."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def tree_cut(tree: NDArray[Any], k: int) -> NDArray[np.int64]:
    """(leaves,) numbers of exactly `k` groups: what is left when the last k - 1 joins are not made.

    scipy's `fcluster` cuts at a height and gives fewer groups where several joins have the same one.

    Args:
        tree: (leaves - 1, 4) scipy's linkage matrix; joins are in the order in which they are made.
        k: 1 to leaves.
    """
    leaves = len(tree) + 1
    joins = leaves - k
    group = np.arange(leaves + joins)
    for step, (left, right) in enumerate(tree[:joins, :2].astype(np.int64)):
        group[left] = group[right] = leaves + step
    for node in range(leaves + joins - 1, -1, -1):  # what two nodes become has a larger number than they
        group[node] = group[group[node]]
    return np.unique(group[:leaves], return_inverse=True)[1].astype(np.int64)
