"""Vectors that stand for classes, moved to where unlabelled rows of those classes lie.

A class begins with the rows that are told to be of it. One that loses all its rows keeps its last place, and who calls
should say so.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hftransfer.functional.softmax import softmax

Array = NDArray[np.floating[Any]]
SMALLEST = 1e-8  # variance of a number: rows that are all alike would have none
LEAST = 1e-12  # of a share whose logarithm is taken


def spherical_kmeans(
    rows: Array, classes: NDArray[np.int64], prototypes: Array, *, max_iterations: int = 100
) -> tuple[Array, NDArray[np.int64]]:
    """Dhillon and Modha 2001, Concept Decompositions: each class's mean direction, until no row changes its class.

    Plain k-means (Lloyd) gives the same where the clusters are told apart alike by angle and by distance.

    Args:
        rows: (n, d) of length 1.
        classes: (n,) to begin with.
        prototypes: (k, d) of length 1; used for classes without rows.

    Returns:
        (k, d) of length 1, and (n,) the class whose prototype is nearest by angle.
    """
    centres = np.array(prototypes, dtype=float)
    told = np.asarray(classes)
    for _ in range(max_iterations):
        sums = np.eye(len(centres))[told].T @ rows  # (k, d)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1), centres)
        nearest = (rows @ centres.T).argmax(1)
        if (nearest == told).all():
            break
        told = nearest
    return centres, told


class Mixture(NamedTuple):
    """Normal distributions of one covariance: classes differ by where they are, and by how many rows they have."""

    means: Array  # (k, d)
    shares: Array  # (k,)
    covariance: Array  # (d, d), of all classes

    def log_joint(self, rows: Array) -> Array:
        """(n, k) log p(row, class), less what all classes have alike: their softmax is p(class | row)."""
        weights = np.linalg.solve(self.covariance, self.means.T)  # (d, k)
        return np.log(self.shares.clip(LEAST)) + rows @ weights - (self.means.T * weights).sum(0) / 2


def expectation_maximisation(
    rows: Array,
    responsibilities: Array,
    prototypes: Array,
    *,
    shrinkage: float = 0.0,
    max_iterations: int = 200,
    tolerance: float = 1e-7,
) -> Mixture:
    """Dempster et al. 1977, Maximum Likelihood from Incomplete Data: a mixture of such normal distributions.

    Directions in which rows differ within all classes alike count little, which k-means cannot see.

    Args:
        rows: (n, d).
        responsibilities: (n, k) of sum 1, to begin with.
        prototypes: (k, d) means of classes without rows.
        shrinkage: share of the covariance that is the same for all numbers, where few rows would not tell it.
        tolerance: largest change of a responsibility at which it ends.
    """
    means, given = np.array(prototypes, dtype=float), responsibilities
    for _ in range(max_iterations):
        mixture = _maximised(rows, given, means, shrinkage)
        means, found = mixture.means, softmax(mixture.log_joint(rows))
        if np.abs(found - given).max() < tolerance:
            break
        given = found
    return mixture


def _maximised(rows: Array, given: Array, means: Array, shrinkage: float) -> Mixture:
    counts = given.sum(0)
    seen = counts > LEAST
    means = np.where(seen[:, None], given.T @ rows / np.where(seen, counts, 1)[:, None], means)
    within = (rows.T @ rows - (means.T * counts) @ means) / len(rows)  # (d, d): all less what lies between classes
    even = np.eye(len(within)) * np.trace(within) / len(within)
    covariance = (1 - shrinkage) * within + shrinkage * even + SMALLEST * np.eye(len(within))
    return Mixture(means, counts / len(rows), covariance)


def principal_axes(rows: Array, components: int) -> tuple[Array, Array]:
    """Pearson 1901: (d,) the mean of rows (n, d), and (d, components) the directions in which they differ most."""
    mean = rows.mean(0)
    _, axes = np.linalg.eigh(np.cov(rows.T))
    return mean, axes[:, ::-1][:, :components]
