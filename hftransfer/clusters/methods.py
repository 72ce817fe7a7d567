"""Grouping rows: one function for all methods, and one way of telling where a new row belongs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN, KMeans, MiniBatchKMeans
from sklearn.metrics import pairwise_distances_argmin

from hftransfer.clusters.checks import checked, distinct
from hftransfer.clusters.neighbours import first_of_twins, neighbours
from hftransfer.errors import HFTransferError, nearest
from hftransfer.functional.spherical_kmeans import spherical_kmeans
from hftransfer.functional.tree_cut import tree_cut
from hftransfer.functional.unit import unit

Array = NDArray[Any]
TREES = ("ward", "average", "complete")
METHODS = ("kmeans", "minibatch_kmeans", "spherical_kmeans", *TREES, "hdbscan")
MOST_IN_TREE = 10_000  # rows: a hierarchy's memory grows with their square
MICRO = 500  # groups by k-means whose middles a hierarchy joins, where there are more rows
OWN_FIELDS = {"n_clusters", "random_state", "copy", "store_centers"}  # decided by other options


@dataclass(frozen=True)
class Fitted:
    """Groups of rows: 0 is the largest, -1 none at all.

    A new row belongs where the nearest of `reference` does: the clusters' middles for k-means, the rows themselves for
    hierarchies and densities. So the fitted rows are assigned to their own clusters again.
    """

    method: str
    labels: Array  # (rows,)
    centres: Array  # (k, numbers) means of the clusters' rows; directions for spherical k-means
    reference: Array  # (n, numbers)
    reference_labels: Array  # (n,)
    reach: Array | None  # (k,) how far from its nearest row a new one may lie; None: any distance
    estimator: Any  # of scikit-learn, where there is one
    tree: Array | None  # scipy's linkage matrix
    leaves: Array | None  # the cluster of each leaf of the tree
    cut: float | None  # where the tree is cut
    says: str

    @property
    def k(self) -> int:
        return len(self.centres)

    @property
    def unit(self) -> str:
        """What a tree's heights are."""
        return {
            "ward": "growth of the spread within (Ward)",
            "average": "mean distance",
            "complete": "largest distance",
        }[self.method]

    def assign(self, vectors: Array) -> Array:
        """(rows,) the clusters of rows that were reduced as the fitted ones."""
        if self.method in ("kmeans", "minibatch_kmeans"):
            return self.reference_labels[pairwise_distances_argmin(vectors, self.reference)]
        if self.method == "spherical_kmeans":
            return self.reference_labels[(unit(vectors) @ self.reference.T).argmax(axis=1)]
        distances, rows = (found[:, 0] for found in neighbours(vectors, self.reference))
        labels = self.reference_labels[rows]
        if self.reach is None:
            return labels
        far = np.zeros(len(labels), dtype=bool)
        far[labels >= 0] = distances[labels >= 0] > self.reach[labels[labels >= 0]]
        return np.where(far, -1, labels)


def fit(
    vectors: Array,
    method: str,
    *,
    k: int | None = None,
    distance: float | None = None,
    seed: int = 42,
    fields: Mapping[str, Any] | None = None,
) -> Fitted:
    """Groups rows.

    Args:
        vectors: (rows, numbers), reduced.
        method: one of `METHODS`.
        k: how many clusters; hdbscan finds its own number.
        distance: of a hierarchy, where to cut it instead.
        fields: of the method's class in scikit-learn, under their own names (hierarchies and spherical k-means, which
            are not scikit-learn's, have none).

    Raises:
        HFTransferError: the rows or fields do not fit the method.
    """
    fields = dict(fields or {})
    checked(vectors)
    _fitting(method, k, distance)
    distinct(vectors, k or 2, "k")
    if method in TREES:
        return _of_tree(vectors, method, k, distance, seed, _known(method, fields))
    if method == "hdbscan":
        return _by_density(vectors, _known(method, fields))
    assert k is not None
    if method == "spherical_kmeans":
        _known(method, fields)
        centres, estimator = spherical_kmeans(vectors, k, seed), None
    else:
        defaults: dict[str, Any] = {"n_init": 10 if method == "kmeans" else 3}
        if method == "minibatch_kmeans":
            defaults["batch_size"] = 4096
        made = _made(method, {**defaults, **_known(method, fields), "n_clusters": k, "random_state": seed})
        estimator = _obeyed(made, vectors)
        centres = estimator.cluster_centers_
    return _by_centres(vectors, method, centres, estimator)


def _fitting(method: str, k: int | None, distance: float | None) -> None:
    """Options that do not fit the method."""
    if method not in METHODS:
        raise HFTransferError(f"method: there is no '{method}'{nearest(method, METHODS)}")
    if (k is not None and k < 1) or (k is None and method not in (*TREES, "hdbscan")):
        raise HFTransferError(f"k: {method} needs a number of clusters, found {k}")
    if method in TREES and (k is None) == (distance is None):
        raise HFTransferError(f"k: {method} needs either k or distance")


def _known(method: str, fields: dict[str, Any]) -> dict[str, Any]:
    classes = {"kmeans": KMeans, "minibatch_kmeans": MiniBatchKMeans, "hdbscan": HDBSCAN}
    names = set(classes[method]().get_params()) - OWN_FIELDS if method in classes else set()
    for name in fields:
        if name not in names:
            known = nearest(name, sorted(names)) if names else "; it has none"
            raise HFTransferError(f"estimator.{name}: {method} has no such field{known}")
    return fields


def _made(method: str, fields: dict[str, Any]) -> Any:
    return (KMeans if method == "kmeans" else MiniBatchKMeans)(**fields)


def _obeyed(estimator: Any, vectors: Array) -> Any:
    """The estimator, fitted; what it says of a field that it refuses, in one line."""
    try:
        return estimator.fit(vectors)
    except (ValueError, TypeError) as error:
        raise HFTransferError(f"estimator: scikit-learn refuses it: {' '.join(str(error).split())}") from error


def _by_centres(vectors: Array, method: str, centres: Array, estimator: Any) -> Fitted:
    """Clusters of the rows nearest to each centre, by size; a centre without rows is dropped."""
    first = Fitted(method, _NO, centres, centres, np.arange(len(centres)), None, None, None, None, None, "")
    labels, order = by_size(first.assign(vectors))
    centres = centres[order]
    if estimator is not None:
        estimator.cluster_centers_, estimator.labels_ = centres, labels.astype(np.int32)
        estimator.n_clusters = len(centres)
    dropped = len(first.centres) - len(centres)
    says = f"{dropped} of the {len(first.centres)} centres had no rows and are left out" if dropped else ""
    return Fitted(method, labels, centres, centres, np.arange(len(centres)), None, estimator, None, None, None, says)


_NO = np.zeros(0, dtype=np.int64)


def by_size(labels: Array) -> tuple[Array, Array]:
    """Labels numbered anew from the largest on (-1 stays), and the old numbers in that order."""
    found, first, counts = np.unique(labels, return_index=True, return_counts=True)
    kept = found >= 0
    order = np.lexsort((first[kept], -counts[kept]))
    old = found[kept][order]
    new = np.full(int(labels.max(initial=-1)) + 2, -1)
    new[old] = np.arange(len(old))
    return np.where(labels < 0, -1, new[labels]), old


def middles(vectors: Array, labels: Array) -> Array:
    """(k, numbers) the means of the clusters' rows."""
    return np.stack([vectors[labels == label].mean(axis=0) for label in range(int(labels.max(initial=-1)) + 1)])


def _of_tree(
    vectors: Array, method: str, k: int | None, distance: float | None, seed: int, fields: dict[str, Any]
) -> Fitted:
    from scipy.cluster.hierarchy import fcluster

    tree, rows, members, says = hierarchy(vectors, method, seed)
    if k is not None and k > len(rows):
        raise HFTransferError(f"k: {k} clusters of the {len(rows)} small groups that a hierarchy joins; give fewer")
    leaves = fcluster(tree, distance, "distance") - 1 if k is None else tree_cut(tree, k)
    labels, _ = by_size(leaves if members is None else leaves[members])
    leaves = labels if members is None else _of_leaves(labels, members, len(rows))
    count = int(labels.max()) + 1
    if count < 2 and distance is not None:
        top = float(tree[-1, 2])
        raise HFTransferError(f"distance: a cut at {distance:g} leaves one cluster; the last two join at {top:.4g}")
    cut = distance if distance is not None else float(tree[-count:, 2][:2].mean()) if count > 1 else None
    return Fitted(method, labels, middles(vectors, labels), rows, leaves, None, None, tree, leaves, cut, says)


def hierarchy(vectors: Array, method: str, seed: int) -> tuple[Array, Array, Array | None, str]:
    """A tree of the rows, or of the middles of many small groups of them.

    Returns:
        scipy's linkage matrix; its leaves (n, numbers); the leaf of each row, None where leaves are rows; and what
        was done, in words.
    """
    from scipy.cluster.hierarchy import linkage

    rows, members, says = np.asarray(vectors, dtype=np.float64), None, ""
    if len(vectors) > MOST_IN_TREE:
        groups = MiniBatchKMeans(MICRO, n_init=3, batch_size=4096, random_state=seed).fit(vectors)
        members, order = by_size(pairwise_distances_argmin(vectors, groups.cluster_centers_))
        rows = groups.cluster_centers_[order].astype(np.float64)
        says = f"the hierarchy joins {len(rows)} small groups, which k-means made of {len(vectors):,} rows"
    return linkage(rows, method), rows, members, says


def _of_leaves(labels: Array, members: Array, count: int) -> Array:
    leaves = np.zeros(count, dtype=labels.dtype)
    leaves[members] = labels
    return leaves


def _by_density(vectors: Array, fields: dict[str, Any]) -> Fitted:
    made = HDBSCAN(**{"min_cluster_size": max(5, len(vectors) // 100), **fields, "copy": True})
    estimator = _obeyed(made, vectors)
    rows = np.asarray(vectors, dtype=np.float64)
    first, twin = first_of_twins(rows)  # equal rows may fall to both sides of a tie: they go with the first one
    labels, _ = by_size(estimator.labels_[first][twin])
    if labels.max(initial=-1) < 0:
        raise HFTransferError(
            f"estimator.min_cluster_size: hdbscan finds no cluster of {estimator.min_cluster_size} rows; lower it, or "
            "take another method"
        )
    reach = np.array([_reach(rows[labels == label]) for label in range(int(labels.max()) + 1)])
    smallest = f"of at least {estimator.min_cluster_size} rows"
    noise = int((labels < 0).sum())
    says = f"hdbscan looks for groups {smallest}; {noise:,} of {len(rows):,} rows lie in none"
    kept, own = rows[first], labels[first]
    return Fitted("hdbscan", labels, middles(rows, labels), kept, own, reach, estimator, None, None, None, says)


def _reach(rows: Array) -> float:
    """The largest distance of a cluster's row from its nearest other one; 0 of a single row."""
    if len(rows) < 2:
        return 0.0
    return float(neighbours(rows, rows, 2)[0][:, 1].max())
