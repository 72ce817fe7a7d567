"""How much tighter clusters are than those of rows without structure (Tibshirani et al. 2001, JRSS B 63)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def dispersion(vectors: Array, labels: Array) -> float:
    """The pooled sum of squares around the clusters' means, W of the paper for squared Euclidean distances."""
    total = 0.0
    for label in np.unique(labels):
        rows = vectors[labels == label]
        total += float(np.square(rows - rows.mean(axis=0)).sum())
    return total


def uniform_reference(vectors: Array, noise: np.random.Generator) -> Array:
    """As many rows, uniform in the box that the rows fill along their principal axes (choice b of the paper)."""
    middle = vectors.mean(axis=0)
    axes = np.linalg.svd(vectors - middle, full_matrices=False)[2]  # (axes, width)
    along = (vectors - middle) @ axes.T
    low, high = along.min(axis=0), along.max(axis=0)
    return noise.uniform(low, high, size=along.shape) @ axes + middle


def gap(logs: float, references: Sequence[float]) -> tuple[float, float]:
    """The gap and its standard error s, from log W of the rows and of some references."""
    values = np.asarray(references, dtype=np.float64)
    return float(values.mean() - logs), float(values.std() * np.sqrt(1 + 1 / len(values)))


def first_within(numbers: Sequence[int], gaps: Sequence[float], errors: Sequence[float]) -> int | None:
    """The smallest number whose gap is at least the next one's less its error; None where there is none."""
    for place in range(len(numbers) - 1):
        if gaps[place] >= gaps[place + 1] - errors[place + 1]:
            return numbers[place]
    return None


def knee(numbers: Sequence[int], values: Sequence[float]) -> int | None:
    """Where a rising, flattening curve bends most: the farthest above the line from its first point to its last.

    After Satopaa et al. 2011, Finding a "kneedle" in a haystack. None where no point lies above that line.
    """
    x, y = np.asarray(numbers, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if len(x) < 3:
        return None
    above = y - (y[0] + (x - x[0]) * (y[-1] - y[0]) / (x[-1] - x[0]))
    bent = above.max() > 1e-9 * max(1e-300, float(np.ptp(y)))  # beyond rounding
    return int(numbers[int(above.argmax())]) if bent else None
