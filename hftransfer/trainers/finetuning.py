"""The trainer of labels: its loss is a mean over the labelled units of all processes and accumulated batches.

Overrides two methods of `Trainer` beside `ExactTrainer`'s: `compute_loss` (the task's own formula, and a penalty on
the way from the start) and `_get_num_items_in_batch` (what the loss is a mean over).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hftransfer.trainers.exact import ExactTrainer


def labelled_units(labels: Tensor) -> int:
    """What a batch's loss is a sum over: labels that count, or every number of rows of numbers."""
    return int((labels != -100).sum()) if not labels.is_floating_point() else labels.numel()


class FinetuningTrainer(ExactTrainer):
    """`Trainer` with a task's loss as a sum.

    Args:
        losses: (model, batch) -> the batch's summed loss; `model` is what runs the forward (DDP's wrapper too).
        units: batch -> what that is a sum over.
        penalty: network -> what is added to each update's loss, as it is.
    """

    def __init__(
        self,
        *,
        losses: Callable[[nn.Module, dict[str, Any]], Tensor],
        units: Callable[[Mapping[str, Any]], int] = lambda batch: labelled_units(batch["labels"]),
        penalty: Callable[[nn.Module], Tensor] | None = None,
        **rest: Any,
    ) -> None:
        super().__init__(**rest)
        self.losses, self.units, self.penalty = losses, units, penalty
        self.model_accepts_loss_kwargs = True  # the loss is a sum over the global number of units

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor:
        units = sum(self.units(batch) for batch in batch_samples)
        return self.accelerator.gather(torch.as_tensor(units, device=device)).sum()

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        count = self.units(inputs) if num_items_in_batch is None else num_items_in_batch
        # the count is over all processes, whose gradients are averaged
        loss = self.losses(model, inputs) / count * self.accelerator.num_processes
        if self.penalty is not None:  # added once an update, though an update is several batches
            loss = loss + self.penalty(self.model) / self.current_gradient_accumulation_steps
        return (loss, None) if return_outputs else loss
