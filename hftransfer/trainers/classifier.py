"""Training a classifier on one labelled data set: stock `Trainer` loss, batches of like length."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from hftransfer.functional.label_shift import balanced_sampling
from hftransfer.trainers.exact import ExactTrainer, training_arguments


def train_classifier(
    network: nn.Module,
    rows: Sequence[Any],
    collate: Callable[[Sequence[Any]], dict[str, Tensor]],
    *,
    training: dict[str, Any],
    seed: int,
    folder: Path,
    label: str,
    lengths: Sequence[int] | None = None,
    balanced: np.ndarray | None = None,
) -> list[dict[str, float]]:
    """Trains in place on rows of which `collate` makes inputs and `labels`, resuming from `folder`.

    `balanced` are the rows' labels, where every class is to be drawn as often. Returns the loss history.
    """
    trainer = ExactTrainer(
        model=network,
        args=training_arguments(training, folder, seed),
        train_dataset=rows,
        data_collator=collate,
        label=label,
        lengths=lengths,
        weights=None if balanced is None else balanced_sampling(balanced, network.config.num_labels),
    )
    # the model's loss is a mean over the batch, though its signature makes Trainer think it were a sum: accumulated
    # batches and processes would each multiply the gradient
    trainer.model_accepts_loss_kwargs = False
    return trainer.train_or_resume()
