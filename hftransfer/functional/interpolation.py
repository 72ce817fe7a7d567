"""White 2016, Sampling Generative Networks, arXiv:1609.04468 (slerp): from one latent to another."""

import torch
from torch import Tensor

ALMOST_HALF_TURN = torch.pi - 1e-3  # of opposite directions any way round is as short, and none is named


def slerp(first: Tensor, second: Tensor, share: float | Tensor) -> Tensor:
    """A path along the sphere: between latents of a Gaussian a straight line passes too near to the origin.

    Args:
        first, second: (..., d). They need not be of one length: it changes on the way, too.
        share: 0 gives the first, 1 the second; a tensor must broadcast against (..., 1).

    Returns:
        (..., d); of equal directions the straight line, of opposite ones a line through the origin.
    """
    one, two = (torch.nn.functional.normalize(latents, dim=-1) for latents in (first, second))
    # From the sum and the difference: the arc cosine of a product near 1 has lost half of its digits.
    angle = 2 * torch.atan2((one - two).norm(dim=-1, keepdim=True), (one + two).norm(dim=-1, keepdim=True))
    turns = angle.clamp(max=ALMOST_HALF_TURN) / torch.pi  # (..., 1)
    share = torch.as_tensor(share, dtype=first.dtype, device=first.device)
    weights = [part * torch.sinc(part * turns) / torch.sinc(turns) for part in (1 - share, share)]  # sin ta / sin a
    return weights[0] * first + weights[1] * second
