"""Maps of rows that are known by where some rows lie: UMAP's, t-SNE's."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hftransfer.clusters.neighbours import neighbours
from hftransfer.errors import HFTransferError

Array = NDArray[Any]
PLACED_BY = 5  # nearest rows that place a new one
UMAP_NEIGHBOURS, FEWEST = 15, 5  # UMAP's own default, and rows with which it can do anything


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


def umap(vectors: Array, components: int, seed: int) -> Array:
    """(rows, components) by UMAP (McInnes et al. 2018, arXiv:1802.03426), the same for the same seed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImportWarning)  # of tensorflow, for a part that is not used
            from umap import UMAP
    except ImportError as error:
        raise HFTransferError("umap: its package is not installed; pip install 'hftransfer[umap]'") from error
    if len(vectors) < max(FEWEST, components + 2):
        raise HFTransferError(f"umap: {len(vectors)} rows are too few for {components} dimensions; use pca")
    count = min(UMAP_NEIGHBOURS, len(vectors) - 1)
    made = UMAP(n_neighbors=count, n_components=components, random_state=seed, n_jobs=1).fit_transform(
        np.asarray(vectors)
    )
    return np.asarray(made, dtype=np.float64)
