"""Which weights train, and how fast. `requires_grad` is set here only, and PEFT is called here only."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from hftransfer.errors import HFTransferError


@contextlib.contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Holds modules' weights still, and gives each its former state back."""
    before = [(parameter, parameter.requires_grad) for module in modules for parameter in module.parameters()]
    for parameter, _ in before:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, wanted in before:
            parameter.requires_grad_(wanted)


def blocks(network: nn.Module) -> nn.ModuleList:
    """The backbone's repeated blocks, from the input on: the list of modules in it that holds the most weights.

    Raises:
        HFTransferError: when there is none.
    """
    lists = [module for module in network.base_model.modules() if isinstance(module, nn.ModuleList) and len(module)]
    if not lists:
        raise HFTransferError(
            f"freeze, layer_decay: {type(network).__name__} has no list of blocks; remove the option"
        )
    return max(lists, key=lambda module: sum(parameter.numel() for parameter in module.parameters()))


def lowest(network: nn.Module, freeze: str | int) -> list[nn.Module]:
    """What `freeze` holds still: all before the first block (`embeddings`), or that and the first N blocks.

    Raises:
        HFTransferError: when the network has fewer blocks.
    """
    if freeze == "embeddings" and not any(isinstance(module, nn.ModuleList) for module in network.modules()):
        return [network.get_input_embeddings()]  # a recurrent network
    stack = blocks(network)
    count = 0 if freeze == "embeddings" else int(freeze)
    if count > len(stack):
        raise HFTransferError(
            f"freeze: {type(network).__name__} has {len(stack)} blocks, and {count} cannot be frozen"
        )
    return [*_embeddings(network, stack), *stack[:count]]


def _embeddings(network: nn.Module, stack: nn.ModuleList) -> list[nn.Module]:
    """The backbone's parts that come before its blocks: those defined before the part that holds them."""
    parts: list[nn.Module] = []
    for child in network.base_model.children():
        if child is stack or any(module is stack for module in child.modules()):
            return parts
        parts.append(child)
    return parts


def decayed_rates(network: nn.Module, rate: float, decay: float) -> dict[str, float]:
    """Each weight's learning rate: `rate` for what follows the blocks, times `decay` for each layer below.

    Howard and Ruder 2018, ULMFiT, arXiv:1801.06146; by a constant factor as in Clark et al. 2020, arXiv:2003.10555.
    """
    stack = list(blocks(network))
    below = len(stack) + 1
    depth: dict[int, int] = {}
    for module in _embeddings(network, blocks(network)):
        depth |= dict.fromkeys(map(id, module.parameters()), below)
    for number, block in enumerate(stack):
        depth |= dict.fromkeys(map(id, block.parameters()), len(stack) - number)
    return {name: rate * decay ** depth.get(id(value), 0) for name, value in network.named_parameters()}


@contextlib.contextmanager
def adapters(network: nn.Module, lora: Mapping[str, Any] | None) -> Iterator[None]:
    """Trains LoRA matrices in place of the weights; at the end they are merged, and the network is as it was built.

    Hu et al. 2021, arXiv:2106.09685. `lora` are `LoraConfig`'s fields; without it nothing happens.

    Raises:
        HFTransferError: what PEFT says when the fields fit no part of the network.
    """
    if lora is None:
        yield
        return
    before = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    wrapped = with_adapters(network, lora)
    yield
    wrapped.merge_and_unload()
    for parameter, wanted in before:
        parameter.requires_grad_(wanted)


def with_adapters(network: nn.Module, lora: Mapping[str, Any]) -> Any:
    """PEFT's wrapper around a network, which is changed itself; raises as `adapters` does."""
    import peft

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft 0.21 asks for a property that has a new name
            return peft.get_peft_model(network, peft.LoraConfig(**lora))
    except (ValueError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HFTransferError(f"lora: {reason[:200]}") from error


def trainable(parameters: Iterable[nn.Parameter]) -> int:
    """How many numbers train."""
    return sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
