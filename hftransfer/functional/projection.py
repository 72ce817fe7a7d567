"""Many dimensions in one picture: the two principal components (Pearson 1901, On Lines and Planes of Closest Fit)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def principal_plane(rows: ArrayLike) -> NDArray[np.float64]:
    """Projects rows on the two directions along which they vary most.

    Args:
        rows: (n, d).

    Returns:
        (n, 2), centred; signs are fixed (the entry of largest size in each direction is positive), so equal rows give
        equal pictures. Directions along which nothing varies are zero.
    """
    given = np.asarray(rows, dtype=float)
    centred = given - given.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]  # (2, d)
    signs = np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])
    points = centred @ (directions * signs[:, None]).T
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
