"""What becomes of a trained classification head when the labels are others."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hftransfer import models
from hftransfer.architecture.draft import KEY, Draft, Weight
from hftransfer.architecture.table import CARRIED, NEW
from hftransfer.errors import HFTransferError


def fit(draft: Draft, fields: Mapping[str, Any], wanted: str | None) -> None:
    """Gives the network the task's labels; the rows of the trained head are kept, forgotten or carried over by name.

    Raises:
        HFTransferError: a head is to be kept that does not know these labels, or there is none.
    """
    if not fields:
        if wanted is not None:
            raise HFTransferError(f"{KEY}.head: a language model has no head of labels; remove it")
        return
    config = draft.source.config
    old = [config.id2label[number] for number in range(config.num_labels)]
    new = [dict(fields["id2label"])[number] for number in range(fields["num_labels"])]
    trained = not any(not draft.in_backbone(name) for name in draft.untrained)
    pad = {name: value for name, value in draft.fields.items() if name == "pad_token_id"}  # another tokenizer's
    draft.fields |= {"problem_type": "single_label_classification", **fields, **pad}
    other = _of_another_class(draft)
    if other:
        trained = False
        _forget(draft)
    if not trained:
        if wanted in ("kept", "widened"):
            raise HFTransferError(
                f"{KEY}.head: the checkpoint has no trained head that could be {wanted}; set new, or remove it"
            )
        has = f"that of {other}" if other else "none"
        draft.notes.append(f"the head for {_named(new)} is new: the checkpoint has {has}")
    elif wanted == "widened":
        _widen(draft, old, new)
    elif old == new and wanted != "new":
        draft.notes.append(f"the trained head is kept: its labels are the same ({_named(new)})")
    elif wanted == "kept":
        raise HFTransferError(
            f"{KEY}.head: the trained head knows {_named(old)}, and the data has {_named(new)}; set widened or new"
        )
    else:
        _forget(draft)
        why = "as asked" if old == new else f"it knew {_named(old)}"
        draft.notes.append(f"the trained head is replaced by a new one for {_named(new)}: {why}")


def _of_another_class(draft: Draft) -> str:
    """The classifier that a checkpoint is, where it is not this one: a tagger's weights have the same names."""
    model = draft.model
    if isinstance(model, nn.Module):
        named = [type(model).__name__]
    else:
        named = models.resolve(model).config().get("architectures") or []
    ours = type(draft.source).__name__
    return next((name for name in named if name.endswith("Classification") and ours not in named), "")


def _forget(draft: Draft) -> None:
    draft.weights = {name: weight for name, weight in draft.weights.items() if draft.in_backbone(name)}


def _widen(draft: Draft, old: list[str], new: list[str]) -> None:
    """Rows of labels that the old head knows keep their weights, wherever they now stand; the others are new."""
    known = [label for label in new if label in old]
    if not known:
        raise HFTransferError(
            f"{KEY}.head: the trained head knows {_named(old)} and none of {_named(new)}; set new instead of widened"
        )
    rows = torch.tensor([old.index(label) if label in old else 0 for label in new])
    codes = torch.tensor([CARRIED if label in old else NEW for label in new], dtype=torch.uint8)
    last = models.last_linear(draft.source)
    path = next(path for path, module in draft.source.named_modules() if module is last)
    for name, value in last.named_parameters():
        origin = codes.reshape(-1, *[1] * (value.dim() - 1))
        draft.weights[f"{path}.{name}"] = Weight(value.detach()[rows.to(value.device)], origin.to(value.device))
        draft.widened |= {f"{path}.{name}"} if len(known) < len(new) else set()
    others = [label for label in new if label not in old]
    gone = [label for label in old if label not in new]
    said = [f"the rows of {_named(known)} are carried over"]
    said += [f"{_named(others)} {'is' if len(others) == 1 else 'are'} new"] if others else []
    said += [f"{_named(gone)} {'is' if len(gone) == 1 else 'are'} dropped"] if gone else []
    draft.notes.append(f"the trained head is widened: {', '.join(said)}")


def _named(labels: list[str]) -> str:
    shown = ", ".join(labels[:6])
    return shown if len(labels) <= 6 else f"{shown}, ... ({len(labels)})"
