"""The trainer of every objective: its loss is a mean over the units of all processes and accumulated batches."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Sampler

from hftransfer.objectives.base import Objective
from hftransfer.trainers.exact import ExactTrainer


class PretrainingTrainer(ExactTrainer):
    """`Trainer` with an objective's loss and its schedules.

    Args:
        objective: what the rows are for.
    """

    def __init__(
        self,
        *,
        objective: Objective,
        rows: Any,
        **rest: Any,
    ) -> None:
        self.objective = objective
        collator = objective.collator(fixed=False)
        arguments = rest["args"]
        per_step = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
        draws = arguments.max_steps * per_step if arguments.max_steps > 0 else arguments.num_train_epochs * len(rows)
        super().__init__(
            model=objective.network,
            train_dataset=_Drawn(rows, objective, draws) if objective.scheduled else rows,
            data_collator=collator,
            lengths=objective.lengths(rows),
            epoch_aware=[collator],
            **rest,
        )
        self.model_accepts_loss_kwargs = True  # the loss is a sum over the global number of units

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[Any]:
        sampler = super()._get_train_sampler(train_dataset)
        return _Numbered(sampler) if self.objective.scheduled else sampler

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor:
        units = sum(self.objective.count(batch) for batch in batch_samples)
        return self.accelerator.gather(torch.as_tensor(units, device=device)).sum()

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        found = self.objective.losses(model, inputs)
        count = found.counts.sum() if num_items_in_batch is None else num_items_in_batch
        # the count is over all processes, whose gradients are averaged
        loss = found.sums.sum() / count.clamp(min=1) * self.accelerator.num_processes
        return (loss, found) if return_outputs else loss


class _Drawn(Dataset[Mapping[str, Any]]):
    """Rows that know at which share of the training they are drawn, whatever process or worker asks for them."""

    def __init__(self, rows: Any, objective: Objective, draws: float) -> None:
        self.rows, self.objective, self.draws = rows, objective, draws

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: tuple[int, int]) -> Mapping[str, Any]:
        row, draw = place
        return self.objective.at(self.rows[row], min(draw / self.draws, 1.0))


class _Numbered(Sampler[tuple[int, int]]):
    """A sampler's rows, each with the number of its draw in the whole training."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Any:
        before = self.sampler.epoch * len(self)
        return ((row, before + number) for number, row in enumerate(self.sampler))
