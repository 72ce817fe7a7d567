"""How many parameters of a network are carried over, changed and new, part by part."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hftransfer import tuning
from hftransfer.errors import HFTransferError

CARRIED, CHANGED, NEW = 0, 1, 2  # codes of a number's origin
COLUMNS = ["part", "parameters", "carried over", "changed", "new"]


def summary(network: nn.Module, origins: Mapping[str, Tensor]) -> dict[str, Any]:
    """A table of parameters: a row for each part of a network, from the embeddings to the head.

    Args:
        network: whose parameters are counted; one that is used twice counts once.
        origins: names of weights to codes (`CARRIED`, `CHANGED`, `NEW`) that broadcast to them; what is not in it is
            new, so `{}` tells of a network with no parameters carried over.

    Returns:
        `title`, `columns`, and `rows` that add up to the network's number of parameters.
    """
    rows: dict[str, list[int]] = {}
    for name, part in parts(network).items():
        value = network.get_parameter(name)
        row = rows.setdefault(part, [0, 0, 0])
        for code, number in enumerate(counted(value, origins.get(name))):
            row[code] += number
    carried, whole = sum(row[CARRIED] for row in rows.values()), sum(map(sum, rows.values()))
    return {
        "title": f"{carried:,} of {whole:,} parameters are carried over",
        "columns": COLUMNS,
        "rows": [[part, sum(rows[part]), *rows[part]] for part in sorted(rows, key=_height)],
    }


def _height(part: str) -> int:
    return {"embeddings": 0, "blocks": 1, "head": 3}.get(part, 2)


def counted(value: Tensor, origin: Tensor | None) -> tuple[int, int, int]:
    """How many of a weight's numbers are carried over, changed and new."""
    origin = torch.tensor(NEW) if origin is None else origin
    each = value.numel() // origin.numel()
    carried, changed, new = (int((origin == code).sum()) * each for code in (CARRIED, CHANGED, NEW))
    return carried, changed, new


def parts(network: nn.Module) -> dict[str, str]:
    """Each parameter's part: embeddings, blocks, what else the backbone has by its own name, head."""
    places = _places(network)
    return {name: places.get(id(value), "head") for name, value in network.named_parameters()}


def _places(network: nn.Module) -> dict[int, str]:
    backbone = network.base_model
    try:
        stack = tuning.blocks(network)
    except HFTransferError:  # a recurrent network
        stack = nn.ModuleList()
    blocks = {id(value): "blocks" for value in stack.parameters()}
    found: dict[int, str] = {}
    below = bool(blocks)
    for name, value in backbone.named_parameters(remove_duplicate=False):
        below = below and id(value) not in blocks
        part = name.split(".")[0]
        found.setdefault(id(value), blocks.get(id(value)) or ("embeddings" if below else part))
    return found
