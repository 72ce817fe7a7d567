"""The trainer of every objective: its loss is a mean over the units of all processes and accumulated batches."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Sampler

from hftransfer.objectives.base import Objective
from hftransfer.trainers.exact import ExactTrainer
from hftransfer.tuning import decayed_rates


class PretrainingTrainer(ExactTrainer):
    """`Trainer` with an objective's loss, its schedules, the loss on watched rows, and layer-wise decay.

    Args:
        objective: what the rows are for.
        watch: measures the mean loss on rows that are not trained on, at each evaluation; none without it.
        patience: evaluations without a lower watched loss after which training stops; never without it.
        layer_decay: factor of the learning rate from a layer to the one below.
    """

    def __init__(
        self,
        *,
        objective: Objective,
        rows: Any,
        watch: Callable[[], float] | None = None,
        patience: int | None = None,
        layer_decay: float | None = None,
        **rest: Any,
    ) -> None:
        self.objective, self.watch, self.patience, self.layer_decay = objective, watch, patience, layer_decay
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

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        assert self.watch is not None
        metrics = {"eval_loss": self.watch()}
        self.log(metrics)
        control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if self.stopped_early():
            control.should_training_stop = control.should_save = True
        self.control: Any = control
        return metrics

    def stopped_early(self) -> bool:
        """Whether the watched loss, as far as it is logged, asks to stop; so a resumed run knows it too."""
        losses = [entry["eval_loss"] for entry in self.state.log_history if "eval_loss" in entry]
        if self.patience is None or not losses:
            return False
        best = losses.index(min(losses))
        return len(losses) - 1 - best >= self.patience

    def create_optimizer(self, model: Any = None) -> Any:
        """Splits each of Trainer's groups by learning rate, where a layer's depends on its depth."""
        optimizer = super().create_optimizer(model)
        if self.layer_decay is None or getattr(optimizer, "layered", False):
            return optimizer
        names = {id(value): name for name, value in self.model.named_parameters()}
        rates = decayed_rates(self.model, self.args.learning_rate, self.layer_decay)
        groups: list[dict[str, Any]] = []
        for group in optimizer.param_groups:
            by_rate: dict[float, list[Any]] = {}
            for value in group["params"]:
                by_rate.setdefault(rates[names[id(value)]], []).append(value)
            groups += [{**group, "params": values, "lr": rate} for rate, values in sorted(by_rate.items())]
        optimizer.param_groups, optimizer.layered = groups, True
        return optimizer


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
