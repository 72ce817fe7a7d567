"""The phases of the ways of fine-tuning: what each trains of a network, and on which rows or features."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import set_seed

from hftransfer import adapters, inference, models, tuning
from hftransfer.cut import features
from hftransfer.functional.contrastive import cosine_pairs
from hftransfer.functional.few_labels import linear_model
from hftransfer.stages.fitting import Fit, autocast, loss_of, on_batches, on_cut, phases, train, watch_of

ON_VECTORS = ("single_label_classification", "multi_label_classification", "regression")


def run_phase(fit: Fit, phase: str) -> None:
    """Runs one phase; what it draws follows from the seed, whether the phases before it ran now or earlier."""
    set_seed(fit.seed)
    PHASES[phase](fit)


def by_gradients(given: Mapping[str, Any]) -> bool:
    """Whether a head that could be fitted by scikit-learn is trained: asked for, or its loss is not scikit-learn's."""
    shape = given["loss"] or {}
    own_loss = shape.get("focal") or given["training"].get("label_smoothing_factor")
    return bool(given["head"] == "torch" or (given["head"] is None and own_loss))


def _head(fit: Fit) -> None:
    """A head on features that are made once."""
    last = models.last_linear(fit.network) if fit.task.name in ON_VECTORS else None
    if last is None or not _alone(fit):
        why = "reads every token" if last is None else "has new layers below its last one"
        fit.notes.append(f"the head {why}, so it was trained by gradients, on states that were made once")
        with tuning.only(fit.network, frozenset(fit.new) | _last_names(fit)):
            on_cut(fit, 0, "head")
        return
    with autocast(fit.given):
        made = features(fit.network, fit.train, fit.cache)  # (rows, width)
    if by_gradients(fit.given):
        _torch_head(fit, last, made)
        return
    fit.trainable = sum(parameter.numel() for parameter in last.parameters())
    balanced = bool((fit.given["loss"] or {}).get("class_weights") or fit.given["balanced"])
    weight, bias = linear_model(
        made, fit.train.labels, fit.task.name,
        outputs=last.out_features, intercept=last.bias is not None, balanced=balanced,
    )  # fmt: skip
    with torch.no_grad():
        last.weight.copy_(torch.as_tensor(weight))
        if last.bias is not None:
            last.bias.copy_(torch.as_tensor(bias))


def _alone(fit: Fit) -> bool:
    """Whether nothing below the last layer is untrained; pairs have trained all of it."""
    known = {name for name, _ in fit.network.named_parameters()}
    return "pairs" in phases(fit.given) or known & set(fit.new) <= models.last_names(fit.network)


def _last_names(fit: Fit) -> frozenset[str]:
    """The last linear layer's parameters: trained also where a checkpoint gave them."""
    if fit.task.name not in (*ON_VECTORS, "token_classification"):
        return frozenset()
    return models.last_names(fit.network)


def _torch_head(fit: Fit, last: nn.Module, made: np.ndarray) -> None:
    """The last layer trained by gradients on stored features."""
    rows, known, loss = list(range(len(made))), fit.train.labels, loss_of(fit)

    def collate(batch: Sequence[int]) -> dict[str, Tensor]:
        stored = torch.as_tensor(np.asarray(made[list(batch)]))
        return {"features": stored, "labels": fit.task.targets([known[row] for row in batch])}

    def losses(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        return loss(model(batch["features"]), batch["labels"])

    @functools.cache
    def held() -> Tensor:
        assert fit.validation is not None
        return torch.as_tensor(np.array(features(fit.network, fit.validation, fit.cache)))

    @torch.no_grad()
    def predict() -> np.ndarray:
        return last(held().to(last.weight)).float().cpu().numpy()

    train(fit, last, rows, collate, None, "head", losses=losses, watch=watch_of(fit, predict))


def _weights(fit: Fit) -> None:
    """Every weight."""
    names = frozenset(name for name, _ in fit.network.named_parameters())
    on_batches(fit, fit.network, "weights", groups=_groups(fit, names))


def _upper(fit: Fit) -> None:
    """The last blocks or named parts; what is below them runs once."""
    reach = tuning.reach(fit.network, fit.given["trainable"], [*fit.new, *_last_names(fit)])
    groups = _groups(fit, reach.names)
    with tuning.only(fit.network, reach.names):
        if reach.blocks is None:
            on_batches(fit, fit.network, "upper", groups=groups)
        else:
            on_cut(fit, reach.blocks, "upper", groups=groups)


def _groups(fit: Fit, names: frozenset[str]) -> list[list[nn.Parameter]] | None:
    return tuning.descending(fit.network, names) if fit.given["gradual"] else None


def _adapter(fit: Fit) -> None:
    """PEFT's matrices, and what is new."""
    options = {"new": fit.new, "job": fit.task.job, "batches": _Batches(fit)}
    fit.wrapped = adapters.wrapped(fit.network, fit.given["lora"] or {}, **options)
    on_batches(fit, fit.wrapped, "adapter")


class _Batches:
    """The training rows as the network reads them, for matrices that begin from data; made when they are asked for."""

    def __init__(self, fit: Fit) -> None:
        self.rows = fit.train
        lengths = self.rows.lengths or [1] * len(self.rows.rows)
        self.places = list(inference.batches(lengths, 16 * max(lengths)))

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for places in self.places:
            made = self.rows.batch([self.rows.rows[place] for place in places])
            yield {name: value for name, value in made.items() if name != "labels"}


def _pairs(fit: Fit) -> None:
    """All but the last layer, by what that would see."""
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
        train(
            fit, fit.network, rows, collate, fit.train.lengths, "pairs",
            losses=losses, units=lambda _: 1, watch=None, balanced=True,
        )  # fmt: skip


PHASES: dict[str, Callable[[Fit], None]] = {
    "head": _head,
    "weights": _weights,
    "upper": _upper,
    "adapter": _adapter,
    "pairs": _pairs,
}
