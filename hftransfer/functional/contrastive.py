"""Tunstall et al. 2022, Efficient Few-Shot Learning Without Prompts (SetFit), arXiv:2209.11055: pairs of rows."""

import torch
from torch import Tensor
from torch.nn import functional as F


def cosine_pairs(features: Tensor, labels: Tensor) -> Tensor:
    """Draws rows of one class together and of two classes apart: (cosine - 1)^2 of like pairs, cosine^2 of unlike.

    All n (n - 1) / 2 pairs of a batch are compared, so that n rows run n times through the network where drawn pairs
    would run n (n - 1) times; no row is its own pair. Like and unlike pairs count half each, however many there are
    of either; where a batch has one kind only, that kind counts fully.

    Args:
        features: (n, d).
        labels: (n,) classes.

    Returns:
        A scalar, 0 where there is no pair.
    """
    wide = features.float() if features.dtype in (torch.bfloat16, torch.float16) else features
    first, second = torch.triu_indices(len(features), len(features), offset=1, device=features.device)
    with torch.autocast(features.device.type, enabled=False):
        unit = F.normalize(wide, dim=-1)
        cosines = (unit @ unit.T)[first, second]  # (pairs,)
    like = (labels[first] == labels[second]).to(cosines.dtype)
    errors = (cosines - like).square()
    kinds = [(errors * kind).sum() / kind.sum().clamp(min=1) for kind in (like, 1 - like)]
    present = (like > 0).any().to(wide.dtype) + (like == 0).any().to(wide.dtype)
    return (kinds[0] + kinds[1]) / present.clamp(min=1)
