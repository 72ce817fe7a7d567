"""Sums of networks' weights: between two, of several, of the steps of a training. All in state dicts, by name."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from hftransfer.errors import HFTransferError

State = Mapping[str, Tensor]


def interpolated(first: State, second: State, share: float) -> dict[str, Tensor]:
    """(1 - share) first + share second; what is no float (a counter, a position) is the first's.

    WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903: the first is the network before fine-tuning, with a head.

    Raises:
        HFTransferError: the two are not of one architecture.
    """
    if not 0 <= share <= 1:
        raise HFTransferError(f"share: {share} is not between 0 and 1")
    _check_alike(first, second)
    return {
        name: torch.lerp(_wide(value), _wide(second[name]), share).to(value.dtype)  # exact at both ends
        if value.is_floating_point()
        else value.clone()
        for name, value in first.items()
    }


def averaged(states: Sequence[State]) -> dict[str, Tensor]:
    """The mean of several networks of one start, the uniform soup of Wortsman et al. 2022, arXiv:2203.05482.

    Raises:
        HFTransferError: they are not of one architecture.
    """
    for state in states[1:]:
        _check_alike(states[0], state)
    return {
        name: (sum(state[name].double() for state in states) / len(states)).to(value.dtype)
        if value.is_floating_point()
        else value.clone()
        for name, value in states[0].items()
    }


def greedy_soup(scores: Sequence[float], evaluate: Callable[[list[int]], float]) -> list[int]:
    """Which networks to average: from the best on, each that does not make the average worse (recipe 1 of the paper).

    Args:
        scores: of the networks on held-out rows, higher is better.
        evaluate: the score of the average of these networks, on the same rows.
    """
    order = sorted(range(len(scores)), key=lambda number: -scores[number])
    chosen, best = order[:1], scores[order[0]]
    for number in order[1:]:
        score = evaluate([*chosen, number])
        if score >= best:
            chosen, best = [*chosen, number], score
    return chosen


@torch.no_grad()
def moving_average(average: State, new: State, decay: float, step: int | None = None) -> None:
    """Makes `average` decay * average + (1 - decay) * new, in place; what is no float becomes the new.

    Args:
        average, new: of the same names.
        decay: near 1.
        step: updates made so far: the decay is then at most (1 + step) / (10 + step), so that the beginning is
            forgotten soon.
    """
    if step is not None:
        decay = min(decay, (1 + step) / (10 + step))
    for name, value in average.items():
        if value.is_floating_point():
            value.lerp_(new[name].to(value), 1 - decay)
        else:
            value.copy_(new[name])


def _wide(value: Tensor) -> Tensor:
    return value.detach() if value.dtype == torch.float64 else value.detach().float()


def _check_alike(first: State, second: State) -> None:
    other = sorted(first.keys() ^ second.keys())
    if other:
        raise HFTransferError(f"weights: only one of two networks has {', '.join(other[:3])}; they are not alike")
    for name, value in first.items():
        if value.shape != second[name].shape:
            raise HFTransferError(
                f"weights: {name} is {tuple(value.shape)} in one network and {tuple(second[name].shape)} in the other"
            )
