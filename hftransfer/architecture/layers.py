"""Which blocks are kept, and which of them begin anew."""

import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from hftransfer import tuning
from hftransfer.architecture.draft import KEY, Draft
from hftransfer.errors import HFTransferError, renamed

DEPTH = "num_hidden_layers"


def keep(draft: Draft, layers: int | str | Sequence[int] | None) -> None:
    """Keeps some of the blocks, in the order given, and makes the config's depth follow.

    Raises:
        HFTransferError: there are no such blocks, or a block cannot stand in another's place.
    """
    if layers is None:
        return
    stack, path = _stack(draft)
    chosen = numbers(layers, len(stack), type(draft.source).__name__)
    if chosen == list(range(len(stack))):
        draft.notes.append(f"all {len(stack)} layers are kept")
        return
    _check_numbering(draft.config, chosen)
    draft.fields |= depth_fields(draft.config, chosen)
    moved = {old: new for new, old in enumerate(chosen)}
    weights, pattern = {}, re.compile(rf"{re.escape(path)}\.(\d+)\.(.*)")
    for name, weight in draft.weights.items():
        inside = pattern.fullmatch(name)
        if not inside:
            weights[name] = weight
        elif int(inside[1]) in moved:
            weights[f"{path}.{moved[int(inside[1])]}.{inside[2]}"] = weight
    draft.weights = weights
    _check(draft, path, chosen)
    named, kept = ("layer", "is") if len(chosen) == 1 else ("layers", "are")
    draft.notes.append(f"{named} {', '.join(map(str, chosen))} of {len(stack)} {kept} kept")


def numbers(layers: int | str | Sequence[int], there: int, name: str) -> list[int]:
    """The numbers of the blocks that an option names.

    Raises:
        HFTransferError: there are fewer, none is named, or one is named twice.
    """
    if layers == "every_second":
        return list(range(0, there, 2))
    chosen = list(range(layers)) if isinstance(layers, int) else [int(number) for number in layers]
    if not chosen:
        raise HFTransferError(f"{KEY}.layers: a network without blocks learns nothing; keep at least one")
    if len(set(chosen)) < len(chosen):
        twice = next(number for number in chosen if chosen.count(number) > 1)
        raise HFTransferError(f"{KEY}.layers: block {twice} is named twice; name each once")
    if isinstance(layers, int) and layers > there:
        raise HFTransferError(f"{KEY}.layers: {name} has {there} blocks, and {layers} cannot be kept; lower it")
    if not all(0 <= number < there for number in chosen):
        wrong = next(number for number in chosen if not 0 <= number < there)
        raise HFTransferError(f"{KEY}.layers: {name} has {there} blocks, 0 to {there - 1}; there is no block {wrong}")
    return chosen


def depth_fields(config: Any, chosen: Sequence[int]) -> dict[str, Any]:
    """The config's fields for these blocks only: their number, and every list with an entry for each block.

    Raises:
        HFTransferError: the config names no number of blocks.
    """
    name = config.attribute_map.get(DEPTH, DEPTH)
    there = getattr(config, DEPTH, None)
    if not isinstance(there, int) or not isinstance(vars(config).get(name), int):
        raise HFTransferError(
            f"{KEY}.layers: {type(config).__name__} names no number of blocks, so a shorter network cannot be saved; "
            "remove it"
        )
    lists = {
        field: [value[number] for number in chosen]
        for field, value in config.to_dict().items()
        if isinstance(value, list) and len(value) == there and "layer" in field
    }
    stages = ("out_features", "out_indices") if hasattr(config, "stage_names") else ()  # of a backbone: its last block
    return {name: len(chosen), **lists, **dict.fromkeys(stages)}


def begin_anew(draft: Draft, count: int) -> None:
    """Gives the top blocks, and a pooler, the architecture's own new weights.

    Raises:
        HFTransferError: there are fewer blocks.
    """
    if not count:
        return
    _, path = _stack(draft)
    there = getattr(draft.config, DEPTH)
    if count > there:
        raise HFTransferError(
            f"{KEY}.reinitialize_top: {there} blocks are kept, and {count} cannot begin anew; lower it"
        )
    anew = [f"{path}.{number}." for number in range(there - count, there)]
    pooler = draft.part("pooler.")
    has_pooler = any(name.startswith((pooler, "pooler.")) for name in draft.weights)
    starts = (*anew, pooler, "pooler.")
    draft.weights = {name: weight for name, weight in draft.weights.items() if not name.startswith(starts)}
    named, begin = ("the top block", " begins") if count == 1 else (f"the top {count} blocks", " begin")
    draft.notes.append(f"{named}{' and the pooler begin' if has_pooler else begin} anew")


def _stack(draft: Draft) -> tuple[nn.ModuleList, str]:
    """The blocks and their path in the network."""
    name = type(draft.source).__name__
    with renamed("freeze, layer_decay", f"{KEY}.layers"):
        stack = tuning.blocks(draft.source)
    if getattr(draft.source.config, "is_encoder_decoder", False):
        raise HFTransferError(f"{KEY}.layers: {name} has blocks of an encoder and of a decoder; remove it")
    depth = getattr(draft.source.config, DEPTH, len(stack))
    if len(stack) != depth:
        raise HFTransferError(
            f"{KEY}.layers: {name} has {len(stack)} blocks of weights and its config {depth} layers: they share "
            "weights, or stand at several levels; remove it"
        )
    return stack, next(path for path, module in draft.source.named_modules() if module is stack)


def _check_numbering(config: Any, chosen: Sequence[int]) -> None:
    """A block that divides its attention by its own number does another thing under another number."""
    if getattr(config, "scale_attn_by_inverse_layer_idx", False) and list(chosen) != list(range(len(chosen))):
        raise HFTransferError(
            f"{KEY}.layers: the blocks scale their attention by their numbers (scale_attn_by_inverse_layer_idx), "
            "which would change; keep the first ones"
        )


def _check(draft: Draft, path: str, chosen: Sequence[int]) -> None:
    """The blocks of a shorter network must have exactly the weights that are put into them."""
    wanted, start = draft.shapes(), f"{path}."
    ours = {name: weight.value.shape for name, weight in draft.weights.items() if name.startswith(start)}
    theirs = {name: shape for name, shape in wanted.items() if name.startswith(start)}
    odd = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if not odd:
        return
    place, _, inner = odd[0].removeprefix(start).partition(".")
    block = chosen[min(int(place), len(chosen) - 1)]
    raise HFTransferError(
        f"{KEY}.layers: the blocks of {type(draft.source).__name__} differ, and block {block} cannot stand in place "
        f"{place}: {inner}; keep the first blocks"
    )
