"""The generator's moving average, which is the generator to use (Yazici et al. 2019, arXiv:1806.04498)."""

import math
from typing import Any

from torch import Tensor
from transformers import TrainerCallback

from hftransfer.functional.weight_space import moving_average
from hftransfer.trainers.gan_model import GanModel


class Follow(TrainerCallback):
    """Moves the average after each step of the generator, before anything is saved or measured.

    Buffers are taken over as they are: batch statistics are averages already.
    """

    def __init__(self, model: GanModel) -> None:
        self.model = model
        self.weights: list[dict[str, Tensor]] = []  # of the average, and of the generator
        self.buffers: list[tuple[Tensor, Tensor]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        average, generator = self.model.generator_ema, self.model.generator
        if average is not None:  # looked up once: on their device, and a walk through both costs as much as a step
            self.weights = [dict(average.named_parameters()), dict(generator.named_parameters())]
            self.buffers = list(zip(average.buffers(), generator.buffers(), strict=True))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        game = self.model.game
        if game.ema is not None:
            moving_average(*self.weights, ramped(game.ema, state.global_step, game.ema_ramp_up))
            for average, value in self.buffers:
                average.copy_(value)


def ramped(decay: float, step: int, ramp_up: float) -> float:
    """The decay at a step: its half-life is at most the share `ramp_up` of the steps so far.

    As in StyleGAN 2 (Karras et al. 2020, arXiv:1912.04958, its published code), counted in steps. An average that
    still remembers the untrained network is worse than none.
    """
    half_life = min(math.log(0.5) / math.log(decay), ramp_up * step) if decay else 0.0
    return float(0.5 ** (1 / half_life)) if half_life > 1e-3 else 0.0
