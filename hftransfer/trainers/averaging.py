"""The exponential moving average of the weights over a training (Tarvainen and Valpola 2017, arXiv:1703.01780)."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback

from hftransfer import processes
from hftransfer.functional.weight_space import moving_average

FILE = "average.safetensors"


class MovingAverage(TrainerCallback):
    """Averages what trains, step by step; it is part of every checkpoint, so that a resumed average is the same.

    What that is is seen when it is made: gradual unfreezing holds some of it still for a while.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay = network, decay
        self.names = frozenset(name for name, value in network.named_parameters() if value.requires_grad)
        self.average: dict[str, Tensor] = {}

    def _current(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self.network.named_parameters() if name in self.names}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step:
            self.read(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        else:
            self.average = {name: value.clone() for name, value in self._current().items()}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        moving_average(self.average, self._current(), self.decay)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if processes.is_main():
            stored = {name: value.cpu().contiguous() for name, value in self.average.items()}
            save_file(stored, Path(args.output_dir) / f"checkpoint-{state.global_step}" / FILE)

    def read(self, checkpoint: Path) -> None:
        """Takes the average up where a checkpoint left it."""
        self.average = {name: value.to(self._device()) for name, value in load_file(checkpoint / FILE).items()}

    def _device(self) -> Any:
        return next(self.network.parameters()).device

    @torch.no_grad()
    def settle(self, checkpoint: Path | None) -> None:
        """Gives the network the average; `checkpoint` is what a training that had ended already left."""
        if not self.average:
            assert checkpoint is not None
            self.read(checkpoint)
        for name, value in self._current().items():
            value.copy_(self.average[name])
