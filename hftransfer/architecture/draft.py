"""A network in the making: the config's new fields, and every weight with where each of its numbers comes from."""

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hftransfer import models
from hftransfer.architecture.table import CARRIED, NEW
from hftransfer.errors import HFTransferError

KEY = "architecture"


class Weight(NamedTuple):
    """A weight of the new network, and its numbers' origins.

    `origin` has the weight's number of dimensions or none, and broadcasts to it: one code for all, or one for a row.
    """

    value: Tensor
    origin: Tensor


def carried(value: Tensor) -> Weight:
    """A weight as it was."""
    return Weight(value, torch.tensor(CARRIED, dtype=torch.uint8))


class Draft:
    """What becomes the new network.

    `source` is the checkpoint's network and stays as it is; `weights` has the new network's names, and none of what is
    new. Each kind of change sets `fields` of the config and rewrites the weights that these fields resize.
    """

    def __init__(self, model: Any, job: str, kind: str) -> None:
        self.model, self.job, self.kind = model, job, kind
        self.source, missing = models.load_reported(model, job)
        self.fields: dict[str, Any] = {}
        self.notes: list[str] = []
        self.widened: set[str] = set()  # weights of a head that has some new rows
        self.reader: Any = None
        stored = self.source.state_dict()
        if isinstance(model, nn.Module):  # of another class, whose head may have parts of the same names
            own = {name: value for name, value in model.state_dict().items() if name in missing}
            fits = {name: value for name, value in own.items() if value.shape == stored[name].shape}
            stored, missing = {**stored, **fits}, [name for name in missing if name not in fits]
        self.untrained = frozenset(missing)
        self.weights = {name: carried(value) for name, value in stored.items() if name not in self.untrained}

    @property
    def config(self) -> Any:
        """The config with the fields that changed."""
        config = self.source.config
        if not self.fields:
            return config
        names = {config.attribute_map.get(name, name): value for name, value in self.fields.items()}
        try:
            with models.quiet_transformers():
                return type(config).from_dict({**config.to_dict(), **names})
        except Exception as error:  # of the dataclass's own checks
            raise self._refused(type(config).__name__, error) from error

    def _refused(self, name: str, error: Exception) -> HFTransferError:
        return HFTransferError(f"{KEY}: {name} refuses this {', '.join(self.fields)} ({models.brief(error)})")

    def skeleton(self) -> nn.Module:
        """The network of the changed config, without memory for its weights."""
        config = self.config
        try:
            with torch.device("meta"), models.quiet_transformers():
                return models.fresh_network(type(self.source), config).eval()
        except Exception as error:  # of the network's own checks
            raise self._refused(type(self.source).__name__, error) from error

    def shapes(self) -> Mapping[str, torch.Size]:
        """The shapes that the changed config gives the weights."""
        return {name: value.shape for name, value in self.skeleton().state_dict().items()}

    def misfits(self) -> dict[str, torch.Size]:
        """The weights that the changed config wants in another shape, with that shape."""
        wanted = self.shapes()
        return {
            n: wanted[n]
            for n, weight in self.weights.items()
            if wanted.get(n, weight.value.shape) != weight.value.shape
        }

    def part(self, name: str) -> str:
        """A weight's name with the backbone's own before it."""
        prefix = self.source.base_model_prefix
        return f"{prefix}.{name}" if self.source.base_model is not self.source else name

    def in_backbone(self, name: str) -> bool:
        """Whether a weight lies below the head."""
        return self.source.base_model is self.source or name.startswith(f"{self.source.base_model_prefix}.")


def build(draft: Draft) -> tuple[nn.Module, dict[str, Tensor]]:
    """The new network, and its weights' origins where not all of a weight is new."""
    with models.quiet_transformers():
        network = models.fresh_network(type(draft.source), draft.config)
    network = network.to(draft.source.dtype)
    _attach(network, draft)
    origins = {}
    with torch.no_grad():
        for name, fresh in network.state_dict().items():
            weight = draft.weights.get(name)
            if weight is None or weight.value.shape != fresh.shape:
                continue
            origins[name] = weight.origin
            fresh.copy_(weight.value if not weight.origin.dim() else _filled(weight, fresh))
    if network.can_generate() and not {"vocab_size", "eos_token_id"} & draft.fields.keys():
        network.generation_config = draft.source.generation_config
    network.config._name_or_path = network.name_or_path = draft.source.config._name_or_path
    return models.ready(network).eval(), origins


def _filled(weight: Weight, fresh: Tensor) -> Tensor:
    return torch.where(weight.origin == NEW, fresh, weight.value.to(fresh.dtype))


def _attach(network: nn.Module, draft: Draft) -> None:
    """Parts of the backbone that the job's class leaves out and the next stage's may want, such as BERT's pooler."""
    held = set(draft.weights)
    for name, child in draft.source.base_model.named_children():
        own = [draft.part(f"{name}.{inner}") for inner in child.state_dict()]
        if own and getattr(network.base_model, name, child) is None and held.issuperset(own):
            setattr(network.base_model, name, copy.deepcopy(child))
