"""What two players minimise: the losses of generative adversarial networks, in one table.

Each takes logits, `real` of real samples and `fake` of generated ones, and returns a scalar mean; a logit is positive
where the discriminator takes a sample for real. Penalties on gradients are in `gradient_penalty`.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

Penalty = Literal["", "gradient", "r1", "r1_r2"]


class GANLoss(NamedTuple):
    """One line of `LOSSES`: the loss of each player, whose it is, and what its authors train it with."""

    discriminator: Callable[[Tensor, Tensor], Tensor]  # (real, fake) -> scalar
    generator: Callable[[Tensor | None, Tensor], Tensor]  # (real, fake) -> scalar; real may be None unless `paired`
    paired: bool  # row i of real is compared with row i of fake: as many of each, and the generator needs both
    penalty: Penalty  # "" is none
    weight: float  # lambda of the gradient penalty; gamma of R1 and R2, whose half multiplies them
    discriminator_steps: int  # for each step of the generator
    paper: str  # the citation that reports and model cards print


def _wide(logits: Tensor) -> Tensor:
    """In float32 whatever the network computes in: softplus of a bfloat16 logit has two digits."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def minimax_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-E log D(x) - E log(1 - D(G(z))) with D = sigmoid(logit): log 4 - 2 JSD at the optimum, log(p / q)."""
    return softplus(-_wide(real)).mean() + softplus(_wide(fake)).mean()


def minimax_generator(real: Tensor | None, fake: Tensor) -> Tensor:
    """E log(1 - D(G(z))), the value function as written: its slope vanishes where the discriminator is sure."""
    return -softplus(_wide(fake)).mean()


def non_saturating_generator(real: Tensor | None, fake: Tensor) -> Tensor:
    """-E log D(G(z)): the same fixed point, and a slope where the discriminator is sure."""
    return softplus(-_wide(fake)).mean()


def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Half squared errors from 1 for real and 0 for fake samples (equation 9, a = 0, b = 1)."""
    return ((_wide(real) - 1).square().mean() + _wide(fake).square().mean()) / 2


def least_squares_generator(real: Tensor | None, fake: Tensor) -> Tensor:
    """Half the squared error from 1, c of equation 9: a fake that is taken for more than real is pulled back, too."""
    return (_wide(fake) - 1).square().mean() / 2


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Nothing to gain beyond a margin of 1 to either side: 2 - 2 TV(p, q) at the optimum, sign(p - q)."""
    return relu(1 - _wide(real)).mean() + relu(1 + _wide(fake)).mean()


def wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E D(G(z)) - E D(x): minus the Wasserstein distance at the optimum among critics of slope 1."""
    return _wide(fake).mean() - _wide(real).mean()


def raise_generator(real: Tensor | None, fake: Tensor) -> Tensor:
    """-E D(G(z)), the generator of the hinge and of the Wasserstein loss."""
    return -_wide(fake).mean()


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E log(1 + exp(-(D(x) - D(G(z))))): each real sample is to look more real than its fake partner.

    Only differences count: a constant added to all logits changes nothing.
    """
    if real.shape != fake.shape:  # would broadcast
        raise ValueError(f"real and fake must be as many: shapes {tuple(real.shape)} and {tuple(fake.shape)}")
    return softplus(_wide(fake) - _wide(real)).mean()


def relativistic_generator(real: Tensor | None, fake: Tensor) -> Tensor:
    """The discriminator's loss with the roles exchanged: each fake sample is to look more real than its partner."""
    if real is None:
        raise ValueError("real: the relativistic generator is told by how much fakes fall short of real samples")
    return relativistic_discriminator(fake, real)


# fmt: off
LOSSES: dict[str, GANLoss] = {
    "minimax": GANLoss(
        minimax_discriminator, minimax_generator, False, "", 0.0, 1,
        "Goodfellow et al. 2014, Generative Adversarial Networks, arXiv:1406.2661, equation 1"),
    "non_saturating": GANLoss(
        minimax_discriminator, non_saturating_generator, False, "", 0.0, 1,
        "Goodfellow et al. 2014, Generative Adversarial Networks, arXiv:1406.2661, section 3"),
    "least_squares": GANLoss(
        least_squares_discriminator, least_squares_generator, False, "", 0.0, 1,
        "Mao et al. 2017, Least Squares Generative Adversarial Networks, arXiv:1611.04076"),
    "hinge": GANLoss(
        hinge_discriminator, raise_generator, False, "", 0.0, 1,
        "Lim and Ye 2017, Geometric GAN, arXiv:1705.02894"),
    "wasserstein_gp": GANLoss(
        wasserstein_discriminator, raise_generator, False, "gradient", 10.0, 5,
        "Gulrajani et al. 2017, Improved Training of Wasserstein GANs, arXiv:1704.00028"),
    "r3gan": GANLoss(
        relativistic_discriminator, relativistic_generator, True, "r1_r2", 1.0, 1,
        "Huang et al. 2024, The GAN is dead; long live the GAN! (R3GAN), arXiv:2501.05441"),
}
# fmt: on
