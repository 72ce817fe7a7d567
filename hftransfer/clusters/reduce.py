"""Fewer numbers for each row: the space in which rows are grouped, and the plane in which they are drawn."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.manifold import TSNE, trustworthiness
from sklearn.model_selection import cross_val_score

from hftransfer.clusters.checks import AT_ONCE, checked
from hftransfer.clusters.neighbours import neighbours
from hftransfer.errors import HFTransferError
from hftransfer.functional.spherical_kmeans import unit

Array = NDArray[Any]
MOST_SCORED = 5000  # rows that the likelihood of a number of components is computed on
MOST_CHECKED = 3000  # rows that a plane's neighbourhoods are compared on
NEIGHBOURS = 10
PLACED_BY = 5  # nearest rows that place a new one in a plane that has no formula


@dataclass(frozen=True)
class Placed:
    """A map that has no formula (t-SNE's), or whose formula cannot be stored without pickle (UMAP's).

    New rows lie at the mean of where their nearest fitted rows lie, the nearer the heavier; those, where they lie.
    """

    reference: Array  # (rows, numbers) that were fitted
    targets: Array  # (rows, numbers) where they lie

    def transform(self, vectors: Array) -> Array:
        """(rows, numbers) of rows like the fitted ones."""
        count = min(PLACED_BY, len(self.reference))
        distances, rows = neighbours(vectors, self.reference, count)
        itself = np.eye(1, count)  # where the nearest row is the same
        weights = np.where(distances[:, :1] == 0, itself, 1 / np.maximum(distances, 1e-12))
        return np.einsum("nk,nkd->nd", weights / weights.sum(axis=1, keepdims=True), self.targets[rows])


@dataclass(frozen=True)
class Reduction:
    """A map from vectors to the space of the clusters."""

    how: str
    normalize: bool
    width: int  # of the vectors
    estimator: Any  # of scikit-learn, or `Placed`; None for none
    explained: Array | None  # shares of variance of all components that were looked at
    likelihood: list[tuple[int, float]] | None
    says: str

    def transform(self, vectors: Array) -> Array:
        """(rows, numbers) of vectors of the same width.

        Raises:
            HFTransferError: they are of another width, or not finite.
        """
        checked(vectors, self.width)
        if self.estimator is None:
            return self._plain(vectors)
        blocks = range(0, len(vectors), AT_ONCE)
        return np.concatenate([self.estimator.transform(self._plain(vectors[b : b + AT_ONCE])) for b in blocks])

    def _plain(self, vectors: Array) -> Array:
        return unit(vectors) if self.normalize else np.asarray(vectors)


def fit_reduction(
    vectors: Array,
    how: str,
    *,
    components: int | float | str = 50,
    normalize: bool = False,
    whiten: bool = False,
    seed: int = 42,
) -> Reduction:
    """Fits `none`, `pca`, `incremental_pca` (a block at a time, for what does not fit into memory) or `umap`.

    Args:
        components: a number, a share of the variance, or `likelihood`: the number under which rows that were left out
            of the fit are likeliest (Minka 2000; Bishop 1999's probabilistic PCA, by five-fold cross-validation).
        normalize: vectors of length 1 before anything else.
        whiten: components of one variance, so that none outweighs the others.

    Raises:
        HFTransferError: for vectors that cannot be reduced, or a package that is missing.
    """
    checked(vectors)
    plain = unit(vectors) if normalize else vectors
    most = min(plain.shape)
    lengths = "of length 1, " if normalize else ""
    told = f"the vectors ({lengths}{vectors.shape[1]} numbers)"
    if how == "none":
        says = f"clusters are made of {told} themselves"
        return Reduction(how, normalize, vectors.shape[1], None, None, None, says)
    if how == "umap":
        count = _whole(components, how, most)
        says = f"clusters are made of {count} numbers by UMAP of {told}"
        placed = Placed(np.asarray(plain), _umap(plain, count, seed))
        return Reduction(how, normalize, vectors.shape[1], placed, None, None, says)
    if how == "incremental_pca":
        count = _whole(components, how, most)
        estimator = _incremental(vectors, count, normalize, whiten)
        explained, likelihood = estimator.explained_variance_ratio_, None
    else:
        if all((plain[start : start + AT_ONCE] == plain[0]).all() for start in range(0, len(plain), AT_ONCE)):
            raise HFTransferError("data: all rows are the same, so there is nothing to group")
        explained = PCA(svd_solver=_solver(plain), random_state=seed).fit(plain).explained_variance_ratio_
        likelihood = _likelihood(plain, seed) if components == "likelihood" else None
        count = _count(components, explained, likelihood, most)
        estimator = PCA(count, whiten=whiten, svd_solver=_solver(plain), random_state=seed).fit(plain)
    share = float(estimator.explained_variance_ratio_.sum())
    chosen = ", the number under which held-out rows are likeliest" if likelihood else ""
    white = ", brought to one variance" if whiten else ""
    says = (
        f"clusters are made of {count} principal components{chosen}{white}, which hold {share:.0%} of the variance of "
        f"{told}"
    )
    return Reduction(how, normalize, vectors.shape[1], estimator, explained, likelihood, says)


def _solver(vectors: Array) -> str:
    """The covariance's eigenvectors where there are more rows than numbers: no copy of the rows is made."""
    return "covariance_eigh" if len(vectors) > vectors.shape[1] else "full"


def _whole(components: int | float | str, how: str, most: int) -> int:
    if not isinstance(components, int):
        raise HFTransferError(
            f"components: {how} needs a number, found {components}; a share and likelihood are pca's"
        )
    return min(components, most)


def _count(components: int | float | str, explained: Array, likelihood: Any, most: int) -> int:
    if likelihood:
        return int(max(likelihood, key=lambda one: one[1])[0])
    if isinstance(components, int):
        return min(components, most, len(explained))
    assert isinstance(components, float)
    return min(int(np.searchsorted(np.cumsum(explained), components)) + 1, len(explained))


def _likelihood(vectors: Array, seed: int) -> list[tuple[int, float]]:
    """(components, mean log likelihood of a held-out row), at numbers that double or nearly so."""
    rows = np.random.default_rng(seed).permutation(len(vectors))[:MOST_SCORED]
    sample = np.asarray(vectors[np.sort(rows)], dtype=np.float64)
    folds = min(5, len(sample))
    most = min(sample.shape[1], len(sample) - -(-len(sample) // folds)) - 1
    if folds < 2 or most < 1:
        raise HFTransferError(f"components: likelihood cannot be cross-validated on {len(sample)} rows; give a number")
    numbers = sorted({*range(1, min(most, 6) + 1), *(int(n) for n in np.geomspace(1, most, 14)), most})
    return [(n, float(cross_val_score(PCA(n, svd_solver="full"), sample, cv=folds).mean())) for n in numbers]


def _incremental(vectors: Array, count: int, normalize: bool, whiten: bool) -> Any:
    """Every block has at least as many rows as components: the rows of the last, short one join the one before."""
    estimator = IncrementalPCA(count, whiten=whiten)
    size = max(count, 4096)
    starts = [start for start in range(0, len(vectors), size) if len(vectors) - start >= count or start == 0]
    for start, end in zip(starts, [*starts[1:], len(vectors)], strict=True):
        block = np.asarray(vectors[start:end])
        estimator.partial_fit(unit(block) if normalize else block)
    return estimator


def _umap(vectors: Array, components: int, seed: int) -> Array:
    """(rows, components) by UMAP (McInnes et al. 2018, arXiv:1802.03426), the same for the same seed."""
    try:
        from umap import UMAP
    except ImportError as error:
        raise HFTransferError("umap: its package is not installed; pip install 'hftransfer[umap]'") from error
    made = UMAP(n_components=components, random_state=seed, n_jobs=1).fit_transform(np.asarray(vectors))
    return np.asarray(made, dtype=np.float64)


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
    if how == "none":
        if vectors.shape[1] > 2:
            raise HFTransferError(
                f"map: rows of {vectors.shape[1]} numbers have no plane of their own; use pca or tsne"
            )
        return Plane(how, _flat(vectors), None, None, "the plane shows the numbers that the clusters are made of")
    if how == "pca" or len(vectors) < 5:
        count = min(2, *vectors.shape)
        estimator = PCA(count, random_state=seed).fit(vectors)
        share = float(estimator.explained_variance_ratio_.sum())
        points = _flat(estimator.transform(vectors))
        says = f"the plane of the first two components holds {share:.0%} of the variance of what is grouped"
        return Plane("pca", points, estimator, share, says)
    points = _umap(vectors, 2, seed) if how == "umap" else _tsne(vectors, seed)
    trust, count = _trust(vectors, points, seed)
    name = {"tsne": "t-SNE", "umap": "UMAP"}[how]
    says = (
        f"the plane is {name}'s, which keeps neighbours together (trustworthiness {trust:.2f} of {count:,} rows); "
        "distances between groups say nothing"
    )
    return Plane(how, points, Placed(np.asarray(vectors), points), trust, says)


def _tsne(vectors: Array, seed: int) -> Array:
    """(rows, 2) by t-SNE (van der Maaten and Hinton 2008), begun from the first two principal components."""
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    return np.asarray(TSNE(2, init="pca", perplexity=perplexity, random_state=seed).fit_transform(vectors), np.float64)


def _trust(vectors: Array, points: Array, seed: int) -> tuple[float, int]:
    """How little rows that are neighbours in the plane are strangers in truth (Venna and Kaski 2001), on a sample."""
    rows = np.random.default_rng(seed).permutation(len(vectors))[:MOST_CHECKED]
    count = min(NEIGHBOURS, max(1, len(rows) // 2 - 1))
    return float(trustworthiness(vectors[rows], points[rows], n_neighbors=count)), len(rows)


def _flat(vectors: Array) -> Array:
    """(rows, 2) of rows of one or two numbers."""
    values = np.asarray(vectors, dtype=np.float64)
    return values if values.shape[1] == 2 else np.column_stack([values[:, 0], np.zeros(len(values))])
