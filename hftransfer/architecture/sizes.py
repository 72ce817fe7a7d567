"""Another size of the images: position embeddings are interpolated to the new grid of patches."""

import warnings
from typing import Any

import torch
from torch.nn.functional import interpolate

from hftransfer import models
from hftransfer.architecture.draft import KEY, Draft, Weight
from hftransfer.architecture.table import CARRIED, CHANGED
from hftransfer.data import framing
from hftransfer.errors import HFTransferError

_KEY = f"{KEY}.image_size"


def see(draft: Draft, size: int | None) -> None:
    """Makes the network see images (or spectrograms) of this size, and its reader make them.

    Raises:
        HFTransferError: it sees none, its patches do not fill the size, or its weights depend on it in another way.
    """
    if size is None:
        return
    config = draft.config
    name = type(draft.source).__name__
    before = getattr(config, "image_size", None)
    if draft.kind == "text" or before is None:
        raise HFTransferError(f"{_KEY}: {name} has no image_size; remove it")
    kind = "sound" if draft.kind == "sound" else "image"
    draft.reader = draft.reader or models.reader(draft.model, kind)
    pair, patch = _pair(before), getattr(config, "patch_size", None)
    if pair == (size, size):
        draft.notes.append(f"{kind}s are of {size} x {size}, as before")
    else:
        _check_patches(size, patch)
        draft.fields["image_size"] = size if isinstance(before, int) else [size, size]
        tables = draft.misfits()
        for path, shape in tables.items():
            draft.weights[path] = _interpolated(draft, path, shape, _grid(pair, patch), _grid((size, size), patch))
        _check_seen(draft, size)
        told = f"{', '.join(tables)} is interpolated" if tables else "no weight depends on it"
        draft.notes.append(f"{kind}s are of {size} x {size} instead of {pair[0]} x {pair[1]}: {told}")
    draft.reader = _hearing(draft.reader, size) if kind == "sound" else _seeing(draft.reader, size, config)


Grid = tuple[int, int]


def _pair(value: Any) -> Grid:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _grid(sides: Grid, patch: Any) -> Grid | None:
    return None if patch is None else (sides[0] // _pair(patch)[0], sides[1] // _pair(patch)[1])


def _check_patches(size: int, patch: Any) -> None:
    if patch is not None and any(size % side for side in _pair(patch)):
        side = max(_pair(patch))
        near = max(side, round(size / side) * side)
        raise HFTransferError(f"{_KEY}: patches of {side} do not fill {size} pixels; the nearest size is {near}")


def _check_seen(draft: Draft, size: int) -> None:
    """Windows and strides of an architecture may not fit a size that no weight depends on."""
    images_of_it = torch.empty(1, draft.config.num_channels, size, size, device="meta")
    try:
        draft.skeleton()(pixel_values=images_of_it)
    except (ValueError, RuntimeError) as error:
        raise HFTransferError(
            f"{_KEY}: {type(draft.source).__name__} takes no images of {size} x {size} ({models.brief(error)}); "
            "choose another size"
        ) from error


def _interpolated(draft: Draft, path: str, wanted: torch.Size, old: Grid | None, new: Grid | None) -> Weight:
    """A table of positions on a new grid; what stands before the grid (class and distillation tokens) stays.

    Bicubic, as transformers interpolates for an image of another size.
    """
    value = draft.weights[path].value
    dim = value.dim() - 2
    if old is None or new is None or dim < 0 or value.shape[dim] - old[0] * old[1] != wanted[dim] - new[0] * new[1]:
        raise HFTransferError(
            f"{_KEY}: {path} of {type(draft.source).__name__} depends on the size in another way than by a grid of "
            "positions; remove it"
        )
    before = value.shape[dim] - old[0] * old[1]
    rest, grid = value.detach().reshape(-1, value.shape[-1]).split([before, old[0] * old[1]])
    square = grid.float().reshape(1, *old, -1).permute(0, 3, 1, 2)  # (1, width, rows, columns)
    moved = interpolate(square, size=new, mode="bicubic", align_corners=False)
    grid = moved.permute(0, 2, 3, 1).reshape(-1, value.shape[-1]).to(value)
    origin = torch.tensor([CARRIED] * before + [CHANGED] * len(grid), dtype=torch.uint8, device=value.device)
    shape = [1] * dim + [-1, 1]
    return Weight(torch.cat([rest, grid]).reshape(wanted), origin.reshape(shape))


def _seeing(reader: Any, size: int, config: Any) -> Any:
    """The image processor, made to give this size, in proportion where it cuts the middle out of a larger image."""
    square = {"height": size, "width": size}
    if getattr(reader, "do_center_crop", None):
        crop = _side(reader.crop_size)
        reader.crop_size, before = square, reader.size
        given = {name: before[name] for name in ("shortest_edge", "height", "width") if _has(before, name)}
        reader.size = {name: round(side * size / crop) for name, side in given.items()}
    elif getattr(reader, "do_resize", None):
        reader.size = {"shortest_edge": size} if _has(reader.size, "shortest_edge") else square
    made = framing.side_of(reader, getattr(config, "num_channels", 3))
    if made not in (None, size):
        raise HFTransferError(
            f"{_KEY}: the checkpoint's image processor ({type(reader).__name__}) then makes {made} x {made}; remove it"
        )
    return reader


def _has(size: Any, name: str) -> bool:
    return name in size and size[name] is not None


def _side(size: Any) -> int:
    return int(size["height"] if _has(size, "height") else size["shortest_edge"])


def _hearing(reader: Any, size: int) -> Any:
    """A feature extractor of as many moments and pitches."""
    with warnings.catch_warnings():  # from 113 pitches on, the lowest one lies between two frequencies and is empty
        warnings.filterwarnings("ignore", "At least one mel filter", UserWarning)
        known = {name: value for name, value in reader.to_dict().items() if name != "feature_extractor_type"}
        return type(reader)(**{**known, "num_mel_bins": size, "max_length": size})
