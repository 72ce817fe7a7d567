"""Formulas compute in float32, whatever the network computes in."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., torch.Tensor])


def in_float32(formula: Function) -> Function:
    """Widens half-precision keyword inputs and holds autocast off, so that a formula can read like its paper.

    Widening alone is not enough: under autocast a matrix product of float32 inputs is still computed in bfloat16,
    and covariances and confusions are differences of near numbers. Gradients arrive in the inputs' own precision;
    float64 stays float64.
    """

    def widen(value: Any) -> Any:
        half = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
        return value.float() if half else value

    @functools.wraps(formula)
    def compute(**inputs: Any) -> torch.Tensor:
        device = next(value.device.type for value in inputs.values() if isinstance(value, torch.Tensor))
        with torch.autocast(device, enabled=False):
            return formula(**{name: widen(value) for name, value in inputs.items()})

    return cast(Function, compute)
