"""Lee 2013, Pseudo-Label (ICML workshop), with the threshold of Sohn et al. 2020, FixMatch, arXiv:2001.07685."""

import torch
from torch.nn.functional import cross_entropy

from hftransfer.functional.precision import in_float32


@in_float32
def pseudo_label(*, logits_target: torch.Tensor, threshold: float = 0.95) -> torch.Tensor:
    """Cross entropy of confident predictions against their own hard labels.

    The mean is over *all* m rows, as in FixMatch: a batch with one confident row must not shout like a full one.

    Args:
        logits_target: (m, k).
        threshold: the probability from which the most likely class counts as a label.

    Returns:
        A scalar; zero where no row is confident.
    """
    confidence, label = torch.softmax(logits_target.detach(), dim=1).max(dim=1)  # (m,), (m,)
    losses = cross_entropy(logits_target, label, reduction="none")
    return (losses * (confidence >= threshold)).mean()
