"""Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599."""

import numpy as np
from numpy.typing import ArrayLike


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, num_bins: int = 15) -> float:
    """The gap between confidence and accuracy, averaged over examples in equally wide bins of confidence.

    Args:
        probabilities: (n, k).
        labels: (n,) true classes; or (n, k) of 0 and 1 where each class stands by itself: n k yes-or-no answers.
        num_bins: bins ((b - 1) / B, b / B].

    Returns:
        Between 0 (as often right as it claims to be) and 1.
    """
    given, true = np.asarray(probabilities, dtype=float), np.asarray(labels)
    if true.ndim == 2:
        given, true = np.stack([1 - given, given], axis=-1).reshape(-1, 2), true.ravel()
    confidence = given.max(axis=1)
    correct = given.argmax(axis=1) == true
    inner_edges = np.linspace(0, 1, num_bins + 1)[1:-1]
    bins = np.searchsorted(inner_edges, confidence)  # (n,)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=num_bins)  # bin size x (accuracy - confidence)
    return float(np.abs(gaps).sum() / len(confidence))
