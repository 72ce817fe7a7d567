"""A new network to hold a checkpoint against: of its sizes, and begun as its own pretraining began."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from hftransfer import models, objectives, runs
from hftransfer.models.checkpoints import Checkpoint
from hftransfer.objectives.masked_patches import plain_vit


def new_network(model: Any, job: str, labels: Mapping[str, Any]) -> nn.Module:
    """A network of new weights for a job, of a checkpoint's sizes; `labels` are fields of its config.

    A masked autoencoder begins with fixed positions and a projection of its own, which transformers' plain ViT does
    not: a network without them would credit the training with what was there before its first step.
    """
    begun = _begun(model)
    if begun is not None:
        return models.load(begun, job, **labels)
    config = models.config_of(model, labels)
    return models.ready(models.fresh_network(models.class_for(job, config), config))


def _begun(model: Any) -> nn.Module | None:
    """The encoder of a pretraining network before its first step, where a checkpoint says which network that was."""
    if isinstance(model, nn.Module):
        return None
    checkpoint = models.resolve(model)
    whole = Checkpoint(checkpoint.folder / models.PRETRAINING, checkpoint.name, checkpoint.origin)
    named = runs.read_json(whole.folder / "config.json").get("architectures") or []
    classes = (objectives.find(name) for name in objectives.OBJECTIVES)
    objective = next((cls for cls in classes if models.AUTO_CLASSES[cls.job] in named), None)
    if objective is None:
        return None
    config = models.read_config(whole)
    network = models.fresh_network(models.class_for(objective.job, config), config)
    objective.mend(network, [name for name, _ in network.named_parameters()])
    return plain_vit(network)
