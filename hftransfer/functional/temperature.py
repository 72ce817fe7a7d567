"""Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599: temperature scaling."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

LOWEST, HIGHEST = 0.05, 20.0  # where all rows are right, the likelihood grows without end as T falls
HALVINGS = 50  # of the interval of log T: to the last digits of a float


def temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The T between 0.05 and 20 by which held-out logits are divided to make their labels most likely.

    The negative log likelihood is convex in 1/T, so its slope changes sign once, and halving an interval finds where.
    No class changes its rank. Rows that a training was stopped by, or of another class balance, give a wrong T.

    Args:
        logits: (n, k).
        labels: (n,) true classes of a softmax, or (n, k) of 0 and 1 where each class has its own sigmoid.
    """
    away = _from_the_label(np.asarray(logits, dtype=float), np.asarray(labels))
    low, high = np.log(1 / HIGHEST), np.log(1 / LOWEST)  # of the logarithm of 1/T
    if _slope(away, 1.0) == 0:  # no T makes a difference
        return 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _slope(away, np.exp(middle)) < 0:  # sharper is likelier
            low = middle
        else:
            high = middle
    return float(np.clip(np.exp(-(low + high) / 2), LOWEST, HIGHEST))


def _from_the_label(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(answers, options) logits less the label's own; a sigmoid is a softmax over itself and 0."""
    if labels.ndim == 2:
        sided = (logits * (1 - 2 * labels)).reshape(-1, 1)
        return np.concatenate([np.zeros_like(sided), sided], axis=1)
    return logits - np.take_along_axis(logits, labels[:, None], axis=1)


def _slope(away: NDArray[np.float64], sharpness: float) -> float:
    """The derivative of the negative log likelihood by the sharpness, 1/T: what the model expects of `away`."""
    scaled = away * sharpness
    shares = np.exp(scaled - scaled.max(1, keepdims=True))
    return float(((shares * away).sum(1) / shares.sum(1)).sum())
