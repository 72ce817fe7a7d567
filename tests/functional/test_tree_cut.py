"""A cut by number against scipy's cut by height."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from hftransfer.functional.tree_cut import tree_cut


@pytest.mark.parametrize("method", ["ward", "average", "complete", "single"])
@pytest.mark.parametrize("k", [1, 2, 5, 39, 40])
def test_it_is_scipys_where_no_joins_are_equally_high(method, k):
    tree = linkage(np.random.default_rng(3).normal(size=(40, 3)), method)
    found = tree_cut(tree, k)
    assert sorted(set(found.tolist())) == list(range(k))
    assert adjusted_rand_score(found, fcluster(tree, k, "maxclust")) == 1


@pytest.mark.parametrize("k", range(1, 7))
def test_equally_high_joins_make_as_many_groups_as_are_asked_for(k):
    tree = linkage(np.eye(6), "complete")
    assert len(set(tree_cut(tree, k).tolist())) == k


def test_cuts_are_nested():
    tree = linkage(np.random.default_rng(0).integers(0, 3, (50, 3)).astype(float), "average")
    for k in range(1, 50):
        coarse, fine = tree_cut(tree, k), tree_cut(tree, k + 1)
        assert len(set(zip(coarse.tolist(), fine.tolist(), strict=True))) == k + 1
