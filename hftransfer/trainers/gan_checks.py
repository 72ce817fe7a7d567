"""What two players are refused or warned of before they begin: sizes, samples, statistics."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hftransfer import processes
from hftransfer.errors import HFTransferError
from hftransfer.trainers.gan_model import BATCH_NORM

logger = logging.getLogger("hftransfer")

ROUNDED = 1e-3  # beyond [-1, 1], that a scaling may leave


def has_batch_norm(network: nn.Module) -> bool:
    return any(isinstance(module, BATCH_NORM) for module in network.modules())


def check_sizes(model: nn.Module, rows: int, batch: int, accumulated: int) -> None:
    """Refuses fewer rows than an update of so many batches takes, and batches without statistics.

    Raises:
        HFTransferError: in one line.
    """
    world = processes.state().num_processes
    wanted, parts = batch * accumulated * world, f"{batch} x {accumulated} batches x {world} processes"
    if rows < wanted:
        raise HFTransferError(
            f"data: {rows} rows are fewer than the {wanted} of an update ({parts}); give more, or lower "
            "training.per_device_train_batch_size"
        )
    if batch == 1 and has_batch_norm(model):
        raise HFTransferError(
            "training.per_device_train_batch_size: batch normalisation has no statistics of one row; raise it, or "
            "turn batch_norm off"
        )


def check_batch(generator: Any, batch: Mapping[str, Any]) -> None:
    """Refuses real samples that the generator cannot make: of another shape or range, or not finite.

    Raises:
        HFTransferError: in one line, with what was found.
    """
    if "pixel_values" not in batch:
        raise HFTransferError(f"data: a batch has no pixel_values, but {', '.join(batch)}; name the samples so")
    samples = batch["pixel_values"]
    shape, made = list(samples.shape[1:]), getattr(getattr(generator, "config", None), "sample_shape", None)
    if made is not None and shape != list(made):
        raise HFTransferError(f"data: samples are {shape}, and the generator makes {list(made)}; make them alike")
    if not bool(torch.isfinite(samples).all()):
        raise HFTransferError("data: pixel_values are not all finite; leave such rows out")
    low, high = float(samples.min()), float(samples.max())
    if low < -1 - ROUNDED or high > 1 + ROUNDED:
        way = "x / 127.5 - 1" if low >= 0 and 1 < high <= 255 else "(x - middle) / (half of the range)"
        raise HFTransferError(
            f"data: pixel_values reach from {low:.4g} to {high:.4g}, and the generator makes -1 to 1; scale by {way}"
        )


def warn_of_statistics(generator: nn.Module, world: int, label: str) -> None:
    """Says once that two processes will not be as one where a generator's batch norm sees only its own rows."""
    if world > 1 and processes.is_main() and has_batch_norm(generator):
        logger.warning(
            "%s: the generator's batch_norm takes its statistics of each of the %d processes' own rows, so the result "
            "differs from one process's; batch_norm: false makes them equal",
            label,
            world,
        )
