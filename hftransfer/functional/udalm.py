"""Karouzos et al. 2021, UDALM: Unsupervised Domain Adaptation through Language Modeling, arXiv:2104.07078."""

import torch

from hftransfer.functional.precision import in_float32


@in_float32
def udalm(
    *, loss_source: torch.Tensor, loss_masked_lm: torch.Tensor, num_source: int, num_target: int
) -> torch.Tensor:
    """The whole objective, not an addition to it: lambda CE(source) + (1 - lambda) MLM(target), lambda = n / (n + m).

    Args:
        loss_source: scalar, mean cross entropy on labelled source rows.
        loss_masked_lm: scalar, mean masked-language-model loss on unlabelled target rows.
        num_source: n, the rows that a step draws from the source.
        num_target: m, the rows that a step draws from the target.

    Returns:
        A scalar.
    """
    share = num_source / (num_source + num_target)
    return share * loss_source + (1 - share) * loss_masked_lm
