"""What can be wrong with a game and is known before anything is trained: the plan and the run look at the same."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hftransfer import inputs, models
from hftransfer.data.samples import Sampled
from hftransfer.errors import HFTransferError, renamed
from hftransfer.judging import knows
from hftransfer.quality import FEWEST
from hftransfer.trainers.gan import gan_arguments
from hftransfer.trainers.gan_checks import check_sizes
from hftransfer.trainers.gan_model import GanModel


def check(given: Mapping[str, Any], model: GanModel, rows: Sampled) -> None:
    """Looks at the training fields, the sizes, and what quality is measured by.

    Raises:
        HFTransferError: in one line.
    """
    arguments = gan_arguments(given["training"], Path("unused"), 0)
    accumulated = arguments.gradient_accumulation_steps * model.game.steps
    check_sizes(model, len(rows.train), arguments.train_batch_size, accumulated)
    if rows.offset:
        for name in (name for name in ("augment", "image_size", "num_channels") if given[name]):
            raise HFTransferError(f"{name}: is of images, and the data are vectors; remove it")
    if given["freeze"] and models.is_scratch(given["model"]) and given["discriminator_model"] is None:
        raise HFTransferError(
            "freeze: the discriminator is new, and its stages would stay random; remove it, or begin with a checkpoint"
        )
    _check_judge(given, rows)
    _check_baseline(given, rows)
    _check_rows(rows)


def _check_judge(given: Mapping[str, Any], rows: Sampled) -> None:
    if given["judge"] is not None:
        with renamed("model", "judge"):
            job_of(given["judge"])
        if rows.offset:
            raise HFTransferError("judge: it sees images, and the data are vectors, which are measured as they are")
    if given["by"] == "label_divergence":
        if not rows.names:
            raise HFTransferError("by: label_divergence compares classes, and the data have no labels; choose frechet")
        if given["judge"] is not None and not knows(models.config_of(given["judge"]), rows.names):
            raise HFTransferError(
                f"by: label_divergence needs a judge that tells the data's classes, and "
                f"{models.public_name(given['judge'])} was not trained to; choose frechet, or fine-tune it first"
            )
    if given["by"] in ("modes", "good_share") and not (rows.names and rows.offset):
        raise HFTransferError(f"by: {given['by']} counts the modes of labelled vectors; choose frechet")


def job_of(judge: Any) -> str:
    """A classifier tells classes as well; any other network that reads images has features.

    Raises:
        HFTransferError: it reads something else, or nothing.
    """
    config, name = models.config_of(judge), models.public_name(judge)
    if is_generator(config):
        raise HFTransferError(f"model: {name} makes samples and sees none; give a checkpoint that reads images")
    if inputs.kind_of(config) != "image":
        raise HFTransferError(f"model: {name} reads {inputs.reads(judge)}s; give a checkpoint that reads images")
    try:
        models.class_for("image_classification", config)
    except HFTransferError:
        return "encoder"
    return "image_classification"


def is_generator(config: Any) -> bool:
    """Whether a config is of one of our generators."""
    return str(config.model_type).startswith("gan_") and hasattr(config, "latent_size")


def generator_config(model: Any, key: str) -> Any:
    """The config of a checkpoint that has to be a generator.

    Raises:
        HFTransferError: it is something else; `key` names the option.
    """
    with renamed("model", key):
        config = models.config_of(model)
    if not is_generator(config):
        new = ", scratch/gan_conv or scratch/gan_mlp" if key == "model" else ""
        raise HFTransferError(f"{key}: {config.model_type} is no generator; give a gan's folder{new}")
    return config


def _check_baseline(given: Mapping[str, Any], rows: Sampled) -> None:
    """The other run's generator is measured after the training; whether it can be is known before."""
    if given["baseline"] is None:
        return
    makes, wanted = list(generator_config(given["baseline"], "baseline").sample_shape), list(rows.train.shape[1:])
    if makes != wanted:
        raise HFTransferError(
            f"baseline: it makes samples of {makes}, and the data are {wanted}; give a generator of such samples"
        )


def _check_rows(rows: Sampled) -> None:
    """Training rows are halved to choose the step that is kept; the held-out ones judge it."""
    if len(rows.train) < 2 * FEWEST or len(rows.test) < FEWEST:
        raise HFTransferError(
            f"data: {len(rows.train)} rows to train on and {len(rows.test)} held-out ones are too few to measure "
            f"quality; it takes {2 * FEWEST} and {FEWEST}, so give more rows"
        )
