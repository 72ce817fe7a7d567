"""Ganin et al. 2016, Domain-Adversarial Training of Neural Networks, arXiv:1505.07818."""

from collections.abc import Callable

import torch
from torch.nn.functional import softplus

from hftransfer.functional.gradient_reversal import reverse_gradient
from hftransfer.functional.precision import in_float32
from hftransfer.functional.schedules import sigmoid


@in_float32
def dann(
    *,
    features_source: torch.Tensor,
    features_target: torch.Tensor,
    discriminator: Callable[[torch.Tensor], torch.Tensor],
    progress: float,
) -> torch.Tensor:
    """The discriminator's loss in telling source from target, reversed on its way to the features.

    The reversal grows with `progress`; the discriminator itself learns at full strength from the first step.

    Args:
        features_source: (n, d).
        features_target: (m, d).
        discriminator: (n + m, d) -> (n + m, 1) logits, positive for source.
        progress: the fraction of training done.

    Returns:
        A scalar, log 2 when the domains cannot be told apart. Each domain counts half, whatever n and m.
    """
    features = torch.cat([features_source, features_target])
    logits = discriminator(reverse_gradient(features, sigmoid(progress))).squeeze(1)  # (n + m,)
    source, target = logits.split([len(features_source), len(features_target)])
    return (softplus(-source).mean() + softplus(target).mean()) / 2  # binary cross entropy, source = 1
