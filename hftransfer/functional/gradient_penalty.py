"""Penalties on how steep a discriminator is at its inputs, without their weights.

One-sample formulas: they hold where a sample's logit depends on that sample alone, so not through batch normalisation.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """E (|grad D| - 1)^2 on the lines between real and fake samples; WGAN-GP adds ten times this.

    Gulrajani et al. 2017, Improved Training of Wasserstein GANs, arXiv:1704.00028, equation 3.

    Args:
        critic: (n, ...) -> (n,) logits.
        real, fake: (n, ...) each. No gradient reaches what made them.
        mix: (n, 1, ...) uniform in [0, 1], the share of the real sample.
    """
    points = torch.lerp(fake.detach().to(real), real.detach(), mix.to(real))
    points.requires_grad = True
    return (_slopes(critic(points), points).norm(dim=1) - 1).square().mean()


def zero_centred(logits: Tensor, inputs: Tensor) -> Tensor:
    """E |grad D|^2: R1 at real samples and R2 at fake ones; half of gamma times this is added.

    Mescheder et al. 2018, Which Training Methods for GANs do actually Converge?, arXiv:1801.04406, section 4.1.

    Args:
        logits: (n,) of `inputs`.
        inputs: (n, ...) that required gradients when the logits were computed.
    """
    return _slopes(logits, inputs).square().sum(dim=1).mean()


def _slopes(logits: Tensor, inputs: Tensor) -> Tensor:
    """(n, everything else) in float32 or wider: each logit's gradient at its own input, itself differentiable."""
    (slopes,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    return slopes.flatten(1).to(torch.promote_types(slopes.dtype, torch.float32))
