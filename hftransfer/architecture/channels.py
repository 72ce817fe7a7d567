"""Another number of channels of the images: a grey image is answered as the same grey in all old channels was."""

from typing import Any

import torch
from torch import Tensor

from hftransfer import models
from hftransfer.architecture.draft import KEY, Draft, Weight
from hftransfer.architecture.table import CHANGED
from hftransfer.data import images
from hftransfer.errors import HFTransferError


def see(draft: Draft, channels: int | None) -> None:
    """Makes the network see images of so many channels, and its image processor make them.

    The weights of the input layer are summed over the old channels and divided among the new ones.

    Raises:
        HFTransferError: the network sees no images.
    """
    if channels is None:
        return
    before = getattr(draft.source.config, "num_channels", None)
    if draft.kind != "image" or before is None:
        what = "reads no images" if draft.kind == "text" else "hears sounds, which have one channel"
        what = what if draft.kind != "image" else "names no number of channels"
        raise HFTransferError(f"{KEY}.num_channels: {type(draft.source).__name__} {what}; remove it")
    reader = draft.reader = draft.reader or models.reader(draft.model, "image")
    if channels == before:
        draft.notes.append(f"{_said(channels)}, as before")
        return
    draft.fields["num_channels"] = channels
    resized = [n for n, shape in draft.misfits().items() if _sees(draft.weights[n].value, shape, before, channels)]
    scale, shift = images.normalisation(reader, before)
    _normalise(reader, channels)
    new_scale, new_shift = (part[:1] for part in images.normalisation(reader, channels))  # of a grey value
    for name in resized:
        _carry(draft, name, channels, (scale / new_scale).flatten(), (shift - new_shift * scale / new_scale).flatten())
    how = "divided among" if channels > before else "summed into"
    draft.notes.append(f"{_said(channels)} instead of {before}: the weights of the old are {how} the new")


def _said(channels: int) -> str:
    return f"images have {channels} channel{'s' if channels > 1 else ''}"


def _sees(value: Tensor, wanted: torch.Size, before: int, channels: int) -> bool:
    """Whether a weight is a convolution of the input, (out, channels, height, width)."""
    return value.dim() == 4 and value.shape[1] == before and wanted == (len(value), channels, *value.shape[2:])


def _carry(draft: Draft, name: str, channels: int, scale: Tensor, shift: Tensor) -> None:
    """The weights over the old channels, summed as a grey value reached them through the old normalisation."""
    old = draft.weights[name].value
    scale, shift = scale.to(old), shift.to(old)
    summed = (old * scale[:, None, None]).sum(1, keepdim=True)  # (out, 1, height, width)
    spread = (summed / channels).repeat(1, channels, 1, 1)
    draft.weights[name] = Weight(spread, torch.tensor(CHANGED, dtype=torch.uint8))
    bias = draft.weights.get(f"{name.removesuffix('weight')}bias")
    if bias is not None and bool(shift.any()):
        moved = bias.value + (old * shift[:, None, None]).sum((1, 2, 3))
        draft.weights[f"{name.removesuffix('weight')}bias"] = Weight(moved, torch.tensor(CHANGED, dtype=torch.uint8))


def _normalise(reader: Any, channels: int) -> None:
    """Gives every new channel the mean of the old ones' settings."""
    for name in ("image_mean", "image_std"):
        value = getattr(reader, name, None)
        if isinstance(value, list | tuple):
            setattr(reader, name, [sum(value) / len(value)] * channels)
    if hasattr(reader, "do_convert_rgb"):
        reader.do_convert_rgb = channels == 3
