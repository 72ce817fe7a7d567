"""The Fréchet distance between two samples, each taken for a Gaussian.

Heusel et al. 2017, GANs Trained by a Two Time-Scale Update Rule, arXiv:1706.08500, where the features are Inception's;
the closed form is Dowson and Landau's of 1982.
"""

import numpy as np
from numpy.typing import ArrayLike

from hftransfer.functional.samples import Rows, two_samples


def frechet_distance(first: ArrayLike, second: ArrayLike) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), squared as it is always reported; never negative.

    It grows as rows get fewer: compare only numbers of equally many rows.

    Args:
        first: (n, d), n >= 2.
        second: (m, d), m >= 2. Either may have fewer rows than columns.
    """
    one, two = two_samples(first, second, least=2)
    means = np.square(one.mean(axis=0) - two.mean(axis=0)).sum()
    a, b = _root(one), _root(two)
    # C1 = A'A and C2 = B'B: the eigenvalues of C1 C2 are the squared singular values of AB'. No root of a matrix is
    # taken, which would lose half of the digits where a covariance has no full rank.
    shared = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return max(0.0, float(means + np.square(a).sum() + np.square(b).sum() - 2 * shared))


def _root(rows: Rows) -> Rows:
    """(at most d, d), A with A'A the covariance."""
    return np.linalg.qr((rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1)).R
