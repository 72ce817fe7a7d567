"""Jin et al. 2020, Minimum Class Confusion for Versatile Domain Adaptation, arXiv:1912.03699."""

import torch

from hftransfer.functional.precision import in_float32

TEMPERATURE = 2.5  # softens over-confident predictions, so that their confusion can be seen


@in_float32
def mcc(*, logits_target: torch.Tensor) -> torch.Tensor:
    """How much a classifier confuses its classes on unlabelled rows: the mean off-diagonal share of their confusion.

    Args:
        logits_target: (m, k).

    Returns:
        A scalar between 0 (every row certain) and (k - 1) / k (every row uniform).
    """
    probabilities = torch.softmax(logits_target / TEMPERATURE, dim=1)  # (m, k)
    certainty = 1 + torch.exp(-torch.special.entr(probabilities.detach()).sum(dim=1))  # (m,)
    weights = len(certainty) * certainty / certainty.sum()
    confusion = probabilities.T @ (weights[:, None] * probabilities)  # (k, k)
    # A class that no row gives any mass has a row of zeros: it is confused with nothing.
    confusion = confusion / confusion.sum(dim=1, keepdim=True).clamp(min=1e-12)
    return (confusion.sum() - confusion.trace()) / len(confusion)
