"""What `gan` does: reads samples, sets up the players and what judges them, lets them play, saves what they became."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import set_seed

from hftransfer import gans, models
from hftransfer.data.samples import Sampled, read_samples
from hftransfer.errors import HFTransferError, nearest
from hftransfer.quality import Quality
from hftransfer.runs import CHECKPOINTS, StageFolder
from hftransfer.stages import gan_record
from hftransfer.stages.gan import QUALITIES
from hftransfer.stages.gan_checks import check, generator_config, job_of
from hftransfer.stages.gan_judge import own_judge
from hftransfer.stages.gan_looks import FirstLook, Looks
from hftransfer.trainers.gan import GANTrainer, gan_arguments, planned_steps
from hftransfer.trainers.gan_draws import Samples
from hftransfer.trainers.gan_model import GanModel
from hftransfer.trainers.gan_players import Game, Player
from hftransfer.trainers.watching import Watch

NEW = {"gan_conv": "conv", "gan_mlp": "mlp"}  # `model: scratch/gan_conv` -> which pair
MEASURING = ("baseline",)  # options that a training does not depend on
DISCRIMINATOR, RAW = "discriminator", "raw"  # folders beside the generator


class Players(NamedTuple):
    """The two networks before the game."""

    generator: Any
    discriminator: Any
    notes: list[str]


def plan(given: dict[str, Any]) -> dict[str, Any]:
    """Checks everything that can be checked without training, and counts rows and steps."""
    rows = read(given)
    game = game_of(given)
    players = begin(given, rows, load=_skeleton)
    check(given, GanModel(players.generator, players.discriminator, game), rows)
    steps = planned_steps(given["training"], len(rows.train), game.steps)
    found = {"train": len(rows.train), "held out": len(rows.test)}
    networks = (players.generator, players.discriminator)
    return {"class": type(players.generator).__name__, "rows": found, "steps": steps, "networks": networks}


def _skeleton(model: Any, job: str) -> Any:
    """A checkpoint's network without its weights."""
    return models.skeleton(models.config_of(model), job)


def read(given: Mapping[str, Any]) -> Sampled:
    """The data as the networks take them."""
    size, channels, labelled = given["image_size"], given["num_channels"], given["conditional"]
    if not models.is_scratch(given["model"]):
        config = generator_config(given["model"], "model")
        size, channels = _as_learnt(given, config)
        labelled = config.num_classes > 0
        if given["config"]:
            raise HFTransferError("config: is of new networks, and model is a checkpoint; remove one")
        if given["conditional"] and not labelled:
            raise HFTransferError(
                "conditional: the checkpoint's generator knows no labels; begin with scratch/gan_conv"
            )
    return read_samples(
        given["data"], key="data", seed=given["seed"], max_samples=given["max_train_samples"],
        labelled=True if labelled else None, image_size=size, num_channels=channels,
    )  # fmt: skip


def _as_learnt(given: Mapping[str, Any], config: Any) -> tuple[int | None, int | None]:
    """The size and the channels of what a checkpoint's generator makes."""
    if not config.is_image:
        return given["image_size"], given["num_channels"]
    channels, size = config.sample_shape[:2]
    for name, made in (("image_size", size), ("num_channels", channels)):
        if given[name] not in (None, made):
            raise HFTransferError(
                f"{name}: the checkpoint's generator has {made}, not {given[name]}; remove it, or begin with "
                "scratch/gan_conv"
            )
    return size, channels


def game_of(given: Mapping[str, Any]) -> Game:
    """The options as the trainer takes them."""
    adaptive = given["augment_p"] == "adaptive"
    return Game(
        loss=given["loss"],
        penalty="" if given["penalty"] == "none" else given["penalty"],
        penalty_weight=given["penalty_weight"],
        discriminator_steps=given["discriminator_steps"],
        ema=given["ema"],
        augment=tuple(given["augment"]),
        augment_p=None if adaptive else given["augment_p"],
        augment_images=given["augment_images"],
        freeze=given["freeze"],
        generator=_player(given["generator"]),
        discriminator=_player(given["discriminator"]),
    )


def _player(block: Mapping[str, Any] | None) -> Player:
    options = dict(block or {})
    if "betas" in options:
        options["betas"] = tuple(options["betas"])
    return Player(**options)


def begin(given: Mapping[str, Any], rows: Sampled, load: Callable[[Any, str], Any] = models.load) -> Players:
    """Both networks, new or from checkpoints, which `load` opens."""
    set_seed(given["seed"])
    new = models.is_scratch(given["model"])
    generator, discriminator, notes = _new(given, rows) if new else _loaded(given, rows, load)
    if given["discriminator_model"] is not None:
        discriminator = load(given["discriminator_model"], "encoder")
        notes.append(f"the discriminator goes on from {models.public_name(given['discriminator_model'])}")
    gans.check_pair(generator, discriminator)
    shape = list(rows.train.shape[1:])
    makes = list(generator.config.sample_shape)
    if makes != shape:
        raise HFTransferError(f"model: it makes samples of {makes}, and the data are {shape}")
    if generator.config.num_classes:
        notes += _named(generator, discriminator, rows.names)
    if rows.offset:  # a vector's own units, which the checkpoint remembers
        generator.config.offset, generator.config.scale = rows.offset, rows.scale
    return Players(generator, discriminator, notes)


def _new(given: Mapping[str, Any], rows: Sampled) -> tuple[Any, Any, list[str]]:
    name = given["model"].removeprefix("scratch/")
    if name not in NEW:
        raise HFTransferError(f"model: scratch/{name} is no pair of players{nearest(name, NEW)}")
    classes = len(rows.names) if given["conditional"] else 0
    shape = list(rows.train.shape[1:])
    if name == "gan_conv" and len(shape) == 1:
        raise HFTransferError(
            f"model: scratch/gan_conv makes images, and the data are vectors of {shape[0]}; use scratch/gan_mlp"
        )
    generator, discriminator = gans.new_pair(NEW[name], shape, classes, given["config"])
    for network in (generator, discriminator) if classes else ():
        _name(network, rows.names)
    return generator, discriminator, ["both players begin with new weights"]


def _name(network: Any, names: list[str]) -> None:
    network.config.id2label = dict(enumerate(names))
    network.config.label2id = {label: number for number, label in enumerate(names)}


def _named(generator: Any, discriminator: Any, names: list[str]) -> list[str]:
    """Gives both players the data's names of classes; says which were others.

    Raises:
        HFTransferError: a player knows the same classes under other numbers.
    """
    notes = []
    for role, network in (("generator", generator), ("discriminator", discriminator)):
        known = list(network.config.id2label.values())
        if known != names and sorted(known) == sorted(names):
            raise HFTransferError(
                f"data: the classes are numbered {', '.join(names)}, and the checkpoint's {role} knows them as "
                f"{', '.join(known)}; number them alike"
            )
        if known != names:
            pairs = [f"{old} as {new}" for old, new in zip(known, names, strict=False) if old != new]
            notes.append(f"the {role} goes on with other classes under the same numbers: {', '.join(pairs)}")
        _name(network, names)
    return notes


def _loaded(given: Mapping[str, Any], rows: Sampled, load: Callable[[Any, str], Any]) -> tuple[Any, Any, list[str]]:
    generator = load(given["model"], "encoder")
    if given["discriminator_model"] is not None:
        if models.identity(given["discriminator_model"]) == models.identity(given["model"]):
            raise HFTransferError(
                "discriminator_model: it is the same folder as model, which holds a generator; remove it to take the "
                "discriminator that lies beside it"
            )
        discriminator: Any = None
    else:
        beside = Path(str(models.resolve(given["model"]).folder)) / DISCRIMINATOR
        if not beside.is_dir():
            raise HFTransferError(
                f"model: no {DISCRIMINATOR}/ lies beside this generator; name one with discriminator_model"
            )
        discriminator = load(str(beside), "encoder")
    if generator.config.num_classes and generator.config.num_classes != len(rows.names):
        raise HFTransferError(
            f"data: {len(rows.names)} classes, and the checkpoint's generator makes {generator.config.num_classes}"
        )
    start = models.public_name(given["model"])
    return generator, discriminator, [f"both players go on from {start}; optimizer and average begin anew"]


def run(folder: StageFolder, given: dict[str, Any]) -> None:
    """Plays and records; what can be wrong is found before the folder is begun."""
    rows, game = read(given), game_of(given)
    players = begin(given, rows)
    model = GanModel(players.generator, players.discriminator, game)
    check(given, model, rows)
    path = folder.begin(measuring=MEASURING)
    judge = _judge(given, rows, path)
    choosing = Quality(_without_held_out(rows, given["seed"]), judge, count=given["quality_rows"], seed=given["seed"])
    looking = Looks(model, choosing, path / CHECKPOINTS / "looks", given["seed"])
    steps = planned_steps(given["training"], len(rows.train), game.steps)
    every = max(1, -(-steps // given["looks"]))
    at = {
        "eval_strategy": "steps",
        "eval_steps": every,
        "save_steps": every,
        "logging_steps": max(1, min(50, steps // 40)),
    }
    watch = Watch(
        looking.measure, by=f"eval_{given['by']}", higher_is_better=QUALITIES[given["by"]],
        patience=given["early_stopping_patience"], keep_best=given["keep_best"],
    )  # fmt: skip
    trainer = GANTrainer(
        model=model,
        args=gan_arguments({**at, **given["training"]}, path / CHECKPOINTS / "game", given["seed"]),
        train_dataset=Samples(rows.train, rows.train_labels if model.generator.config.num_classes else None),
        watch=watch,
        callbacks=[FirstLook(looking)],
        label="gan",
    )  # fmt: skip
    trainer.train_or_resume()
    if trainer.stopped_early():
        players.notes.append(
            f"stopped at step {trainer.state.global_step} of {steps}: the last {watch.patience} looks were no better"
        )
    measuring = Quality(rows, judge, count=given["quality_rows"], seed=given["seed"])
    found = gan_record.Found(
        given, rows, model, trainer.state.log_history, looking.frames(), measuring, players.notes,
        watch.best(trainer.state.log_history) if given["keep_best"] else trainer.state.global_step,
    )  # fmt: skip
    _save(model, path)
    gan_record.finish(folder, found)


def _without_held_out(rows: Sampled, seed: int) -> Sampled:
    """The training rows as if a half of them were held out: what chooses a step may not see what judges it."""
    order = np.random.default_rng((seed, 1)).permutation(len(rows.train))
    half = torch.as_tensor(order[: len(order) // 2]), torch.as_tensor(order[len(order) // 2 :])
    labels = [None if rows.train_labels is None else rows.train_labels[part] for part in half]
    return rows._replace(
        train=rows.train[half[0]], test=rows.train[half[1]], train_labels=labels[0], test_labels=labels[1]
    )


def _judge(given: Mapping[str, Any], rows: Sampled, path: Path) -> Any:
    """(network, reader, name) of what features are read from; None: the numbers themselves."""
    if given["judge"] is not None:
        network = models.load(given["judge"], job_of(given["judge"]))
        return network, models.reader(given["judge"], "image"), models.public_name(given["judge"])
    if rows.offset or not rows.names:
        return None
    return own_judge(given, rows, path)


def _save(model: GanModel, path: Path) -> None:
    """The averaged generator where a checkpoint is looked for; the other networks beside it."""
    models.save(model.averaged(), path)
    models.save(model.discriminator, path / DISCRIMINATOR)
    if model.generator_ema is not None:
        models.save(model.generator, path / RAW)
