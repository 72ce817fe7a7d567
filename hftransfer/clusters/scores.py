"""How good a grouping is: by itself, against labels that took no part, and against groupings of other rows."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from hftransfer.clusters.checks import different
from hftransfer.clusters.methods import fit

Array = NDArray[Any]
MOST_SILHOUETTE = 2000  # rows: its memory grows with their square
SHARE, DRAWS = 0.8, 10  # of the rows in each of the groupings that stability compares


class Matching(NamedTuple):
    """Clusters against labels."""

    classes: list[int | None]  # the label that each cluster is matched to
    counts: Array  # (clusters, labels) rows
    accuracy: float  # share of all rows that lie in the cluster matched to their label


def silhouette(vectors: Array, labels: Array, seed: int) -> float:
    """On at most 2000 rows, of each cluster in proportion; rows of no cluster are left out."""
    rows = np.flatnonzero(labels >= 0)
    if len(rows) > MOST_SILHOUETTE:
        noise = np.random.default_rng(seed)
        parts = []
        for label in np.unique(labels[rows]):
            own = rows[labels[rows] == label]
            count = max(2, round(len(own) * MOST_SILHOUETTE / len(rows)))
            parts.append(noise.permutation(own)[:count])
        rows = np.sort(np.concatenate(parts))
    found = labels[rows]
    if not 1 < len(np.unique(found)) < len(rows):
        return float("nan")
    return float(metrics.silhouette_score(vectors[rows], found))


def internal(vectors: Array, labels: Array, seed: int) -> dict[str, float]:
    """Without labels: silhouette and Calinski-Harabasz (higher is better), Davies-Bouldin (lower)."""
    kept = labels >= 0
    inside, found = vectors[kept], labels[kept]
    if not 1 < len(np.unique(found)) < len(found):
        return {}
    return {
        "silhouette": silhouette(vectors, labels, seed),
        "davies_bouldin": float(metrics.davies_bouldin_score(inside, found)),
        "calinski_harabasz": float(metrics.calinski_harabasz_score(inside, found)),
    }


def external(labels: Array, truth: Array) -> dict[str, float]:
    """Against labels: rows of no cluster count as a group of their own, and as errors of the matching."""
    return {
        "adjusted_rand": float(metrics.adjusted_rand_score(truth, labels)),
        "adjusted_mutual_info": float(metrics.adjusted_mutual_info_score(truth, labels)),
        "homogeneity": float(metrics.homogeneity_score(truth, labels)),
        "completeness": float(metrics.completeness_score(truth, labels)),
        "matched_accuracy": matching(labels, truth).accuracy,
    }


def matching(labels: Array, truth: Array) -> Matching:
    """Each cluster to one label at most, so that most rows agree (Kuhn 1955, the Hungarian method)."""
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((int(labels.max()) + 1, int(truth.max()) + 1), dtype=np.int64)
    np.add.at(counts, (labels[labels >= 0], truth[labels >= 0]), 1)
    clusters, classes = linear_sum_assignment(counts, maximize=True)
    found: list[int | None] = [None] * len(counts)
    for cluster, label in zip(clusters.tolist(), classes.tolist(), strict=True):
        found[cluster] = label
    return Matching(found, counts, float(counts[clusters, classes].sum() / len(labels)))


def stability(vectors: Array, method: str, k: int, seed: int, *, draws: int = DRAWS, share: float = SHARE) -> Array:
    """(pairs,) adjusted Rand between groupings of two random parts of the rows, on the rows that both hold.

    After Ben-Hur et al. 2002, A stability based method for discovering structure in clustered data.
    """
    noise = np.random.default_rng(seed)
    count = max(k + 1, round(share * len(vectors)))
    found = []
    for draw in range(draws):
        parts = [np.sort(noise.permutation(len(vectors))[:count]) for _ in range(2)]
        if any(different(vectors[rows], k) < k for rows in parts):
            found.append(0.0)  # a part that misses rare rows cannot be grouped so
            continue
        labels = [quick(vectors[rows], method, k, seed + 2 * draw + place) for place, rows in enumerate(parts)]
        both, one, other = np.intersect1d(parts[0], parts[1], assume_unique=True, return_indices=True)
        found.append(metrics.adjusted_rand_score(labels[0][one], labels[1][other]) if len(both) else 0.0)
    return np.array(found)


def quick(vectors: Array, method: str, k: int, seed: int) -> Array:
    """(rows,) the labels of a grouping that is one of many, with fewer starts."""
    fields = {"n_init": 3} if method in ("kmeans", "minibatch_kmeans") else {}
    return fit(vectors, method, k=k, seed=seed, fields=fields).labels
