"""What a cluster is about: its words, its middle, what lies far from it, and what is there twice."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer

from hftransfer.functional.ctfidf import ctfidf
from hftransfer.functional.spherical_kmeans import unit

Array = NDArray[Any]
WORD = r"(?u)\b[^\W\d_]{3,}\b"  # of three letters at least
MOST_COMPARED = 50_000  # rows: each is compared with each
BLOCK = 1000


def words(texts: Sequence[str], labels: Array, *, top: int = 3) -> list[list[str]]:
    """The `top` words of each cluster by c-TF-IDF; of clusters without words none. Rows of no cluster say nothing."""
    count = int(labels.max(initial=-1)) + 1
    try:
        reader = CountVectorizer(token_pattern=WORD, stop_words="english", min_df=2 if len(texts) > 50 else 1)
        found = reader.fit_transform(texts)  # (texts, words), sparse
    except ValueError:  # no word is left
        return [[] for _ in range(count)]
    vocabulary = reader.get_feature_names_out()
    counts = np.stack([np.asarray(found[labels == label].sum(axis=0)).ravel() for label in range(count)])
    scores = ctfidf(counts)
    return [
        [str(vocabulary[place]) for place in np.argsort(-row, kind="stable")[:top] if row[place] > 0] for row in scores
    ]


def representatives(vectors: Array, labels: Array, centres: Array, count: int) -> list[list[int]]:
    """The rows nearest to each cluster's middle, the nearest first; of equal rows one."""
    found = []
    for label, centre in enumerate(centres):
        rows = np.flatnonzero(labels == label)
        order = rows[np.argsort(np.linalg.norm(vectors[rows] - centre, axis=1), kind="stable")]
        kept: list[int] = []
        for row in order:
            if len(kept) == count:
                break
            if not any(np.array_equal(vectors[row], vectors[other]) for other in kept):
                kept.append(int(row))
        found.append(kept)
    return found


def outliers(vectors: Array, labels: Array, centres: Array) -> Array:
    """(rows,) the distance to the middle of a row's cluster, in the root mean square of the cluster's rows.

    A row of no cluster is measured by the cluster whose middle is nearest.
    """
    far = np.stack([np.linalg.norm(vectors - centre, axis=1) for centre in centres], axis=1)  # (rows, clusters)
    own = np.where(labels >= 0, labels, far.argmin(axis=1))
    distances = far[np.arange(len(vectors)), own]
    usual = np.array([
        np.sqrt(np.square(distances[labels == label]).mean()) if (labels == label).any() else 1.0
        for label in range(len(centres))
    ])  # fmt: skip
    return distances / np.where(usual > 0, usual, 1.0)[own]


def near_duplicates(vectors: Array, threshold: float) -> list[list[int]]:
    """Groups of rows that a chain of cosines of at least `threshold` connects, the largest first.

    Of more than 50,000 rows the first 50,000 are compared.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    rows = unit(np.asarray(vectors[:MOST_COMPARED], dtype=np.float32))
    pairs = []
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK] @ rows[start:].T
        one, other = np.nonzero(block >= threshold - 1e-6)
        kept = other > one
        pairs.append(np.stack([one[kept] + start, other[kept] + start]))
    one, other = np.concatenate(pairs, axis=1)
    graph = coo_matrix((np.ones(len(one), dtype=bool), (one, other)), shape=(len(rows), len(rows)))
    groups = connected_components(graph, directed=False)[1]
    counts = np.bincount(groups)
    found = [np.flatnonzero(groups == group).tolist() for group in np.flatnonzero(counts > 1)]
    return sorted(found, key=lambda group: (-len(group), group[0]))
