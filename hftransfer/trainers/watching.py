"""A number on rows that training does not see: it may end the training, and choose which of its weights are kept."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hftransfer import processes

BEST = "best.safetensors"


@dataclass(frozen=True)
class Watch:
    """What is looked at at each evaluation, and what follows from it."""

    measure: Callable[[], dict[str, float]]  # names begin with eval_
    by: str = "eval_loss"
    higher_is_better: bool = False
    patience: int | None = None  # evaluations without a better number after which training stops; never without it
    keep_best: bool = False  # whether training ends with the weights of its best evaluation

    def values(self, history: Sequence[Mapping[str, float]]) -> list[tuple[int, float]]:
        """(step, number) of each evaluation in a Trainer's log history."""
        return [(int(entry["step"]), entry[self.by]) for entry in history if self.by in entry]

    def best(self, history: Sequence[Mapping[str, float]]) -> int | None:
        """The step of the best evaluation, the first of equals; None before there is one."""
        values = self.values(history)
        sign = -1 if self.higher_is_better else 1
        return min(values, key=lambda entry: sign * entry[1])[0] if values else None

    def is_over(self, history: Sequence[Mapping[str, float]]) -> bool:
        """Whether so many evaluations were no better than the best that training has to stop."""
        steps, best = [step for step, _ in self.values(history)], self.best(history)
        return self.patience is not None and best is not None and len(steps) - 1 - steps.index(best) >= self.patience


def keep(network: nn.Module, moving: Iterable[Tensor], folder: Path, step: int) -> None:
    """Writes what training changes of a network, whole or not at all: `moving` parameters, and the buffers."""
    if not processes.is_main():
        return
    places = {id(value) for value in moving}
    weights = [(name, value) for name, value in network.named_parameters() if id(value) in places]
    kept = {name: value.detach().cpu().contiguous() for name, value in (*weights, *network.named_buffers())}
    save_file(kept, folder / f".{BEST}.new", metadata={"step": str(step)})
    (folder / f".{BEST}.new").replace(folder / BEST)


@torch.no_grad()
def restore(network: nn.Module, folder: Path, step: int) -> None:
    """Gives a network the weights that `keep` wrote at a step."""
    places = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    with safe_open(folder / BEST, framework="pt") as stored:
        assert stored.metadata()["step"] == str(step), "the weights kept are of another step"
        for name in stored.keys():  # noqa: SIM118 - no mapping
            places[name].copy_(stored.get_tensor(name))
