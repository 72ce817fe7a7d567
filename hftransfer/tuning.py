"""Which weights train, and how fast. `requires_grad` is set here only."""

import contextlib
import fnmatch
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import NamedTuple

from torch import nn

from hftransfer.errors import HFTransferError, nearest


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


def trainable(parameters: Iterable[nn.Parameter]) -> int:
    """How many numbers train."""
    return sum(parameter.numel() for parameter in parameters if parameter.requires_grad)


class Reach(NamedTuple):
    """How far down a network trains."""

    blocks: int | None  # that many from the top; None: below them too, and the whole network is needed
    names: frozenset[str]  # of the parameters that train


def reach(network: nn.Module, trainable: int | Sequence[str], new: Sequence[str] = ()) -> Reach:
    """What trains when the last blocks do (a number), or named parts; what is above all blocks trains with a number.

    Args:
        trainable: how many blocks, or names of modules, with `*` for anything; the last block's is `*.layer.5`.
        new: names of weights that no checkpoint gave, which train in any case.

    Raises:
        HFTransferError: there are fewer blocks, or no module of that name.
    """
    stack, chosen = blocks(network), set(new)
    if isinstance(trainable, int):
        if trainable > len(stack):
            raise HFTransferError(
                f"trainable: {type(network).__name__} has {len(stack)} blocks, not {trainable}; lower it"
            )
        still = {id(p) for module in lowest(network, len(stack) - trainable) for p in module.parameters()}
        chosen |= {name for name, p in network.named_parameters() if id(p) not in still}
        below = _depth(network, stack, chosen)
        return Reach(None if below is None else max(below, trainable), frozenset(chosen))
    names = [name for name, _ in network.named_parameters()]
    known = {name for name, module in network.named_modules() if name and any(True for _ in module.parameters())}
    for pattern in trainable:
        matched = {*fnmatch.filter({*known, *names}, pattern)} or {*fnmatch.filter({*known, *names}, f"*.{pattern}")}
        if not matched:
            raise HFTransferError(
                f"trainable: no part of {type(network).__name__} is named '{pattern}'{_near(pattern, known)}"
            )
        chosen |= {name for name in names if name in matched or any(name.startswith(f"{m}.") for m in matched)}
    return Reach(_depth(network, stack, chosen), frozenset(chosen))


def _near(pattern: str, known: set[str]) -> str:
    """The nearest name, or a few: a network has hundreds."""
    told = nearest(pattern, sorted(known))
    return told if "did you mean" in told else f"; some of its parts: {', '.join(sorted(known, key=len)[:8])}"


def _depth(network: nn.Module, stack: nn.ModuleList, names: Iterable[str]) -> int | None:
    """How many blocks from the top hold all of these parameters, or what is above the blocks does."""
    number = {id(p): place for place, block in enumerate(stack) for p in block.parameters()}
    below = {id(p) for module in _embeddings(network, stack) for p in module.parameters()}
    parameters = dict(network.named_parameters())
    if any(id(parameters[name]) in below for name in names):
        return None
    return len(stack) - min(
        [number[id(parameters[name])] for name in names if id(parameters[name]) in number], default=len(stack)
    )


@contextlib.contextmanager
def only(network: nn.Module, names: Container[str]) -> Iterator[None]:
    """Holds all parameters still but the named ones, and gives each its former state back."""
    before = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in names)
    try:
        yield
    finally:
        for parameter, wanted in before:
            parameter.requires_grad_(wanted)


def descending(network: nn.Module, names: Container[str]) -> list[list[nn.Parameter]]:
    """The named parameters in groups from the head down: what is above all blocks, each block, what is below them."""
    stack = blocks(network)
    number = {id(p): place for place, block in enumerate(stack) for p in block.parameters()}
    below = {id(p) for module in _embeddings(network, stack) for p in module.parameters()}
    groups: list[list[nn.Parameter]] = [[] for _ in range(len(stack) + 2)]
    for name, parameter in network.named_parameters():
        if name in names:
            place = len(stack) + 1 if id(parameter) in below else len(stack) - number.get(id(parameter), len(stack))
            groups[place].append(parameter)
    return [group for group in groups if group]


def train(parameters: Iterable[nn.Parameter], wanted: bool) -> None:
    """Lets parameters train, or holds them still."""
    for parameter in parameters:
        parameter.requires_grad_(wanted)
