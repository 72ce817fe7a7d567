"""What a cluster is about: its words, its middle, what lies far from it, and what is there twice."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer

from hftransfer.clusters.neighbours import first_of_twins
from hftransfer.functional.ctfidf import ctfidf
from hftransfer.functional.unit import unit

Array = NDArray[Any]
WORD = r"(?u)\b[^\W\d_]{3,}\b"  # of three letters at least
MOST_COMPARED = 50_000  # rows: each is compared with each
BLOCK = 500  # rows whose cosines with all others are held at once
ENDING = 2  # letters by which forms of one word differ
ALIKE = 1e-3  # of a cluster's usual distance: the same text in another batch


def words(texts: Sequence[str], labels: Array, *, top: int = 3) -> list[list[str]]:
    """The `top` words of each cluster by c-TF-IDF, one form of each; of clusters without words none.

    Rows of no cluster say nothing. English stop words are left out, and words of fewer than three letters and numbers.
    """
    count = int(labels.max(initial=-1)) + 1
    try:
        reader = CountVectorizer(token_pattern=WORD, stop_words="english", min_df=2 if len(texts) > 50 else 1)
        found = reader.fit_transform(texts)  # (texts, words), sparse
    except ValueError:  # no word is left
        return [[] for _ in range(count)]
    vocabulary = reader.get_feature_names_out()
    counts = np.stack([np.asarray(found[labels == label].sum(axis=0)).ravel() for label in range(count)])
    return [_told(row, vocabulary, top) for row in ctfidf(counts, root=True)]


def _told(scores: Array, vocabulary: Array, top: int) -> list[str]:
    """The words with the highest scores, and of `test` and `tests` the one that is higher."""
    kept: list[str] = []
    for place in np.argsort(-scores, kind="stable"):
        if len(kept) == top or scores[place] <= 0:
            break
        word = str(vocabulary[place])
        forms = [other for other in kept if word.startswith(other) or other.startswith(word)]
        if not any(abs(len(word) - len(other)) <= ENDING for other in forms):
            kept.append(word)
    return kept


def representatives(vectors: Array, labels: Array, centres: Array, count: int) -> list[list[int]]:
    """The rows nearest to each cluster's middle, the nearest first; of equal rows one.

    The same text has not quite the same vector in another batch: rows count as equal within a thousandth of the
    cluster's root mean square distance.
    """
    found = []
    for label, centre in enumerate(centres):
        rows = np.flatnonzero(labels == label)
        far = np.linalg.norm(vectors[rows] - centre, axis=1)
        near = ALIKE * float(np.sqrt(np.square(far).mean())) if len(rows) else 0.0
        order = rows[np.argsort(far, kind="stable")]
        kept: list[int] = []
        for row in order:
            if len(kept) == count:
                break
            if not any(np.linalg.norm(vectors[row] - vectors[other]) <= near for other in kept):
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
    rows = unit(np.asarray(vectors[:MOST_COMPARED], dtype=np.float32))
    first, twin = first_of_twins(rows)
    apart = rows[first]
    groups = np.arange(len(apart))
    for start in range(0, len(apart), BLOCK):
        block = apart[start : start + BLOCK] @ apart[start:].T
        groups = _joined(groups, *(place + start for place in np.nonzero(block >= threshold - 1e-6)))
    groups = groups[twin]
    order = np.argsort(groups, kind="stable")
    found = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return sorted((group.tolist() for group in found if len(group) > 1), key=lambda group: (-len(group), group[0]))


def _joined(groups: Array, one: Array, other: Array) -> Array:
    """(rows,) groups after more pairs: pairs are many where rows are alike, and no more are held than a block's."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = groups[one], groups[other]
    graph = coo_matrix((np.ones(len(one), dtype=bool), pairs), shape=(len(groups), len(groups)))
    return np.asarray(connected_components(graph, directed=False)[1][groups])
