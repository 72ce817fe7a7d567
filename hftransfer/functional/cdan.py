"""Long et al. 2018, Conditional Adversarial Domain Adaptation, arXiv:1705.10667: CDAN+E."""

from collections.abc import Callable

import torch
from torch.nn.functional import softplus

from hftransfer.functional.gradient_reversal import reverse_gradient
from hftransfer.functional.precision import in_float32
from hftransfer.functional.schedules import sigmoid


@in_float32
def cdan(
    *,
    features_source: torch.Tensor,
    features_target: torch.Tensor,
    logits_source: torch.Tensor,
    logits_target: torch.Tensor,
    discriminator: Callable[[torch.Tensor], torch.Tensor],
    progress: float,
) -> torch.Tensor:
    """Domain-adversarial loss on features *and* predictions together; rows predicted with certainty count more.

    Args:
        features_source: (n, d).
        features_target: (m, d).
        logits_source: (n, k); predictions condition the discriminator and receive no gradient.
        logits_target: (m, k).
        discriminator: (n + m, d * k) -> (n + m, 1) logits, positive for source.
        progress: the fraction of training done; the reversal grows with it as in DANN.

    Returns:
        A scalar, log 2 when the domains cannot be told apart. Each domain counts half.
    """
    features = torch.cat([features_source, features_target])  # (n + m, d)
    predictions = torch.softmax(torch.cat([logits_source, logits_target]).detach(), dim=1)  # (n + m, k)
    joint = torch.einsum("bd,bk->bdk", features, predictions).flatten(start_dim=1)  # (n + m, d * k)
    logits = discriminator(reverse_gradient(joint, sigmoid(progress))).squeeze(1)

    sizes = [len(features_source), len(features_target)]
    certainty = 1 + torch.exp(-torch.special.entr(predictions).sum(dim=1))
    weight_source, weight_target = (weights / weights.sum() for weights in certainty.split(sizes))
    source, target = logits.split(sizes)
    return (weight_source @ softplus(-source) + weight_target @ softplus(target)) / 2
