"""Which parts of a network an adapter is put on, and which train whole beside it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from hftransfer import tuning
from hftransfer.errors import HFTransferError, nearest


def holders(network: nn.Module, new: Iterable[str]) -> list[str]:
    """The modules that hold these weights themselves: the smallest that can be saved whole."""
    given = dict(network.named_parameters(remove_duplicate=False))
    weights = {name: given[name] for name in new if name in given}
    names = dict.fromkeys(name.rpartition(".")[0] for name in weights)
    if "" in names or len({id(weight) for weight in weights.values()}) == len(list(network.parameters())):
        raise HFTransferError("lora: every weight is new, and there is nothing to adapt; set method: scratch")
    return list(names)


def named(network: nn.Module, asked: Sequence[str]) -> list[str]:
    """The full names of the modules that a user's `modules_to_save` names by their ends."""
    known = [name for name, _ in network.named_modules() if name]
    found = []
    for wanted in asked:
        matched = [name for name in known if _ends(name, wanted)]
        if not matched:
            told = nearest(wanted, dict.fromkeys(name.rpartition(".")[2] for name in known))
            hint = told if "did you mean" in told else ""
            raise HFTransferError(
                f"lora.modules_to_save: no part of {type(network).__name__} is named '{wanted}'{hint}"
            )
        found += matched
    return found


def targets(network: nn.Module, fields: Mapping[str, Any], method: str, kept: Sequence[str]) -> Any:
    """What is adapted: what the user says, else every linear layer in the blocks, or what the method is for.

    `kept` are modules that train whole.
    """
    asked = fields.get("target_modules")
    if asked is not None:
        _check(network, asked)
        return asked
    if fields.get("target_parameters") or method == "SHADOW":  # which takes whole blocks
        return None
    if method == "TRAINABLE_TOKENS":
        return [name for name, module in network.named_modules() if module is network.get_input_embeddings()]
    kind: Any = nn.LayerNorm if method == "LN_TUNING" else (nn.Linear, Conv1D)
    if network.config.model_type == "gan_conv_discriminator" and method == "LORA":
        kind = (nn.Linear, nn.Conv2d)  # which is nearly all that it has
    inside = {id(module) for module in _blocks(network).modules()}
    found = [
        name
        for name, module in network.named_modules()
        if isinstance(module, kind) and id(module) in inside and not any(_within(name, part) for part in kept)
    ]
    if not found:
        what = "norms" if method == "LN_TUNING" else "linear layers"
        raise HFTransferError(
            f"lora: the blocks of {type(network).__name__} have no {what} of the checkpoint's own; set "
            f"lora.target_modules{_linear(network)}"
        )
    return found


def _blocks(network: nn.Module) -> nn.Module:
    """The repeated blocks; of a network that has none, the whole backbone."""
    try:
        return tuning.blocks(network)
    except HFTransferError:
        return network.base_model


def _check(network: nn.Module, asked: str | Sequence[str]) -> None:
    """Every name must match something: PEFT is content with one of them."""
    known = [name for name, _ in network.named_modules() if name]
    kind = type(network).__name__
    if not isinstance(asked, str):
        for wanted in asked:
            if not any(_ends(name, wanted) for name in known):
                raise HFTransferError(f"lora.target_modules: {kind} has no layer '{wanted}'{_linear(network)}")
        return
    if asked.lower() == "all-linear":
        return
    try:
        matched = any(re.fullmatch(asked, name) for name in known)
    except re.error as error:
        raise HFTransferError(f"lora.target_modules: '{asked}' is no pattern ({error})") from error
    if not matched:
        hint = f"; a text is a pattern of whole names, ends of names are a list: [{asked}]"
        raise HFTransferError(f"lora.target_modules: nothing in {kind} matches '{asked}'{hint}{_linear(network)}")


def _linear(network: nn.Module) -> str:
    """The linear layers there are, by the ends of their names."""
    ends = dict.fromkeys(
        name.rpartition(".")[2] for name, module in network.named_modules() if isinstance(module, nn.Linear | Conv1D)
    )
    return f"; its linear layers: {', '.join(ends)}" if ends else "; it has no linear layers"


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")
