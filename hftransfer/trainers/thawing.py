"""Gradual unfreezing: layers begin to train one by one, from the head down (ULMFiT, arXiv:1801.06146)."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import TrainerCallback

from hftransfer import tuning


class Thaw(TrainerCallback):
    """Holds groups of layers still until their turn: the first begins, the others follow in equal shares of the steps.

    What is still when a run resumes follows from the step alone. The optimizer is made before any group is held.
    """

    def __init__(self, groups: Sequence[Sequence[nn.Parameter]]) -> None:
        self.groups = groups

    def thawed(self, step: int, steps: int) -> int:
        """How many of the groups train at a step."""
        return min(len(self.groups), 1 + step * len(self.groups) // max(steps, 1))

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        count = self.thawed(state.global_step, state.max_steps)
        for number, group in enumerate(self.groups):
            tuning.train(group, number < count)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for group in self.groups:
            tuning.train(group, True)
