"""The labels that samples are asked for by, or judged as."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, TypeAlias

import torch
from torch import Tensor

from hftransfer.errors import HFTransferError, nearest

WANTED = "expected a whole number or a name, or a list of them"
Labels: TypeAlias = int | str | Sequence[int] | Sequence[str] | Tensor


def checked(labels: Tensor | None, num_classes: int) -> Tensor | None:
    """(batch,) labels that a network can take, or None for one that knows no labels.

    On an accelerator the range is not looked at: that would wait for it in every step.

    Raises:
        HFTransferError: labels for a network that knows none, none for one that needs them, or one out of range.
    """
    if not num_classes:
        if labels is not None:
            raise HFTransferError("labels: this network was made without classes and takes no labels; leave them out")
        return None
    if labels is None:
        raise HFTransferError(
            f"labels: this network is conditional on {num_classes} classes; give a label for each row"
        )
    if labels.device.type == "cpu" and len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        wrong = int(labels.min()) if int(labels.min()) < 0 else int(labels.max())
        raise HFTransferError(f"labels: {wrong} is out of range; the classes are numbered 0 to {num_classes - 1}")
    return labels


def asked(
    labels: Labels | None, n: int, num_classes: int, noise: torch.Generator, names: Mapping[str, int] | None = None
) -> Tensor | None:
    """(n,) labels to generate: one for all, or one each; drawn evenly where a conditional generator is given none.

    `names` are the classes' own, by which they can be asked for as well.

    Raises:
        HFTransferError: as `checked`, and for another number of labels than samples.
    """
    if labels is None and num_classes:
        return torch.randint(num_classes, (n,), generator=noise)
    if labels is None:
        return None
    given = torch.as_tensor(_numbered(labels, names or {}) if num_classes else 0).cpu()  # `checked` refuses the latter
    if given.is_floating_point() or given.dtype == torch.bool or given.dim() > 1:
        raise HFTransferError(f"labels: {WANTED}")
    given = given.long()
    if given.dim() and len(given) != n:
        raise HFTransferError(
            f"labels: {len(given)} labels for {n} samples; give one for each, or a single one for all"
        )
    return checked(given.expand(n), num_classes)


def _numbered(labels: Labels, names: Mapping[str, int]) -> Any:
    """Classes by number, where some are given by name."""
    if isinstance(labels, str):
        if labels not in names:
            raise HFTransferError(f"labels: there is no class '{labels}'{nearest(labels, names)}")
        return names[labels]
    if isinstance(labels, Integral):
        return labels if isinstance(labels, bool) else int(labels)
    if isinstance(labels, Tensor):
        return labels
    if not isinstance(labels, Iterable):
        raise HFTransferError(f"labels: {WANTED}, found {labels!r}")
    return [_numbered(one, names) for one in labels]
