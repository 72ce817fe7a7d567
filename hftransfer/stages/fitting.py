"""One network being fitted to labels: its rows, its loss, and a training of whatever trains of it at the moment."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hftransfer import adapters, models, processes, tuning
from hftransfer.cache import Cache
from hftransfer.cut import Cut
from hftransfer.data.divide import random_division, stratified_division
from hftransfer.errors import HFTransferError
from hftransfer.functional.l2_sp import l2_sp
from hftransfer.functional.label_shift import balanced_sampling
from hftransfer.inputs import Inputs
from hftransfer.methods import METHODS
from hftransfer.objectives.next_tokens import NextTokens
from hftransfer.tasks.answers import following
from hftransfer.trainers.averaging import MovingAverage
from hftransfer.trainers.exact import estimated_steps, training_arguments
from hftransfer.trainers.finetuning import FinetuningTrainer, labelled_units
from hftransfer.trainers.thawing import Thaw
from hftransfer.trainers.watching import Watch

MOVES_BLOCKS = ("weights", "upper", "pairs")  # phases that change the pretrained blocks themselves
HEAD_RATE = 1e-3  # of a head that is trained before or after another phase: that one's rate is for what is pretrained
SPARE = 0.5  # of the free disk, at most, is filled with states
Losses = Callable[[nn.Module, dict[str, Any]], Tensor]
Units = Callable[[Mapping[str, Any]], int]


@dataclass
class Fit:
    """A network being fitted, and all that a phase reads; what comes of it is written back."""

    given: Mapping[str, Any]  # finetune's options
    task: Any
    network: nn.Module
    new: Sequence[str]  # names of weights that no checkpoint gave
    train: Inputs
    validation: Inputs | None
    folder: Path  # of the checkpoints of its trainings
    cache: Cache
    seed: int
    name: str = "fine-tune"
    curves: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    watched: list[dict[str, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    trainable: int = 0  # numbers that the last phase trains
    adapter: Path | None = None
    wrapped: Any = None  # PEFT's wrapper, until the adapter is settled

    @property
    def model(self) -> nn.Module:
        """What predicts: the network, or PEFT's wrapper around it."""
        return self.network if self.wrapped is None else self.wrapped

    @property
    def near(self) -> Mapping[str, Any]:
        return self.given["near"] or {}


def phases(given: Mapping[str, Any]) -> tuple[str, ...]:
    return METHODS[given["method"]].phases


def needs_validation(given: Mapping[str, Any]) -> bool:
    """Whether anything is chosen or fitted on rows that training does not see."""
    near = given["near"] or {}
    chosen = near.get("soup", 1) > 1 or near.get("wise_ft") == "best"
    return bool(chosen or given["calibrate"] or given["early_stopping_patience"])


def divided(task: Any, inputs: Inputs, given: Mapping[str, Any], seed: int) -> tuple[Inputs, Inputs | None]:
    """Rows to train on, and rows taken out of them where something is chosen on such rows."""
    kept, taken = division(task, inputs.labels, given, seed)
    return (inputs.select(kept.tolist()), inputs.select(taken.tolist())) if len(taken) else (inputs, None)


def division(task: Any, labels: Any, given: Mapping[str, Any], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows to train on and of the validation rows, of which there may be none.

    Raises:
        HFTransferError: there are too few rows to take any out.
    """
    if not needs_validation(given):
        return np.arange(len(labels)), np.arange(0)
    if len(labels) < 2:
        raise HFTransferError("validation_size: one row cannot be divided; give more labelled rows")
    strata, size = task.strata(labels), given["validation_size"]
    if strata is None:
        return random_division(len(labels), size, seed)
    return stratified_division(strata.tolist(), [str(k) for k in range(max(strata) + 1)], size, seed)


def settle_adapter(fit: Fit) -> None:
    """Writes the adapter, and makes it part of the network where its method allows that."""
    if fit.wrapped is None:
        return
    fit.adapter = fit.folder / "settled"  # beside the phases' trainings
    if processes.is_main():
        shutil.rmtree(fit.adapter, ignore_errors=True)
    adapters.save(fit.wrapped, fit.adapter, models.public_name(fit.given["model"]))
    fit.network = adapters.merged(fit.wrapped) if adapters.can_merge(fit.wrapped) else fit.wrapped
    fit.wrapped = None


def autocast(given: Mapping[str, Any]) -> Any:
    """The automatic precision that training has, for what is made once in its place."""
    training = given["training"]
    wanted = training.get("bf16")
    half = processes.has_bf16() if wanted is None and not training.get("fp16") else bool(wanted)
    return torch.autocast(processes.state().device.type, torch.bfloat16, enabled=half)


def on_cut(fit: Fit, count: int, phase: str, groups: list[list[nn.Parameter]] | None = None) -> None:
    """Trains the last blocks on what the lower ones made once, where the network can be cut and the disk holds it."""
    cut = Cut(fit.network, count)
    parts = [part for part in (fit.train, fit.validation) if part is not None]
    wanted = sum(cut.bytes(part) for part in parts) if cut.possible else 0
    free = shutil.disk_usage(next(place for place in fit.cache.folder.parents if place.exists())).free
    if not cut.possible or processes.agree(wanted > SPARE * free):
        why = "the disk would not hold its states" if cut.possible else f"{type(fit.network).__name__} cannot be cut"
        fit.notes.append(f"the blocks that stay as they are ran at every step: {why}")
        on_batches(fit, fit.network, phase, groups=groups)
        return
    with autocast(fit.given):
        stored = [cut.stored(part, fit.cache) for part in parts]
    with cut:
        on_batches(fit, fit.network, phase, groups, stored[0], stored[1] if len(stored) > 1 else None)


def on_batches(
    fit: Fit,
    model: nn.Module,
    phase: str,
    groups: list[list[nn.Parameter]] | None = None,
    train_rows: Inputs | None = None,
    validation: Inputs | None = None,
) -> None:
    """Trains on the task's own batches; the last two are rows with what a cut network is fed."""
    read, held = train_rows or fit.train, validation or fit.validation
    rows, collate = fit.task.training(read)
    losses, units = _task_loss(fit)
    watch = watch_of(fit, lambda: fit.task.predict(model, held))
    train(fit, model, rows, collate, read.lengths, phase, losses=losses, units=units, groups=groups, watch=watch)


def _task_loss(fit: Fit) -> tuple[Losses, Units]:
    """The task's loss of a batch; of a language model, logits are made for the answers only."""
    if fit.task.name != "causal_lm":
        loss = loss_of(fit)

        def losses(model: nn.Module, batch: dict[str, Any]) -> Tensor:
            inputs = {name: value for name, value in batch.items() if name != "labels"}
            return loss(model(**inputs).logits, batch["labels"])

        return losses, lambda batch: labelled_units(batch["labels"])
    predictions = NextTokens(fit.network)

    def nats(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        return predictions.nats(model, inputs, following(batch["labels"])).sum()

    return nats, lambda batch: labelled_units(batch["labels"][:, 1:])


def loss_of(fit: Fit) -> Callable[[Tensor, Tensor], Tensor]:
    """(logits, labels) -> their summed loss, with what is asked for skewed classes."""
    shape = fit.given["loss"] or {}
    weights = None
    if shape.get("class_weights"):
        found = fit.task.class_weights(fit.train.labels)
        weights = torch.as_tensor(found, dtype=torch.float32, device=processes.state().device)
    smoothing = float(fit.given["training"].get("label_smoothing_factor") or 0.0)
    options = {"weights": weights, "gamma": float(shape.get("focal", 0.0)), "smoothing": smoothing}
    return lambda logits, labels: fit.task.loss(logits.float(), labels, reduction="sum", **options)


def watch_of(fit: Fit, predict: Callable[[], Any]) -> Watch | None:
    """The task's own metric on validation rows, where training may end early; `predict` gives their outputs."""
    patience = fit.given["early_stopping_patience"]
    if patience is None or fit.validation is None:
        return None
    name, labels = f"eval_{fit.task.metric}", fit.validation.labels

    def measure() -> dict[str, float]:
        return {name: fit.task.score(predict(), labels)[fit.task.metric]}

    return Watch(measure, name, fit.task.higher_is_better, patience, keep_best=True)


def train(
    fit: Fit,
    model: nn.Module,
    rows: Any,
    collate: Any,
    lengths: Sequence[int] | None,
    phase: str,
    *,
    losses: Losses,
    units: Units = lambda batch: labelled_units(batch["labels"]),
    watch: Watch | None,
    groups: list[list[nn.Parameter]] | None = None,
    balanced: bool = False,
) -> None:
    """Trains what does not stand still; killed within it, the next run goes on from its newest checkpoint."""
    given, moves_blocks = fit.given, phase in MOVES_BLOCKS
    training = {**training_of(given, phase), **_looks(given, watch, len(rows))}
    if groups is not None:
        training["ddp_find_unused_parameters"] = True
    fit.trainable = tuning.trainable(model.parameters())
    # an average is of the training that decides; the other phases prepare it
    average = MovingAverage(model, fit.near["ema"]) if phase == phases(given)[-1] and fit.near.get("ema") else None
    trainer = FinetuningTrainer(
        model=model,
        args=training_arguments(training, fit.folder / phase, fit.seed),
        train_dataset=rows,
        data_collator=collate,
        label=fit.name if len(phases(given)) == 1 else f"{fit.name}: {phase}",
        lengths=lengths,
        weights=balanced_sampling(fit.train.labels, len(fit.task.names)) if balanced or given["balanced"] else None,
        losses=losses,
        units=units,
        penalty=_penalty(fit, model) if moves_blocks else None,
        layer_decay=given["layer_decay"] if moves_blocks else None,
        watch=watch,
        eval_dataset=fit.validation,
        callbacks=[*([average] if average else []), *([Thaw(groups)] if groups else [])],
    )
    fit.curves[phase] = trainer.train_or_resume()
    if watch is not None:
        fit.watched = [entry for entry in trainer.state.log_history if watch.by in entry]
    if average is not None:
        average.settle(trainer.resumed)


def training_of(given: Mapping[str, Any], phase: str) -> dict[str, Any]:
    """The training settings of a phase: a head before or after another phase has a rate of its own."""
    training = dict(given["training"])
    training.pop("label_smoothing_factor", None)  # it is part of the task's loss here; Trainer has one of its own
    if phase == "head" and len(phases(given)) > 1:
        training["learning_rate"] = HEAD_RATE
    if phase in MOVES_BLOCKS and (given["near"] or {}).get("l2_sp"):
        training["weight_decay"] = 0.0  # whose place the pull towards the start takes
    return training


def _looks(given: Mapping[str, Any], watch: Watch | None, num_rows: int) -> dict[str, Any]:
    """When validation rows are looked at: each epoch, or ten times in a training that counts steps."""
    if watch is None:
        return {}
    if given["training"].get("max_steps", -1) > 0:
        return {"eval_strategy": "steps", "eval_steps": max(1, estimated_steps(given["training"], num_rows) // 10)}
    return {"eval_strategy": "epoch"}


def _penalty(fit: Fit, model: nn.Module) -> Callable[[nn.Module], Tensor] | None:
    """L2-SP towards where the training starts."""
    if not fit.near.get("l2_sp"):
        return None
    new = set(fit.new)
    device = processes.state().device  # where training will run
    start = {
        name: value.detach().to(device, copy=True)
        for name, value in model.named_parameters()
        if value.requires_grad and name not in new
    }

    def penalty(network: nn.Module) -> Tensor:
        moving = {name: value for name, value in network.named_parameters() if value.requires_grad}
        return l2_sp(moving, start, alpha=fit.near["l2_sp"], beta=fit.near["l2_sp_head"])

    return penalty
