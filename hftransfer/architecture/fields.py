"""Other fields of the config."""

from collections.abc import Mapping
from typing import Any

from hftransfer import models
from hftransfer.architecture.draft import KEY, Draft
from hftransfer.errors import HFTransferError

# fields that another option, or the task, sets together with the weights that follow from them
OTHERS = {
    "num_hidden_layers": "give architecture.layers, which says what blocks are kept",
    "num_channels": "give architecture.num_channels",
    "image_size": "give architecture.image_size",
    "vocab_size": "give architecture.tokenizer, whose vocabulary it counts",
    "is_decoder": "give architecture.is_decoder",
    "is_causal": "give architecture.is_decoder",
    "num_labels": "the data's labels decide it",
    "id2label": "the data's labels decide it",
    "label2id": "the data's labels decide it",
    "problem_type": "the task decides it",
    "model_type": "other networks are other checkpoints",
    "architectures": "the task decides it",
}


def put(draft: Draft, fields: Mapping[str, Any]) -> None:
    """Sets fields of the config; weights that they give another shape are new.

    Raises:
        HFTransferError: there is no such field, another option sets it, or the config refuses the value.
    """
    if not fields:
        return
    names = draft.config.attribute_map
    for name, advice in OTHERS.items():
        for given in fields:
            if names.get(given, given) == names.get(name, name):
                raise HFTransferError(f"{KEY}.config.{given}: is not set by itself; {advice}")
    try:
        models.config_of(draft.source, fields)
    except HFTransferError as error:
        raise HFTransferError(f"{KEY}.{error}") from error
    before = draft.shapes()
    draft.fields |= fields
    wanted = draft.shapes()
    other = [name for name in draft.weights if name in wanted and before.get(name) != wanted[name]]
    told = ", ".join(f"{name} {value}" for name, value in fields.items())
    draft.notes.append(f"the config has {told}{_consequence(other)}")


def _consequence(other: list[str]) -> str:
    if not other:
        return ""
    count = "1 weight" if len(other) == 1 else f"{len(other)} weights"
    return f": {count} of another shape {'is' if len(other) == 1 else 'are'} new"
