"""Ganin et al. 2016, Domain-Adversarial Training of Neural Networks, arXiv:1505.07818: the reversal layer."""

from typing import Any

import torch


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, inputs: torch.Tensor, coefficient: float) -> torch.Tensor:
        context.coefficient = coefficient
        return inputs.view_as(inputs)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -context.coefficient * gradients[0], None


def reverse_gradient(inputs: torch.Tensor, coefficient: float) -> torch.Tensor:
    """The identity forwards, times `-coefficient` backwards: what follows learns, what precedes unlearns."""
    return _ReverseGradient.apply(inputs, coefficient)
