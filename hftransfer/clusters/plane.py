"""The plane in which rows are drawn, and where new ones lie in it. Nothing is grouped there."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness

from hftransfer.clusters.checks import checked, distinct
from hftransfer.clusters.neighbours import first_of_twins
from hftransfer.clusters.placed import Placed, umap
from hftransfer.errors import HFTransferError, nearest

Array = NDArray[Any]
PLANES = ("none", "pca", "tsne", "umap")
MOST_CHECKED = 3000  # rows that a plane's neighbourhoods are compared on
NEIGHBOURS = 10
MOST_PLACED = 20_000  # rows that t-SNE places in minutes; the others lie between them


@dataclass(frozen=True)
class Plane:
    """Where rows are drawn; nothing is grouped there."""

    how: str
    points: Array  # (rows, 2) of the rows that it was fitted to
    estimator: Any  # PCA or `Placed`; None for none
    kept: float | None  # share of the variance, or trustworthiness
    says: str

    @property
    def axes(self) -> tuple[str, str]:
        return {"pca": ("first component", "second component"), "none": ("first number", "second number")}.get(
            self.how, ("", "")
        )

    def place(self, vectors: Array) -> Array:
        """(rows, 2) of new rows, reduced as the fitted ones were, which lie where they lay."""
        if self.how == "none":
            return _flat(vectors)
        return _flat(self.estimator.transform(vectors))


def fit_plane(vectors: Array, how: str, *, seed: int = 42) -> Plane:
    """Fits `none` (one or two numbers, as they are), `pca`, `tsne` or `umap` to reduced rows.

    Raises:
        HFTransferError: the way does not fit the rows, or a package is missing.
    """
    if how not in PLANES:
        raise HFTransferError(f"map: there is no '{how}'{nearest(how, PLANES)}")
    checked(vectors)
    if how == "none":
        if vectors.shape[1] > 2:
            raise HFTransferError(
                f"map: rows of {vectors.shape[1]} numbers have no plane of their own; use pca or tsne"
            )
        return Plane(how, _flat(vectors), None, None, "the plane shows the numbers that the clusters are made of")
    distinct(vectors, 2, "data")
    if how == "pca" or len(vectors) < 5:
        count = min(2, *vectors.shape)
        estimator = PCA(count, random_state=seed).fit(vectors)
        share = float(estimator.explained_variance_ratio_.sum())
        points = _flat(estimator.transform(vectors))
        says = f"the plane of the first two components holds {share:.0%} of the variance of what is grouped"
        return Plane("pca", points, estimator, share, says)
    rows = np.arange(len(vectors))
    if how == "tsne" and len(rows) > MOST_PLACED:
        rows = np.sort(np.random.default_rng(seed).permutation(len(rows))[:MOST_PLACED])
    fitted = np.asarray(vectors[rows])
    found = umap(fitted, 2, seed) if how == "umap" else _tsne(fitted, seed)
    first, twin = first_of_twins(fitted)  # equal rows lie where the first one does, as new ones would
    placed = Placed(fitted, found[first][twin])
    points = placed.targets if len(fitted) == len(vectors) else placed.transform(vectors)
    trust, count = _trust(vectors, points, seed)
    name = {"tsne": "t-SNE", "umap": "UMAP"}[how]
    more = f"; it was made of {len(rows):,} rows, and the others lie between them" if len(rows) < len(vectors) else ""
    says = (
        f"the plane is {name}'s, which keeps neighbours together (trustworthiness {trust:.2f} of {count:,} rows); "
        f"distances between groups say nothing{more}"
    )
    return Plane(how, points, placed, trust, says)


def _tsne(vectors: Array, seed: int) -> Array:
    """(rows, 2) by t-SNE (van der Maaten and Hinton 2008), begun from the first two principal components."""
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    begun = "pca" if vectors.shape[1] > 1 else "random"
    return np.asarray(TSNE(2, init=begun, perplexity=perplexity, random_state=seed).fit_transform(vectors), np.float64)


def _trust(vectors: Array, points: Array, seed: int) -> tuple[float, int]:
    """How little rows that are neighbours in the plane are strangers in truth (Venna and Kaski 2001), on a sample."""
    rows = np.random.default_rng(seed).permutation(len(vectors))[:MOST_CHECKED]
    count = min(NEIGHBOURS, max(1, len(rows) // 2 - 1))
    return float(trustworthiness(vectors[rows], points[rows], n_neighbors=count)), len(rows)


def _flat(vectors: Array) -> Array:
    """(rows, 2) of rows of one or two numbers."""
    values = np.asarray(vectors, dtype=np.float64)
    return values if values.shape[1] == 2 else np.column_stack([values[:, 0], np.zeros(len(values))])
