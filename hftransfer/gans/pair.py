"""A new pair of networks for given samples, and whether two networks are one."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedConfig

from hftransfer.errors import HFTransferError, nearest
from hftransfer.gans.base import Discriminator, Generator
from hftransfer.gans.config import (
    GanConvDiscriminatorConfig,
    GanConvGeneratorConfig,
    GanMLPDiscriminatorConfig,
    GanMLPGeneratorConfig,
    check_image_size,
)
from hftransfer.gans.conv import GanConvDiscriminator, GanConvGenerator
from hftransfer.gans.mlp import GanMLPDiscriminator, GanMLPGenerator

KINDS: dict[str, tuple[Any, Any, Any, Any]] = {
    "mlp": (GanMLPGeneratorConfig, GanMLPGenerator, GanMLPDiscriminatorConfig, GanMLPDiscriminator),
    "conv": (GanConvGeneratorConfig, GanConvGenerator, GanConvDiscriminatorConfig, GanConvDiscriminator),
}
PLAYERS = ("generator", "discriminator")
TOLD_BY_DATA = ("sample_shape", "image_size", "num_channels", "num_classes", "offset", "scale")
ALIKE = ("base_channels", "max_channels")  # fields that mean the same in both networks


def new_pair(
    kind: str, sample_shape: Sequence[int], num_labels: int = 0, config: Mapping[str, Any] | None = None
) -> tuple[Generator, Discriminator]:
    """A generator and a discriminator of new weights, which come of torch's own random numbers.

    Args:
        kind: `mlp`, for vectors and small images, or `conv`, for images.
        sample_shape: [numbers] of a vector, [channels, size, size] of an image.
        num_labels: classes that samples are asked for by; 0 for a pair without labels.
        config: fields of the networks' configs. Those that one network has alone, or that mean the same in both, stand
            as they are; all may stand in a block `generator` or `discriminator`, which goes before.

    Raises:
        HFTransferError: in one line, for a field that no network has, a wrong value, or a shape that none fits.
    """
    configs = pair_configs(kind, sample_shape, num_labels, config)
    _, generator, _, discriminator = KINDS[kind]
    return generator(configs[0]), discriminator(configs[1])


def pair_configs(
    kind: str, sample_shape: Sequence[int], num_labels: int = 0, config: Mapping[str, Any] | None = None
) -> tuple[Any, Any]:
    """The configs of a new pair, with all that is wrong about them told before anything is built."""
    if kind not in KINDS:
        raise HFTransferError(f"kind: there is no pair of networks '{kind}'{nearest(kind, KINDS)}")
    shape = [int(size) for size in sample_shape]
    if kind == "mlp":
        told: dict[str, Any] = {"sample_shape": shape}
    else:
        _check_image(shape)
        told = {"num_channels": shape[0], "image_size": shape[-1]}
    classes = KINDS[kind][0], KINDS[kind][2]
    given = _divided(dict(config or {}), [_fields(cls) for cls in classes])
    made = [
        _made(cls, {**told, "num_classes": num_labels, **fields}) for cls, fields in zip(classes, given, strict=True)
    ]
    return made[0], made[1]


def _check_image(shape: list[int]) -> None:
    """What the convolutional pair can make."""
    if len(shape) != 3 or shape[1] != shape[2]:
        raise HFTransferError(
            f"kind: conv makes square images of [channels, size, size], and a sample is {shape}; use kind: mlp"
            if len(shape) != 3
            else f"image_size: {shape[1]} x {shape[2]} is no square; scale the images to one"
        )
    check_image_size(shape[1])


def _fields(cls: Any) -> list[str]:
    """A network's own fields that a user may set."""
    inherited = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    return [f.name for f in dataclasses.fields(cls) if f.name not in inherited and f.name not in TOLD_BY_DATA]


def _divided(config: dict[str, Any], fields: Sequence[list[str]]) -> list[dict[str, Any]]:
    """The fields given to each of the two networks."""
    blocks = [config.pop(player, None) or {} for player in PLAYERS]
    found: list[dict[str, Any]] = [{}, {}]
    for name, value in config.items():
        having = [place for place, known in enumerate(fields) if name in known]
        if not having:
            raise HFTransferError(
                f"config.{name}: {_unknown(name, dict.fromkeys([*fields[0], *fields[1], *PLAYERS]))}"
            )
        if len(having) == 2 and name not in ALIKE:
            raise HFTransferError(
                f"config.{name}: both networks have one; write config.generator.{name} or config.discriminator.{name}"
            )
        for place in having:
            found[place][name] = value
    for player, own, block, known in zip(PLAYERS, found, blocks, fields, strict=True):
        if not isinstance(block, Mapping):
            raise HFTransferError(f"config.{player}: expected fields of the {player}'s config, found {block!r}")
        for name in block:
            if name not in known:
                raise HFTransferError(f"config.{player}.{name}: {_unknown(name, known)}")
        own.update(block)
    return found


def _unknown(name: str, known: Any) -> str:
    if name in TOLD_BY_DATA:
        return "the data tell it; remove it"
    return f"the networks have no such field{nearest(name, known)}"


def _made(cls: Any, fields: dict[str, Any]) -> Any:
    try:
        return cls(**fields)
    except HFTransferError as error:
        told = str(error).startswith(TOLD_BY_DATA)
        raise HFTransferError(str(error) if told else f"config.{error}") from error
    except Exception as error:  # of the dataclass's own checks: the last line says what was expected
        raise HFTransferError(
            f"config: {cls.model_type} refuses it ({str(error).strip().splitlines()[-1].strip()})"
        ) from error


def check_pair(generator: Any, discriminator: Any) -> None:
    """Makes sure that two networks can play: each in its role, about the same samples and labels.

    Raises:
        HFTransferError: in one line.
    """
    for network, role, wanted in (
        (generator, Generator, "generator"),
        (discriminator, Discriminator, "discriminator"),
    ):
        if not isinstance(network, role):
            raise HFTransferError(f"{wanted}: {type(network).__name__} is no {wanted}; give the checkpoint of one")
    one, other = list(generator.config.sample_shape), list(discriminator.config.sample_shape)
    if one != other:
        raise HFTransferError(f"discriminator: it judges samples of {other}, and the generator makes {one}")
    classes = generator.config.num_classes, discriminator.config.num_classes
    if classes[0] != classes[1]:
        raise HFTransferError(
            f"discriminator: it knows {classes[1]} classes, and the generator {classes[0]}; both need the same"
        )
