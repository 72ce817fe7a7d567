"""What vectors must be to be grouped."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hftransfer.errors import HFTransferError

Array = NDArray[Any]
NAMED = 3  # rows that an error names
AT_ONCE = 50_000  # rows


def checked(vectors: Array, width: int | None = None) -> Array:
    """(rows, numbers), looked through a block at a time.

    Raises:
        HFTransferError: they are of another width, or a number is not finite; names the rows.
    """
    if vectors.ndim != 2 or not len(vectors):
        raise HFTransferError(f"data: expected rows of numbers, found an array of shape {vectors.shape}")
    if width is not None and vectors.shape[1] != width:
        raise HFTransferError(
            f"data: vectors of {vectors.shape[1]} numbers, and the clusters were made of {width}; embed them as those"
        )
    wrong: list[int] = []
    for start in range(0, len(vectors), AT_ONCE):
        finite = np.isfinite(vectors[start : start + AT_ONCE]).all(axis=1)
        wrong += (start + np.flatnonzero(~finite)).tolist()
    if wrong:
        rows = ", ".join(str(row + 1) for row in wrong[:NAMED]) + (", ..." if len(wrong) > NAMED else "")
        raise HFTransferError(
            f"data: {len(wrong)} vectors hold numbers that are not finite (rows {rows}); remove them"
        )
    return vectors


def distinct(vectors: Array, at_least: int, key: str) -> None:
    """Refuses more clusters than there are different rows.

    Raises:
        HFTransferError: saying how many there are.
    """
    if len(vectors) == 1:
        raise HFTransferError("data: there is one row, so there is nothing to group it with")
    if len(vectors) < at_least:
        raise HFTransferError(f"{key}: {at_least} clusters of {len(vectors)} rows; give fewer clusters, or more rows")
    found = different(vectors, at_least)
    if found == 1:
        raise HFTransferError("data: all rows are the same, so there is nothing to group")
    if found < at_least:
        raise HFTransferError(f"{key}: {at_least} clusters, and only {found} of the rows differ; give fewer clusters")


def different(vectors: Array, enough: int) -> int:
    """How many different rows there are; counting ends at `enough`, mostly among the first ones."""
    seen: set[bytes] = set()
    for start in range(0, len(vectors), AT_ONCE):
        for row in vectors[start : start + AT_ONCE] + 0.0:  # -0 is 0
            seen.add(row.tobytes())
            if len(seen) >= enough:
                return enough
    return len(seen)
