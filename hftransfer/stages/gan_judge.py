"""What judges images where no checkpoint is given: a small classifier of the data's own labels, made first."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import set_seed

from hftransfer import gans, models, processes
from hftransfer.data.samples import Sampled
from hftransfer.errors import HFTransferError
from hftransfer.runs import CHECKPOINTS
from hftransfer.stages.finetune import finetune

TRAINING = {"num_train_epochs": 20, "per_device_train_batch_size": 64, "learning_rate": 1e-3, "bf16": False}


def own_judge(given: Mapping[str, Any], rows: Sampled, path: Path) -> tuple[Any, Any, str]:
    """Fits the classifier to the rows that the players train on. Returns the network, its reader and what it is.

    It has a discriminator's form, which fits whatever images the players make.
    """
    folder = path / CHECKPOINTS / "judge"
    begun = folder.with_name("judge-new")
    set_seed(given["seed"])
    if processes.is_main():
        models.save(_network(list(rows.train.shape[1:])), begun)
    processes.barrier()
    fitted = finetune(
        str(begun), given["data"], task="single_label_classification", training=TRAINING, seed=given["seed"],
        max_train_samples=given["max_train_samples"], output_dir=str(folder),
    )  # fmt: skip
    network = models.load(str(folder), "image_classification")
    told = f"a small classifier of the data's labels (accuracy {fitted.metrics['accuracy']:.3f} on held-out rows)"
    return network, models.reader(str(folder), "image"), told


def _network(shape: list[int]) -> Any:
    try:
        return gans.new_pair("conv", shape, 0, {"base_channels": 32})[1]
    except HFTransferError:  # no convolutional network fits images of this size
        return gans.new_pair("mlp", shape)[1]
