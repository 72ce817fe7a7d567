"""Long et al. 2015, Learning Transferable Features with Deep Adaptation Networks, arXiv:1502.02791."""

import torch

from hftransfer.functional.precision import in_float32

BANDWIDTHS = tuple(2.0**k for k in range(-3, 2))  # of sigma^2, in units of the mean squared distance


@in_float32
def mmd(*, features_source: torch.Tensor, features_target: torch.Tensor) -> torch.Tensor:
    """Squared maximum mean discrepancy under a sum of Gaussian kernels exp(-|x - y|^2 / (2 sigma^2)).

    The biased estimator (Gretton et al. 2012, equation 5), diagonal included: never negative, zero on equal samples.
    The bandwidths follow the batch but pass no gradient, else spreading all features apart would lower the loss.

    Args:
        features_source: (n, d).
        features_target: (m, d).

    Returns:
        A scalar between 0 and 2 x 5 kernels.
    """
    rows = torch.cat([features_source, features_target])
    # Without the |x|^2 + |y|^2 - 2xy shortcut: it cancels where rows are near, and its square root there has no slope.
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square()  # (n + m, n + m)
    scale = distances.detach().mean().clamp(min=torch.finfo(distances.dtype).eps)
    kernel = torch.stack([torch.exp(-distances / (2 * width * scale)) for width in BANDWIDTHS]).sum(dim=0)
    n = len(features_source)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()
