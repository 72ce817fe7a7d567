"""`Trainer` for two players: in each update the discriminator moves some times, then the generator once.

`GANTrainer` overrides five methods of `Trainer`, and two that `ExactTrainer` has overridden already:

- `training_step` collects an update's batches and makes all moves when the last of them is there. The discriminator's
  steps end in it; the generator's gradients are left to Trainer's loop, which clips, steps and zeroes them as ever.
- `create_optimizer` splits Trainer's groups by player. One optimizer, because Trainer prepares, saves and restores
  one; it passes over weights without a gradient, so that a step moves only the player whose gradients are there.
- `create_scheduler` gives each group its player's schedule.
- `_get_grad_norm` clips the generator by its own limit; Trainer's loop calls it before each step.
- `log` adds what was watched since the last time: the other player's loss, accuracies, both gradients.
- `_get_train_sampler` drops what does not fill an update, so that every update is of one size.
- `kept` names the moving average among what a best evaluation keeps.

Several steps of the discriminator are further accumulated batches to Trainer, so that its arithmetic of epochs, of
skipping and of going on stays its own. What is random is a function of the step (`gan_draws`), augmentation happens in
the model, and the average and the adaptive strength are in the module: its checkpoints hold all that there is.
Data must therefore not be transformed at random when it is read. Batch statistics are each process's and each
accumulated batch's own, so that a generator with batch normalisation is not the same on two processes as on one; and
spectral normalisation sharpens its estimate with each accumulated batch.
"""

import contextlib
import copy
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Sampler
from transformers import TrainingArguments

from hftransfer import processes, tuning
from hftransfer.errors import HFTransferError
from hftransfer.trainers.exact import ExactTrainer, training_arguments
from hftransfer.trainers.gan_average import Follow
from hftransfer.trainers.gan_checks import check_sizes, warn_of_statistics
from hftransfer.trainers.gan_draws import Draws, Samples, WholeUpdates, as_it_is
from hftransfer.trainers.gan_model import GanModel
from hftransfer.trainers.gan_players import by_player, schedule
from hftransfer.trainers.gan_watch import GanWatch

OWN = (  # what each player has of its own
    *("learning_rate", "adam_beta1", "adam_beta2", "weight_decay", "max_grad_norm"),
    *("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "warmup_ratio"),
)


def gan_arguments(training: Mapping[str, Any], folder: Path, seed: int) -> TrainingArguments:
    """`training_arguments` for two players.

    Raises:
        HFTransferError: a field is one that each player has of its own, or does not go with two players.
    """
    for field in (field for field in OWN if field in training):
        raise HFTransferError(f"training.{field}: each player has its own; set it for generator and discriminator")
    for field in (field for field in ("fsdp", "deepspeed") if training.get(field)):
        raise HFTransferError(f"training.{field}: {_ALTERNATION}; use as many processes as there are devices")
    arguments = training_arguments(training, folder, seed)
    _refuse(arguments)
    return arguments


_ALTERNATION = "its wrapper does not know players that move in turn"


_WATCH = "neither EarlyStoppingCallback; give the trainer a Watch with by, keep_best and patience"


def _refuse(arguments: TrainingArguments) -> None:
    """What does not go with two players, wherever it was asked for."""

    def launched(name: str) -> bool:
        return os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() in ("1", "true", "yes")

    for field, asked, why in (
        ("fp16", arguments.fp16, "both players would share one loss scale; use bf16"),
        ("fsdp", arguments.fsdp or launched("FSDP"), f"{_ALTERNATION}; launch with --multi_gpu"),
        ("deepspeed", arguments.deepspeed or launched("DEEPSPEED"), f"{_ALTERNATION}; launch with --multi_gpu"),
        ("n_gpu", arguments.n_gpu > 1, "one process on several devices (DataParallel); use accelerate launch"),
        ("auto_find_batch_size", arguments.auto_find_batch_size, "an update would change its size; remove it"),
        ("gradient_checkpointing", arguments.gradient_checkpointing, "penalties need all activations; remove it"),
        ("ddp_find_unused_parameters", arguments.ddp_find_unused_parameters is False, "the idle player is unused"),
        ("metric_for_best_model", arguments.metric_for_best_model, _WATCH),
    ):
        if asked:
            raise HFTransferError(f"training.{field}: not for two players: {why}")


def planned_steps(training: Mapping[str, Any], rows: int, discriminator_steps: int) -> int:
    """Steps of the generator that a training takes."""
    if training.get("max_steps", -1) > 0:
        return int(training["max_steps"])
    updates = rows // rows_of_an_update(training, discriminator_steps)
    return math.ceil(training.get("num_train_epochs", 3.0) * updates)


def rows_of_an_update(training: Mapping[str, Any], discriminator_steps: int) -> int:
    """Real rows, on all processes, that one step of the generator and the discriminator's steps before it take."""
    batch = training.get("per_device_train_batch_size", 8) * training.get("gradient_accumulation_steps", 1)
    return int(batch * discriminator_steps * processes.state().num_processes)


class GANTrainer(ExactTrainer):
    """Trains a `GanModel` on `Samples`, or on rows with `pixel_values` and perhaps `labels`.

    `watch` measures quality: `Watch(measure, by=..., higher_is_better=..., keep_best=True)`; its `patience` ends a
    training early.

    Raises:
        HFTransferError: there are fewer rows than an update takes, or an option does not go with two players; when
            training begins, samples are not such as the generator makes.
    """

    must_be_finite = ("loss", "grad_norm", "discriminator_loss", "penalty", "discriminator_grad_norm")
    lr_scheduler: Any
    remedy = "lower the players' learning rates, set their max_grad_norm, or add a penalty"

    def __init__(self, *, model: GanModel, args: TrainingArguments, train_dataset: Any, **rest: Any) -> None:
        _refuse(args)
        args = copy.copy(args)
        args.max_grad_norm = 0.0  # each player's own, in `_get_grad_norm`
        args.gradient_accumulation_steps *= model.game.steps
        if isinstance(train_dataset, Samples):
            rest = {"data_collator": as_it_is, **rest}
        if rest.get("watch") is not None:
            rest = {"eval_dataset": train_dataset, **rest}  # Trainer wants one; `watch` looks at its own
        super().__init__(model=model, args=args, train_dataset=train_dataset, **rest)
        players = {"generator": model.generator, "discriminator": model.discriminator}
        self.moving = {  # that move; looked up once
            name: [value for value in player.parameters() if value.requires_grad] for name, player in players.items()
        }
        self.batches: list[dict[str, Tensor]] = []  # of the update that is being collected
        check_sizes(model, len(train_dataset), args.train_batch_size, args.gradient_accumulation_steps)
        self.watching = GanWatch(self)
        warn_of_statistics(model.generator, args.world_size, self.label)
        self.add_callback(Follow(model))
        self.add_callback(self.watching)

    @property
    def update_rows(self) -> int:
        """Real rows of an update, on all processes."""
        return self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return WholeUpdates(super()._get_train_sampler(train_dataset), self.update_rows)

    def create_optimizer(self, model: Any = None) -> Any:
        optimizer = super().create_optimizer(model)
        if "player" not in optimizer.param_groups[0]:
            by_player(optimizer, self.moving, self.model.game)
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.lr_scheduler is None:  # Trainer's way to make it anew in each training
            optimizer = self.optimizer if optimizer is None else optimizer
            names = [group["player"] for group in optimizer.param_groups]
            factors = [schedule(self.model.game, name, steps=num_training_steps) for name in names]
            self.lr_scheduler, self._created_lr_scheduler = LambdaLR(optimizer, factors), True
        return self.lr_scheduler

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        self.batches.append(self._prepare_inputs(inputs))
        if not self.accelerator.sync_gradients:
            return torch.zeros((), device=self.args.device)
        batches, self.batches = self.batches, []
        self._train_mode(model)
        steps = self.model.game.steps
        size = len(batches) // steps
        signs = []
        for move in range(steps):
            found = self._move(model, "discriminator", batches[move * size : (move + 1) * size], move)
            signs.append(found["signs"])
            self.watching.add(discriminator_grad_norm=self._clip("discriminator"))
            self.optimizer.step()
            for value in self.moving["discriminator"]:
                value.grad = None  # not 0: momentum would move it in the generator's step
        if self.model.game.augment and self.model.game.augment_p is None:
            mean = self.accelerator.reduce(torch.stack(signs).mean(), "mean")
            self.model.adapt(mean, self.update_rows)
        return self._move(model, "generator", batches[-size:], steps)["loss"]

    def _move(self, model: nn.Module, player: str, batches: list[dict[str, Tensor]], move: int) -> dict[str, Tensor]:
        """A player's gradients over these batches, and the means of what its forward returned."""
        draws = Draws((self.args.seed, self.state.global_step, move))
        rank, world, size = self.args.process_index, self.args.world_size, self.args.train_batch_size
        # of all rows, because the numbers of some are not the first of those of all
        latents = self.model.generator.latents(size * world * len(batches), draws.noise("latents"))
        means: dict[str, Tensor] = {}
        with self._held_still("generator" if player == "discriminator" else "discriminator"):
            for number, batch in enumerate(batches):
                start, last = (number * world + rank) * size, number == len(batches) - 1
                own = latents[start : start + size].to(self.args.device)
                with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                    found = model(**batch, latents=own, player=player, draws=draws.at(start))
                    self.accelerator.backward(found["loss"] / len(batches))
                for name, value in found.items():
                    means[name] = means.get(name, 0.0) + value.detach() / len(batches)
        self.watching.add(**{name: value for name, value in means.items() if name not in ("loss", "signs")})
        return means

    @contextlib.contextmanager
    def _held_still(self, player: str) -> Iterator[None]:
        """No gradients of the idle player's weights, which nobody would use."""
        tuning.train(self.moving[player], False)
        try:
            yield
        finally:
            tuning.train(self.moving[player], True)

    def _train_mode(self, model: nn.Module) -> None:
        """As Trainer does in each step, where something has been measured in between."""
        if not (model.training and self.model.generator.training and self.model.discriminator.training):
            model.train()

    def _clip(self, player: str) -> Tensor:
        """Clips a player's gradients by its own limit, if it has one; their norm before that."""
        moving = [value for value in self.moving[player] if value.grad is not None]
        norm = torch.nn.utils.get_total_norm([value.grad for value in moving])
        limit = self.model.game.player(player).max_grad_norm
        if limit is not None:
            torch.nn.utils.clip_grads_with_norm_(moving, limit, norm)
        return norm

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Tensor:
        norm = self._clip("generator")
        self.watching.add(generator_grad_norm=norm)
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs.update(self.watching.since_last())
        super().log(logs, start_time)

    def kept(self) -> list[Tensor]:
        average = self.model.generator_ema
        return [*super().kept(), *(() if average is None else average.parameters())]
