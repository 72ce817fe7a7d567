"""Domain adaptation inside `Trainer`: a labelled source batch and an unlabelled target batch in one forward.

`AdaptationTrainer` overrides `_get_train_sampler` (pairs of rows instead of rows) and `compute_loss` (tells the
formula how far training is). The method is a formula of `hftransfer.functional`; whatever it must remember is a
module or buffer of `AdaptationModel`, so Trainer's own checkpoints hold it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset, Sampler
from transformers import TrainerCallback

from hftransfer import models
from hftransfer.data.text import padded
from hftransfer.functional import ADAPTATION, adaptation_formula, inputs_of
from hftransfer.functional.label_shift import balanced_sampling
from hftransfer.objectives.masked_positions import MaskedPositions
from hftransfer.trainers.exact import ExactTrainer

UNKNOWN = -1  # a target row without a pseudo-label yet
MAX_JOINT_WIDTH = 4096  # CDAN's own threshold for a random map instead of the full outer product


class AdaptationModel(nn.Module):
    """A stock classifier with an adaptation formula: the loss is computed inside `forward`, so DDP stays right."""

    def __init__(
        self,
        network: nn.Module,
        *,
        method: str,
        weight: float | None = None,
        weight_warmup: float = 0.0,
        threshold: float = 0.95,
        masked_lm: nn.Module | None = None,
        masked_lm_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.network, self.method, self.threshold = network, method, threshold
        entry = ADAPTATION[method]
        self.weight = entry.weight if weight is None else weight
        self.weight_warmup = weight_warmup
        self.formula = adaptation_formula(method)
        self.inputs = inputs_of(self.formula) if self.formula else set()
        self.masked_lm_weight = masked_lm_weight
        self.discriminator = self._new_discriminator(entry.discriminator) if entry.discriminator else None
        self.masked_lm = masked_lm
        self.positions = None if masked_lm is None else MaskedPositions(masked_lm)

    @property
    def sees_target(self) -> bool:
        """Whether target rows go through the classifier (UDALM only reads masked ones)."""
        return any(name.endswith("_target") and name != "num_target" for name in self.inputs)

    def _new_discriminator(self, sees: str) -> nn.Module:
        width = models.last_linear(self.network).in_features
        if sees == "features*classes":
            width *= self.network.config.num_labels
        return Discriminator(width)

    def state_dict(self, *arguments: Any, **keywords: Any) -> dict[str, Any]:
        """Each shared tensor once: safetensors refuses aliases, and the masked-LM head shares the whole encoder."""
        whole = super().state_dict(*arguments, **keywords)
        aliases = _aliases(whole)
        return {name: value for name, value in whole.items() if name not in aliases}

    def load_state_dict(self, state_dict: Mapping[str, Any], *arguments: Any, **keywords: Any) -> Any:
        """Takes what `state_dict` gave."""
        aliases = _aliases(super().state_dict())
        shared = {name: state_dict[first] for name, first in aliases.items() if first in state_dict}
        return super().load_state_dict({**state_dict, **shared}, *arguments, **keywords)

    def forward(
        self,
        rows: dict[str, Tensor],
        labels: Tensor,
        masked: dict[str, Tensor] | None = None,
        progress: float = 0.0,
    ) -> dict[str, Tensor]:
        """
        Args:
            rows: the tokenised source rows and, after them, the target rows of the step.
            labels: (n,) of the source rows, so the first n rows are source.
            masked: masked target rows with `labels`, for the masked-LM loss.
            progress: the fraction of training done.

        Returns:
            `loss`, and its parts, detached.
        """
        features, logits = models.classify(self.network, rows)
        source, target = everywhere(features, logits, len(labels))
        labels = _gather(labels)
        loss_source = cross_entropy(source[1].float(), labels)
        given = {
            "features_source": source[0],
            "features_target": target[0],
            "logits_source": source[1],
            "logits_target": target[1],
            "labels_source": labels,
            "loss_source": loss_source,
            "discriminator": self.discriminator,
            "progress": progress,
            "threshold": self.threshold,
        }
        if masked is not None:
            given["loss_masked_lm"] = self._masked_loss(masked)
            given["num_source"], given["num_target"] = len(labels), len(_gather(masked["labels"][:, 0]))
        return self._total(given)

    def _total(self, given: dict[str, Any]) -> dict[str, Tensor]:
        loss = given["loss_source"]
        parts = {"loss_source": loss.detach()}
        if self.formula is not None:
            value = self.formula(**{name: given[name] for name in self.inputs})
            weight = self.weight * min(1.0, given["progress"] / self.weight_warmup if self.weight_warmup else 1.0)
            loss = value if "loss_source" in self.inputs else loss + weight * value
            parts["loss_method"] = value.detach()
        if self.masked_lm_weight and "loss_masked_lm" in given:
            loss = loss + self.masked_lm_weight * given["loss_masked_lm"]
        if "loss_masked_lm" in given:
            parts["loss_masked_lm"] = given["loss_masked_lm"].detach()
        return {"loss": loss, **parts}

    def _masked_loss(self, masked: dict[str, Tensor]) -> Tensor:
        assert self.positions is not None and self.masked_lm is not None
        inputs = dict(masked)
        labels = inputs.pop("labels")
        where = labels != -100
        logits = self.positions.logits(self.masked_lm, inputs, where)
        nats = cross_entropy(logits.float(), labels[where], reduction="sum")
        count = where.sum()
        if _world() > 1:  # a mean over all processes' masked tokens, since gradients are averaged
            total = count.clone()
            torch.distributed.all_reduce(total)
            return nats * _world() / total.clamp(min=1)
        return nats / count.clamp(min=1)


def _aliases(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Names of tensors that are another's memory, and the first name of each."""
    first: dict[tuple[int, int], str] = {}
    found = {name: first.setdefault((value.data_ptr(), value.numel()), name) for name, value in state.items()}
    return {name: other for name, other in found.items() if other != name and state[name].numel()}


class Discriminator(nn.Module):
    """Source or target: two hidden layers, as DANN's and CDAN's reference implementations.

    A width beyond 4096 is first reduced by a random orthogonal-scaled map, which is a buffer: it is saved with every
    checkpoint, so a resumed run plays against the same game.
    """

    def __init__(self, width: int, hidden: int = 256) -> None:
        super().__init__()
        reduced = min(width, MAX_JOINT_WIDTH)
        if reduced < width:
            self.register_buffer("random_map", torch.randn(width, reduced) / width**0.5)
        else:
            self.random_map = None
        self.layers = nn.Sequential(
            nn.Linear(reduced, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(rows, width) -> (rows, 1) logits, positive for source."""
        if self.random_map is not None:
            features = features @ self.random_map
        return self.layers(features)


def _world() -> int:
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if ready else 1


def _gather(values: Tensor) -> Tensor:
    """Every process's rows, differentiable: batch statistics are of the global batch, as on one process."""
    if _world() == 1:
        return values
    if not values.requires_grad:
        parts = [torch.empty_like(values) for _ in range(_world())]
        torch.distributed.all_gather(parts, values.contiguous())
        return torch.cat(parts)
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(values.contiguous()))


def everywhere(
    features: Tensor, logits: Tensor, num_source: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Splits rows into source and target, and gathers each over the processes."""
    source = _gather(features[:num_source]), _gather(logits[:num_source])
    if len(features) == num_source:
        return source, (features[:0], logits[:0])
    return source, (_gather(features[num_source:]), _gather(logits[num_source:]))


class Pairs(Dataset[dict[str, Any]]):
    """Rows of both domains, and of the target cut for masked LM. As long as the source: an epoch is a pass over it."""

    def __init__(self, source: Any, target: Any, masked: Any = None) -> None:
        self.source, self.target, self.masked = source, target, masked

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: tuple[int, int, int]) -> dict[str, Any]:
        row = {"source": self.source[rows[0]], "target": self.target[rows[1]]}
        return row if self.masked is None else {**row, "masked": self.masked[rows[2]]}


class PairSampler(Sampler[tuple[int, int, int]]):
    """Both domains' orders as functions of (seed, epoch, weights).

    Without weights each domain is shuffled, and the shorter target passed over as often as needed. With weights rows
    are drawn with replacement, so that every class comes as often: by label on the source, by pseudo-label on the
    target. RLSbench (Garg et al. 2023, arXiv:2302.03020) found this pair worth 2 to 10 points under label shift.
    """

    def __init__(self, pairs: Pairs, *, seed: int, weights: Callable[[], Any] = lambda: (None, None)) -> None:
        self.pairs, self.seed, self.weights, self.epoch = pairs, seed, weights, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        rng = np.random.default_rng((self.seed, self.epoch, 2))
        weights_source, weights_target = self.weights()
        source = self._order(rng, len(self.pairs.source), weights_source)
        target = self._order(rng, len(self.pairs.target), weights_target)
        masked = self._order(rng, 1 if self.pairs.masked is None else len(self.pairs.masked), None)
        return iter(zip(source.tolist(), target.tolist(), masked.tolist(), strict=True))

    def _order(self, rng: np.random.Generator, rows: int, weights: Any) -> np.ndarray:
        if weights is not None:
            return rng.choice(rows, size=len(self), p=weights)
        passes = -(-len(self) // rows)
        return np.concatenate([rng.permutation(rows) for _ in range(passes)])[: len(self)]


class AdaptationCollator:
    """Source and target rows into one padded batch, and masked target rows beside it where the loss needs them."""

    def __init__(self, tokenizer: Any, *, with_target: bool, masking: Any = None) -> None:
        self.tokenizer, self.with_target, self.masking = tokenizer, with_target, masking

    def set_epoch(self, epoch: int) -> None:
        if self.masking is not None:
            self.masking.set_epoch(epoch)

    def __call__(self, pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        rows = [pair["source"] for pair in pairs]
        labels = torch.tensor([row["label"] for row in rows])
        if self.with_target:
            rows = rows + [pair["target"] for pair in pairs]
        batch = {"rows": padded(self.tokenizer, rows), "labels": labels}
        if self.masking is not None:
            batch["masked"] = dict(self.masking([pair["masked"] for pair in pairs]))
        return batch


class AdaptationTrainer(ExactTrainer):
    """Trains an `AdaptationModel` on `Pairs`.

    With `predict_target` (a function that returns the class predicted for each target row) both domains are sampled
    class-balanced, the target by pseudo-labels that are renewed at each epoch. A new head (`cold`) knows nothing yet:
    its first epoch samples the target evenly.
    """

    def __init__(
        self, *, predict_target: Callable[[], np.ndarray] | None = None, cold: bool = False, **rest: Any
    ) -> None:
        super().__init__(**rest)
        self.model_accepts_loss_kwargs = False  # means over the batch; Trainer divides by the accumulation
        self.balanced = predict_target is not None
        if predict_target is not None:
            # a buffer, so that a checkpoint written within an epoch holds the labels that the epoch began with
            unknown = torch.full((len(self.train_dataset.target),), UNKNOWN)
            self.model.register_buffer("pseudo_labels", unknown.to(self.args.device))
            self.add_callback(Relabel(self.model, predict_target, cold))

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[Any]:
        pairs = self.train_dataset if train_dataset is None else train_dataset
        labels = np.asarray(pairs.source["label"]) if self.balanced else None

        def weights() -> Any:
            if labels is None:
                return None, None
            classes, found = self.model.network.config.num_labels, self.model.pseudo_labels.cpu().numpy()
            known = not (found == UNKNOWN).any()
            return balanced_sampling(labels, classes), balanced_sampling(found, classes) if known else None

        sampler = PairSampler(pairs, seed=self.args.seed, weights=weights)
        self.epoch_aware.append(sampler)
        return sampler

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        outputs = model(**inputs, progress=self.state.global_step / max(1, self.state.max_steps))
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]


class Relabel(TrainerCallback):
    """Renews the target's pseudo-labels when an epoch begins, not when one is resumed in its middle."""

    def __init__(self, model: nn.Module, predict_target: Callable[[], np.ndarray], cold: bool) -> None:
        self.model, self.predict_target, self.cold = model, predict_target, cold

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        epoch = float(state.epoch or 0)
        if epoch.is_integer() and not (self.cold and epoch == 0):
            training = self.model.training
            labels = torch.as_tensor(self.predict_target())
            self.model.pseudo_labels.copy_(labels.to(self.model.pseudo_labels.device))
            self.model.train(training)
