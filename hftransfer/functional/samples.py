"""What every distance between two samples asks of them."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hftransfer.errors import HFTransferError

Rows = NDArray[np.float64]


def two_samples(first: ArrayLike, second: ArrayLike, least: int) -> tuple[Rows, Rows]:
    """Both as float64 (rows, width).

    Raises:
        HFTransferError: not two tables of one width, fewer than `least` rows, or a number that is not finite.
    """
    rows = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if not (rows[0].ndim == rows[1].ndim == 2 and rows[0].shape[1] == rows[1].shape[1]):
        raise HFTransferError(f"features: shapes {rows[0].shape} and {rows[1].shape} are not (rows, width) twice")
    fewest = min(map(len, rows))
    if fewest < least:
        raise HFTransferError(f"features: {fewest} rows are too few to compare samples; give at least {least}")
    if not all(np.isfinite(sample).all() for sample in rows):
        raise HFTransferError("features: some are not finite; a network that made them has diverged")
    return rows
