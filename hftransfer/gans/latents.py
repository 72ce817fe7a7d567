"""Latent vectors: standard normal, or cut at some distance from the mean for samples that are more typical."""

from numbers import Real

import torch
from torch import Tensor

from hftransfer.errors import HFTransferError


def drawn(n: int, size: int, noise: torch.Generator) -> Tensor:
    """(n, size) standard normal numbers, on the CPU: the same on every device."""
    return torch.randn(n, size, generator=noise)


def truncated(latents: Tensor, threshold: float) -> Tensor:
    """The truncation trick (Brock et al. 2019, arXiv:1809.11096): numbers of the normal distribution within
    `threshold` of 0 only.

    Where the paper draws anew what falls outside, each number is moved to the same quantile of the cut distribution:
    equally distributed, and a sample stays itself while it becomes more typical.

    Raises:
        HFTransferError: the threshold is not above 0.
    """
    if not isinstance(threshold, Real) or isinstance(threshold, bool) or not threshold > 0:
        raise HFTransferError(f"truncation: expected a number above 0, found {threshold!r}; None truncates nothing")
    below = torch.special.ndtr(torch.tensor(-float(threshold), dtype=torch.float64))
    quantiles = below + torch.special.ndtr(latents.double()) * (1 - 2 * below)
    return torch.special.ndtri(quantiles).clamp(-threshold, threshold).to(latents.dtype)
