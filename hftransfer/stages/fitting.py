"""One network fitted to labels: the phases of a method, one after another, on rows that are given."""

import logging
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
from hftransfer.cut import Cut, features
from hftransfer.data.divide import random_division, stratified_division
from hftransfer.functional.classification import class_weights
from hftransfer.functional.contrastive import cosine_pairs
from hftransfer.functional.few_labels import linear_model
from hftransfer.functional.l2_sp import l2_sp
from hftransfer.functional.label_shift import balanced_sampling
from hftransfer.inputs import Inputs
from hftransfer.methods import METHODS
from hftransfer.objectives.next_tokens import NextTokens
from hftransfer.trainers.averaging import MovingAverage
from hftransfer.trainers.exact import estimated_steps, has_bf16, training_arguments
from hftransfer.trainers.finetuning import FinetuningTrainer, labelled_units
from hftransfer.trainers.thawing import Thaw
from hftransfer.trainers.watching import Watch

logger = logging.getLogger("hftransfer")
ON_VECTORS = ("single_label_classification", "multi_label_classification", "regression")
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


def run_phase(fit: Fit, phase: str) -> None:
    """Runs one phase; killed within it, the next run goes on from its newest checkpoint."""
    PHASES[phase](fit)


def needs_validation(given: Mapping[str, Any]) -> bool:
    """Whether anything is chosen or fitted on rows that training does not see."""
    near = given["near"] or {}
    chosen = near.get("soup", 1) > 1 or near.get("wise_ft") == "best"
    return bool(chosen or given["calibrate"] or given["early_stopping_patience"])


def divided(task: Any, inputs: Inputs, given: Mapping[str, Any], seed: int) -> tuple[Inputs, Inputs | None]:
    """Rows to train on, and rows taken out of them where something is chosen on such rows."""
    if not needs_validation(given):
        return inputs, None
    strata, size = task.strata(inputs.labels), given["validation_size"]
    if strata is None:
        kept, taken = random_division(len(inputs.rows), size, seed)
    else:
        kept, taken = stratified_division(strata.tolist(), [str(k) for k in range(max(strata) + 1)], size, seed)
    return inputs.select(kept.tolist()), inputs.select(taken.tolist())


def _head(fit: Fit) -> None:
    """A head on features that are made once."""
    last = models.last_linear(fit.network) if fit.task.name in ON_VECTORS else None
    own = {id(parameter) for parameter in last.parameters()} if last is not None else set()
    alone = all(id(value) in own for name, value in fit.network.named_parameters() if name in set(fit.new))
    if last is None or not alone:  # the head has layers of its own, or reads every token
        if fit.given["head"] == "linear":
            fit.notes.append("the head has more than one new layer, so it was trained by gradients")
        names = frozenset(fit.new) | _last_names(fit)
        with tuning.only(fit.network, names):
            _on_cut(fit, 0, "head")
        return
    with autocast(fit.given):
        made = features(fit.network, fit.train, fit.cache)  # (rows, width)
    fit.trainable = sum(parameter.numel() for parameter in last.parameters())
    if fit.given["head"] == "torch":
        _torch_head(fit, last, made)
        return
    balanced = bool((fit.given["loss"] or {}).get("class_weights") or fit.given["balanced"])
    weight, bias = linear_model(
        made, fit.train.labels, fit.task.name,
        outputs=last.out_features, intercept=last.bias is not None, balanced=balanced,
    )  # fmt: skip
    with torch.no_grad():
        last.weight.copy_(torch.as_tensor(weight))
        if last.bias is not None:
            last.bias.copy_(torch.as_tensor(bias))


def _last_names(fit: Fit) -> frozenset[str]:
    """The last linear layer's parameters: trained also where a checkpoint gave them."""
    if fit.task.name not in (*ON_VECTORS, "token_classification"):
        return frozenset()
    own = {id(parameter) for parameter in models.last_linear(fit.network).parameters()}
    return frozenset(name for name, value in fit.network.named_parameters() if id(value) in own)


def _torch_head(fit: Fit, last: nn.Module, made: np.ndarray) -> None:
    """The last layer trained by gradients on stored features."""
    rows = list(range(len(made)))
    known = fit.train.labels

    def collate(batch: Sequence[int]) -> dict[str, Tensor]:
        stored = torch.as_tensor(np.asarray(made[list(batch)]))
        return {"features": stored, "labels": fit.task.targets([known[row] for row in batch])}

    def losses(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        return _loss(fit, model(batch["features"]), batch["labels"])

    _train(fit, last, rows, collate, None, "head", losses=losses, watch=None)


def _weights(fit: Fit) -> None:
    """Every weight."""
    names = frozenset(name for name, _ in fit.network.named_parameters())
    _on_batches(fit, fit.network, "weights", groups=_groups(fit, names))


def _upper(fit: Fit) -> None:
    """The last blocks or named parts; what is below them runs once."""
    reach = tuning.reach(fit.network, fit.given["trainable"], [*fit.new, *_last_names(fit)])
    with tuning.only(fit.network, reach.names):
        if reach.blocks is None:
            _on_batches(fit, fit.network, "upper", groups=_groups(fit, reach.names))
        else:
            _on_cut(fit, reach.blocks, "upper", groups=_groups(fit, reach.names))


def _adapter(fit: Fit) -> None:
    """PEFT's matrices, then merged."""
    wrapped = adapters.wrapped(fit.network, fit.given["lora"] or {}, new=fit.new, job=fit.task.job)
    _on_batches(fit, wrapped, "adapter")
    fit.wrapped = wrapped


def settle_adapter(fit: Fit) -> None:
    """Writes the adapter, and makes it part of the network where its method allows that."""
    if fit.wrapped is None:
        return
    fit.adapter = fit.folder / "adapter"
    shutil.rmtree(fit.adapter, ignore_errors=True)
    adapters.save(fit.wrapped, fit.adapter, models.public_name(fit.given["model"]))
    fit.network = adapters.merged(fit.wrapped) if adapters.can_merge(fit.wrapped) else fit.wrapped
    fit.wrapped = None


def _pairs(fit: Fit) -> None:
    """The backbone alone, by what the last layer would see."""
    last = models.last_linear(fit.network)
    rows, collate = fit.task.training(fit.train)

    def losses(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        seen: list[Tensor] = []
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        with last.register_forward_pre_hook(lambda _, given: seen.append(given[0])):
            model(**inputs)
        states = seen[0] if seen[0].dim() == 2 else models.pool(seen[0], inputs.get("attention_mask"), "last")
        return cosine_pairs(states.float(), batch["labels"])

    with tuning.frozen(last):
        _train(
            fit, fit.network, rows, collate, fit.train.lengths, "pairs",
            losses=losses, units=lambda _: 1, watch=None, balanced=True,
        )  # fmt: skip


def autocast(given: Mapping[str, Any]) -> Any:
    """The automatic precision that training has, for what is made once in its place."""
    training = given["training"]
    wanted = training.get("bf16")
    half = has_bf16() if wanted is None and not training.get("fp16") else bool(wanted)
    return torch.autocast(processes.state().device.type, torch.bfloat16, enabled=half)


PHASES: dict[str, Callable[[Fit], None]] = {
    "head": _head,
    "weights": _weights,
    "upper": _upper,
    "adapter": _adapter,
    "pairs": _pairs,
}


def _groups(fit: Fit, names: frozenset[str]) -> list[list[nn.Parameter]] | None:
    return tuning.descending(fit.network, names) if fit.given["gradual"] else None


def _on_cut(fit: Fit, count: int, phase: str, groups: list[list[nn.Parameter]] | None = None) -> None:
    """Trains the last blocks on what the lower ones made once, where the network can be cut and the disk holds it."""
    cut = Cut(fit.network, count)
    parts = [part for part in (fit.train, fit.validation) if part is not None]
    wanted = sum(cut.bytes(part) for part in parts) if cut.possible else 0
    if not cut.possible or wanted > SPARE * shutil.disk_usage(fit.cache.folder).free:
        why = "the disk would not hold its states" if cut.possible else f"{type(fit.network).__name__} cannot be cut"
        fit.notes.append(f"the blocks that stay as they are ran at every step: {why}")
        _on_batches(fit, fit.network, phase, groups=groups)
        return
    with autocast(fit.given):
        stored = [cut.stored(part, fit.cache) for part in parts]
    with cut:
        _on_batches(fit, fit.network, phase, groups, stored[0], stored[1] if len(stored) > 1 else None)


def _on_batches(
    fit: Fit,
    model: nn.Module,
    phase: str,
    groups: list[list[nn.Parameter]] | None = None,
    train: Inputs | None = None,
    validation: Inputs | None = None,
) -> None:
    """Trains on the task's own batches; `train` and `validation` are rows with what a cut network is fed."""
    train, validation = train or fit.train, validation or fit.validation
    rows, collate = fit.task.training(train)
    fit.trainable = tuning.trainable(model.parameters())
    losses, units = _task_loss(fit)
    _train(
        fit, model, rows, collate, train.lengths, phase,
        losses=losses, units=units, groups=groups, watch=_watch(fit, model, validation),
    )  # fmt: skip


def _task_loss(fit: Fit) -> tuple[Losses, Units]:
    """The task's loss of a batch; of a language model, logits are made for the answers only."""
    if fit.task.name != "causal_lm":

        def losses(model: nn.Module, batch: dict[str, Any]) -> Tensor:
            inputs = {name: value for name, value in batch.items() if name != "labels"}
            return _loss(fit, model(**inputs).logits, batch["labels"])

        return losses, lambda batch: labelled_units(batch["labels"])
    predictions = NextTokens(fit.network)

    def nats(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        following = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=-100)
        return predictions.nats(model, inputs, following).sum()

    return nats, lambda batch: labelled_units(batch["labels"][:, 1:])


def _loss(fit: Fit, logits: Tensor, labels: Tensor) -> Tensor:
    shape = fit.given["loss"] or {}
    weights = None
    if shape.get("class_weights"):
        weights = torch.as_tensor(_class_weights(fit), dtype=torch.float32, device=logits.device)
    smoothing = float(fit.given["training"].get("label_smoothing_factor", 0.0))
    gamma = float(shape.get("focal", 0.0))
    return fit.task.loss(logits.float(), labels, weights=weights, gamma=gamma, smoothing=smoothing, reduction="sum")


def _class_weights(fit: Fit) -> np.ndarray:
    return class_weights(np.bincount(fit.train.labels, minlength=len(fit.task.names)))


def _watch(fit: Fit, model: nn.Module, validation: Inputs | None) -> Watch | None:
    """The task's own metric on validation rows, where training may end early."""
    if fit.given["early_stopping_patience"] is None or validation is None:
        return None
    name = f"eval_{fit.task.metric}"

    def measure() -> dict[str, float]:
        found = fit.task.score(fit.task.predict(model, validation), validation.labels)
        return {name: found[fit.task.metric]}

    patience = fit.given["early_stopping_patience"]
    return Watch(measure, name, fit.task.higher_is_better, patience, keep_best=True)


def _train(
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
    given = fit.given
    last = phase == phases(given)[-1]
    balanced = balanced or (given["balanced"] and fit.task.name == "single_label_classification")
    training = {**given["training"], **_looks(given, watch, len(rows))}
    if groups is not None:
        training["ddp_find_unused_parameters"] = True
    average = MovingAverage(model, fit.near["ema"]) if last and fit.near.get("ema") else None
    trainer = FinetuningTrainer(
        model=model,
        args=training_arguments(training, fit.folder / phase, fit.seed),
        train_dataset=rows,
        data_collator=collate,
        label=fit.name if len(phases(given)) == 1 else f"{fit.name}: {phase}",
        lengths=lengths,
        weights=balanced_sampling(fit.train.labels, len(fit.task.names)) if balanced else None,
        losses=losses,
        units=units,
        penalty=_penalty(fit, model) if phase in ("weights", "upper") else None,
        layer_decay=given["layer_decay"] if phase in ("weights", "upper") else None,
        watch=watch,
        eval_dataset=fit.validation,
        callbacks=[*([average] if average else []), *([Thaw(groups)] if groups else [])],
    )
    fit.curves[phase] = trainer.train_or_resume()
    if watch is not None:
        fit.watched = [entry for entry in trainer.state.log_history if watch.by in entry]
    if average is not None:
        average.settle(trainer.resumed)


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
