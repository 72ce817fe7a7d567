"""Vectors of length 1, so that products are cosines."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def unit(vectors: NDArray[Any]) -> NDArray[Any]:
    """(..., width) of length 1; a vector of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    made = np.zeros_like(vectors, dtype=np.result_type(vectors, np.float32))
    return np.divide(vectors, lengths, out=made, where=lengths > 0)
