"""What judges images where no checkpoint is given: a small classifier of the data's own labels, made first."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import set_seed

from hftransfer import gans, models, processes
from hftransfer.data.samples import Sampled
from hftransfer.errors import HFTransferError
from hftransfer.runs import CHECKPOINTS
from hftransfer.stages.finetune import finetune

EPOCHS, MOST_STEPS, BATCH = 20, 1000, 64  # of its training, whichever ends first
LARGEST = 32  # pixels a side that it sees
TRAINING = {
    "per_device_train_batch_size": BATCH,
    "learning_rate": 1e-3,
    "bf16": False,
    "save_strategy": "steps",
    "save_steps": 250,
}


def own_judge(given: Mapping[str, Any], rows: Sampled, path: Path) -> tuple[Any, Any, str]:
    """Fits the classifier to the rows that the players train on. Returns the network, its reader and what it is.

    It has a discriminator's form, which fits whatever images the players make, and takes minutes at most: large images
    are scaled down, and many are not all seen as often.
    """
    folder = path / CHECKPOINTS / "judge"
    begun = folder.with_name("judge-new")
    set_seed(given["seed"])
    if processes.is_main():
        models.save(_network(list(rows.train.shape[1:])), begun)
    processes.barrier()
    fitted = finetune(
        str(begun), given["data"], task="single_label_classification",
        training={**TRAINING, "max_steps": steps(len(rows.train))}, seed=given["seed"],
        max_train_samples=given["max_train_samples"], output_dir=str(folder),
    )  # fmt: skip
    network = models.load(str(folder), "image_classification")
    size = network.config.image_size
    told = (
        f"a small classifier of the data's labels ({steps(len(rows.train))} steps on images of {size} x {size}, "
        f"accuracy {fitted.metrics['accuracy']:.3f} on held-out rows)"
    )
    return network, models.reader(str(folder), "image"), told


def steps(rows: int) -> int:
    """How long it is fitted, on any number of processes."""
    return min(EPOCHS * math.ceil(rows / BATCH), MOST_STEPS)


def _network(shape: list[int]) -> Any:
    shape = [shape[0], *(min(side, LARGEST) for side in shape[1:])]
    try:
        return gans.new_pair("conv", shape, 0, {"base_channels": 32 if shape[1] < LARGEST else 16})[1]
    except HFTransferError:  # no convolutional network fits images of this size
        return gans.new_pair("mlp", shape)[1]
