"""Li et al. 2018, Explicit Inductive Bias for Transfer Learning with Convolutional Networks, arXiv:1802.01483."""

from collections.abc import Mapping

import torch
from torch import Tensor


def l2_sp(parameters: Mapping[str, Tensor], start: Mapping[str, Tensor], *, alpha: float, beta: float) -> Tensor:
    """L2-SP: alpha / 2 |w - w0|^2 over what was pretrained, beta / 2 |w|^2 over what is new (equation 3).

    It takes the place of weight decay, which would pull towards zero as well. The paper's alpha and beta are 0.01 or
    around it.

    Args:
        parameters: what trains.
        start: the pretrained values; a parameter without one is new. Best kept on the parameters' device.
        alpha: pull towards the start.
        beta: pull of what is new towards zero.
    """
    pulls = []
    for name, value in parameters.items():
        if name in start:
            away = value.float() - start[name].detach().to(value.device).float()
            pulls.append(alpha / 2 * away.square().sum())
        else:
            pulls.append(beta / 2 * value.float().square().sum())
    return torch.stack(pulls).sum() if pulls else torch.zeros(())
