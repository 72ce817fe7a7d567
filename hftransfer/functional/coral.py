"""Sun and Saenko 2016, Deep CORAL: Correlation Alignment for Deep Domain Adaptation, arXiv:1607.01719."""

import torch

from hftransfer.functional.precision import in_float32


@in_float32
def coral(*, features_source: torch.Tensor, features_target: torch.Tensor) -> torch.Tensor:
    """How far apart the second moments of two domains are: |C_source - C_target|_F^2 / (4 d^2), equation 1.

    Args:
        features_source: (n, d).
        features_target: (m, d).

    Returns:
        A scalar. Zero when either domain has a single row: one row has no covariance, and to compare the other
        domain with nothing would only squeeze it.
    """
    if min(len(features_source), len(features_target)) < 2:
        return 0.0 * (features_source.sum() + features_target.sum())
    difference = covariance(features_source) - covariance(features_target)  # (d, d)
    return difference.square().sum() / (4 * features_source.shape[1] ** 2)


def covariance(features: torch.Tensor) -> torch.Tensor:
    """Sample covariance over n - 1: (n, d) -> (d, d)."""
    centred = features - features.mean(dim=0)
    return centred.T @ centred / (len(features) - 1)
