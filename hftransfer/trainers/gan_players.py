"""The two players' settings, their groups in the one optimizer, and their schedules."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler
from transformers.trainer_utils import SchedulerType

from hftransfer.errors import HFTransferError, nearest
from hftransfer.functional.gan_losses import LOSSES, GANLoss, Penalty

PLAYERS = ("generator", "discriminator")  # in this order in the optimizer: Trainer logs the first group's rate


@dataclass(frozen=True)
class Player:
    """How one player learns. The defaults are DCGAN's (Radford et al. 2016, arXiv:1511.06434)."""

    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)  # for optimizers that have them
    weight_decay: float = 0.0  # not of biases and norms, as everywhere in Trainer
    lr_scheduler_type: str = "constant"  # over the generator's steps, for both players
    warmup_steps: float = 0  # below 1: a share of all steps
    max_grad_norm: float | None = None  # None: not clipped


@dataclass(frozen=True)
class Game:
    """What the two play, and how often each moves.

    Raises:
        HFTransferError: when a name is unknown or a number out of its range.
    """

    loss: str = "non_saturating"  # a key of `LOSSES`
    penalty: Penalty | None = None  # on the discriminator's gradients; None: what the loss's authors use
    penalty_weight: float | None = None
    discriminator_steps: int | None = None  # for each step of the generator
    generator: Player = Player()
    discriminator: Player = Player()
    ema: float | None = 0.999  # decay of the generator's moving average; None: there is none
    ema_ramp_up: float = 0.05  # its half-life is at most this share of the steps so far
    augment: tuple[str, ...] = ()  # operations of `diff_augment`, on all that the discriminator sees
    augment_p: float | None = 1.0  # chance of each operation; None: adaptive
    augment_images: int = 500_000  # real images in which an adaptive chance can go from 0 to 1
    freeze: int = 0  # stages of the discriminator that stay as they are, from the sample up (FreezeD)

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise HFTransferError(f"loss: no GAN loss is named '{self.loss}'{nearest(self.loss, LOSSES)}")
        if self.penalty is not None and self.penalty not in get_args(Penalty):
            raise HFTransferError(f"penalty: unknown '{self.penalty}'{nearest(self.penalty, get_args(Penalty)[1:])}")
        for key, value, wanted, right in (
            ("discriminator_steps", self.steps, "a whole number above 0", self.steps >= 1),
            ("ema", self.ema, "a number from 0 to below 1", self.ema is None or 0 <= self.ema < 1),
            ("augment_p", self.augment_p, "a number from 0 to 1", 0 <= (self.augment_p or 0) <= 1),
            ("augment_images", self.augment_images, "a whole number above 0", self.augment_images >= 1),
            ("freeze", self.freeze, "a number of stages", self.freeze >= 0),
        ):
            if not right:
                raise HFTransferError(f"{key}: expected {wanted}, found {value}")
        for name in PLAYERS:
            schedule(self, name, steps=2)

    @property
    def formula(self) -> GANLoss:
        return LOSSES[self.loss]

    @property
    def steps(self) -> int:
        """The discriminator's, for each of the generator's."""
        return self.formula.discriminator_steps if self.discriminator_steps is None else self.discriminator_steps

    @property
    def penalized(self) -> tuple[Penalty, float]:
        """Which penalty, and its weight: with another penalty than the loss's own, that penalty's."""
        kind = self.formula.penalty if self.penalty is None else self.penalty
        usual = next((line.weight for line in (self.formula, *LOSSES.values()) if line.penalty == kind), 1.0)
        return kind, usual if self.penalty_weight is None else self.penalty_weight

    def player(self, name: str) -> Player:
        return self.generator if name == "generator" else self.discriminator


def schedule(game: Game, name: str, *, steps: int) -> Callable[[int], float]:
    """A player's learning rate at a step, as a factor.

    Raises:
        HFTransferError: Trainer has no such schedule, or it is no function of the step.
    """
    player = game.player(name)
    key, known = f"{name}.lr_scheduler_type", [kind.value for kind in SchedulerType]
    if player.lr_scheduler_type not in known:
        raise HFTransferError(f"{key}: unknown '{player.lr_scheduler_type}'{nearest(player.lr_scheduler_type, known)}")
    warmup = math.ceil(steps * player.warmup_steps) if player.warmup_steps < 1 else int(player.warmup_steps)
    anything = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=player.learning_rate)
    try:
        made = get_scheduler(player.lr_scheduler_type, anything, num_warmup_steps=warmup, num_training_steps=steps)
    except TypeError as error:
        raise HFTransferError(f"{key}: {player.lr_scheduler_type} needs options of its own; take another") from error
    if not isinstance(made, LambdaLR):
        raise HFTransferError(f"{key}: {player.lr_scheduler_type} is no function of the step; take another")
    return made.lr_lambdas[0]


def by_player(optimizer: Any, weights: Mapping[str, Sequence[Tensor]], game: Game) -> None:
    """Splits an optimizer's groups by player, each with its own rate, betas and decay.

    One optimizer for both, because Trainer saves and restores one: it passes over weights that have no gradient, so
    that a step moves only the player whose gradients are there.
    """
    groups: list[dict[str, Any]] = []
    for name in PLAYERS:
        player, own = game.player(name), set(map(id, weights[name]))
        for place, group in enumerate(optimizer.param_groups):  # Trainer's: decayed, and not decayed
            changed: dict[str, Any] = {
                "lr": player.learning_rate,
                "weight_decay": 0.0 if place else player.weight_decay,
            }
            if "betas" in group:
                changed["betas"] = player.betas
            values = [value for value in group["params"] if id(value) in own]
            if place and values and not player.weight_decay and groups and groups[-1]["player"] == name:
                groups[-1]["params"] = [*groups[-1]["params"], *values]  # nothing tells them apart, and a group costs
            elif values:
                groups.append({**group, **changed, "params": values, "player": name})
    optimizer.param_groups = groups
