"""El-Yaniv and Wiener 2010, On the Foundations of Noise-free Selective Classification: what silence buys."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Answered(NamedTuple):
    """What is left of the rows when unsure answers are held back."""

    coverage: float  # share of the rows that get an answer
    accuracy: float | None  # share of these that is right; None where none is answered


def selective_accuracy(
    confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_], thresholds: Sequence[float]
) -> list[Answered]:
    """Coverage and accuracy of the rows whose confidence (n,) is at least each threshold; `right` is (n,)."""
    found = []
    for threshold in thresholds:
        answered = confidence >= threshold
        found.append(Answered(float(answered.mean()), float(right[answered].mean()) if answered.any() else None))
    return found
