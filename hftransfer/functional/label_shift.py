"""Class frequencies that differ between domains: estimate the target's without its labels, and correct for them.

Black-box shift estimation: Lipton et al. 2018, arXiv:1802.03916. Expectation maximisation: Saerens et al. 2002,
Adjusting the Outputs of a Classifier to New a Priori Probabilities. Both assume that p(text | class) did not change.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def bbse(confusion: ArrayLike, predicted_target: ArrayLike) -> Array:
    """The target's class frequencies, from what the classifier predicts there and how it errs on source.

    Args:
        confusion: (k, k) on held-out source rows, rows true, columns predicted; counts, or shares.
        predicted_target: (k,) how often each class is predicted on the target; counts, or shares.

    Returns:
        (k,) frequencies that sum to 1. Least squares where the confusion cannot be inverted (a class never predicted);
        the source's own frequencies where it says nothing of what is predicted on the target.
    """
    joint = np.asarray(confusion, dtype=float) / np.sum(confusion)
    predicted = np.asarray(predicted_target, dtype=float) / np.sum(predicted_target)
    importance = np.linalg.lstsq(joint.T, predicted, rcond=None)[0]  # w = C^-1 mu = q(y) / p(y)
    prior_source = joint.sum(axis=1)
    prior = importance.clip(min=0) * prior_source
    return prior / prior.sum() if prior.any() else prior_source


def em_prior(
    probabilities: ArrayLike, prior_source: ArrayLike, *, tolerance: float = 1e-8, max_iterations: int = 10_000
) -> Array:
    """The target's class frequencies with the highest likelihood, given calibrated predictions.

    Args:
        probabilities: (m, k) predictions on target rows. Calibrate them first: over-confidence biases the estimate.
        prior_source: (k,) class frequencies that the predictions assume: those that the classifier was trained under,
            even ones when its batches were balanced.

    Returns:
        (k,) frequencies that sum to 1.
    """
    prior = np.asarray(prior_source, dtype=float) / np.sum(prior_source)
    for _ in range(max_iterations):
        updated = reweight(probabilities, prior_source, prior).mean(axis=0)
        if np.abs(updated - prior).max() < tolerance:
            return updated
        prior = updated
    return prior


def reweight(probabilities: ArrayLike, prior_source: ArrayLike, prior_target: ArrayLike) -> Array:
    """Predictions as they would be under other class frequencies: p(y | x) q(y) / p(y), normalised (Bayes' rule).

    Args:
        probabilities: (m, k).
        prior_source: (k,) frequencies that the predictions assume; a class with none keeps none.
        prior_target: (k,) frequencies to assume instead.

    Returns:
        (m, k). A row whose whole mass lies on classes that the target lacks stays as it was.
    """
    given = np.asarray(probabilities, dtype=float)
    source, target = np.asarray(prior_source, dtype=float), np.asarray(prior_target, dtype=float)
    weighted = given * np.divide(target, source, out=np.zeros_like(source), where=source > 0)
    total = weighted.sum(axis=1, keepdims=True)
    return np.where(total > 0, weighted / np.where(total > 0, total, 1), given)


def balanced_sampling(pseudo_labels: ArrayLike, num_classes: int) -> Array:
    """Sampling probabilities that give every class that occurs the same total.

    Args:
        pseudo_labels: (m,) predicted class of each row.
        num_classes: k.

    Returns:
        (m,) probabilities that sum to 1.
    """
    labels = np.asarray(pseudo_labels)
    counts = np.bincount(labels, minlength=num_classes)
    return 1 / (np.count_nonzero(counts) * counts[labels])
