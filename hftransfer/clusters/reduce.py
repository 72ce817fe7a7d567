"""Fewer numbers for each row: the space in which rows are grouped."""

import copy
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.model_selection import KFold

from hftransfer.clusters.checks import AT_ONCE, checked, distinct
from hftransfer.clusters.placed import Placed, umap
from hftransfer.errors import HFTransferError, nearest
from hftransfer.functional.unit import unit

Array = NDArray[Any]
Model = TypeVar("Model", PCA, IncrementalPCA)
REDUCTIONS = ("none", "pca", "incremental_pca", "umap")
MOST_SCORED = 5000  # rows that the likelihood of a number of components is computed on
SMALLEST = 1e-10  # share of the variance that is none


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
    scaling: Array | None = None  # (2, width) what is subtracted from and what divides each number, before all else

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
        return prepared(vectors, self.normalize, self.scaling)


def prepared(vectors: Array, normalize: bool, scaling: Array | None) -> Array:
    """Rows as they are reduced: each number brought to one spread, where that is wanted, and rows to length 1."""
    if scaling is not None:
        vectors = (np.asarray(vectors) - scaling[0]) / scaling[1]
    return unit(vectors) if normalize else np.asarray(vectors)


def fit_reduction(
    vectors: Array,
    how: str,
    *,
    components: int | float | str = 50,
    normalize: bool = False,
    whiten: bool = False,
    standardize: bool = False,
    seed: int = 42,
) -> Reduction:
    """Fits `none`, `pca`, `incremental_pca` (a block at a time, for what does not fit into memory) or `umap`.

    Args:
        components: a number, a share of the variance, or `likelihood`: the number under which rows that were left out
            of the fit are likeliest (Minka 2000; Bishop 1999's probabilistic PCA, by five-fold cross-validation).
        normalize: vectors of length 1 before anything else.
        whiten: components of one variance, so that none outweighs the others.
        standardize: each number to mean 0 and variance 1 before anything else, so that units do not matter.

    Raises:
        HFTransferError: for vectors that cannot be reduced, or a package that is missing.
    """
    checked(vectors)
    _check(how, components)
    most, scaling = min(vectors.shape), _scaling(vectors) if standardize else None
    alike = "of numbers of one variance, " if standardize else ""
    told = f"the vectors ({alike}{'of length 1, ' if normalize else ''}{vectors.shape[1]} numbers)"
    if how == "none":
        says = f"clusters are made of {told} themselves"
        return Reduction(how, normalize, vectors.shape[1], None, None, None, says, scaling)
    distinct(vectors, 2, "data")
    if how == "umap":
        count = min(int(components), most)
        says = f"clusters are made of {count} numbers by UMAP of {told}"
        plain = prepared(vectors, normalize, scaling)
        placed = Placed(plain, umap(plain, count, seed))
        return Reduction(how, normalize, vectors.shape[1], placed, None, None, says, scaling)
    likelihood = None
    if how == "incremental_pca":
        estimator: Any = _incremental(vectors, min(int(components), most), normalize, scaling, whiten)
        explained = estimator.explained_variance_ratio_
    else:
        plain = prepared(vectors, normalize, scaling)
        whole = PCA(whiten=whiten, svd_solver=_solver(plain)).fit(plain)
        explained = whole.explained_variance_ratio_
        likelihood = _likelihood(plain, seed) if components == "likelihood" else None
        estimator = first_components(whole, _count(components, explained, likelihood, most))
    count = estimator.n_components_
    share = float(estimator.explained_variance_ratio_.sum())
    chosen = f", the number under which held-out rows are likeliest{_of(vectors)}" if likelihood else ""
    white = ", brought to one variance" if whiten else ""
    says = (
        f"clusters are made of {count} principal components{chosen}{white}, which hold {share:.0%} of the variance of "
        f"{told}"
    )
    return Reduction(how, normalize, vectors.shape[1], estimator, explained, likelihood, says, scaling)


def _scaling(vectors: Array) -> Array:
    """(2, width) the mean and the standard deviation of each number; 1 for one that is always the same."""
    mean, spread = (
        np.asarray(vectors).mean(axis=0, dtype=np.float64),
        np.asarray(vectors).std(axis=0, dtype=np.float64),
    )
    return np.stack([mean, np.where(spread > 0, spread, 1.0)])


def _check(how: str, components: int | float | str) -> None:
    """A way that there is, and a number of components that it can take."""
    if how not in REDUCTIONS:
        raise HFTransferError(f"reduce: there is no '{how}'{nearest(how, REDUCTIONS)}")
    if how == "none":
        return
    if how != "pca" and not isinstance(components, int):
        raise HFTransferError(
            f"components: {how} needs a number, found {components}; a share and likelihood are pca's"
        )
    share = isinstance(components, float) and 0 < components < 1
    if components != "likelihood" and not share and not (isinstance(components, int) and components >= 1):
        raise HFTransferError(
            f"components: expected a number, a share of the variance below 1 or likelihood, found {components}"
        )


def _of(vectors: Array) -> str:
    return f" (asked of {MOST_SCORED:,} rows)" if len(vectors) > MOST_SCORED else ""


def first_components(model: Model, count: int) -> Model:
    """The same fit with its first components alone, as if it had been asked for so many."""
    made = copy.copy(model)
    made.n_components = made.n_components_ = count
    if count < len(model.components_):
        made.noise_variance_ = float(np.mean(model.explained_variance_[count:]))
    for name in ("components_", "explained_variance_", "explained_variance_ratio_", "singular_values_"):
        setattr(made, name, np.array(getattr(model, name)[:count]))
    return made


def _solver(vectors: Array) -> str:
    """The covariance's eigenvectors where there are more rows than numbers: no copy of the rows is made."""
    return "covariance_eigh" if len(vectors) > vectors.shape[1] else "full"


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
    scores = []
    for fitted, left_out in KFold(folds, shuffle=True, random_state=seed).split(sample):  # rows may come by class
        model = PCA(svd_solver="full").fit(sample[fitted])
        scores.append([_scored(model, number, sample[left_out]) for number in numbers])
    curve = [(n, float(mean)) for n, mean in zip(numbers, np.mean(scores, axis=0), strict=True) if np.isfinite(mean)]
    if not curve:
        raise HFTransferError("components: the vectors lie on a line, so likelihood cannot choose; give a number")
    return curve


def _scored(model: PCA, count: int, left_out: Array) -> float:
    """Mean log likelihood of rows; none where components leave no noise, under which all else is impossible."""
    fewer = first_components(model, count)
    if fewer.noise_variance_ <= SMALLEST * model.explained_variance_.sum():
        return -np.inf
    return float(fewer.score(left_out))


def _incremental(vectors: Array, count: int, normalize: bool, scaling: Array | None, whiten: bool) -> Any:
    """Every block has at least as many rows as components: the rows of the last, short one join the one before."""
    estimator = IncrementalPCA(count, whiten=whiten)
    size = max(count, 4096)
    starts = [start for start in range(0, len(vectors), size) if len(vectors) - start >= count or start == 0]
    for start, end in zip(starts, [*starts[1:], len(vectors)], strict=True):
        estimator.partial_fit(prepared(vectors[start:end], normalize, scaling))
    return estimator
