"""Training a text classifier on one labelled data set: stock `Trainer` loss, batches of like length."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn

from hftransfer.functional.label_shift import balanced_sampling
from hftransfer.trainers.adaptation import padded
from hftransfer.trainers.exact import ExactTrainer, training_arguments


def train_classifier(
    network: nn.Module,
    rows: Dataset,
    tokenizer: Any,
    *,
    training: dict[str, Any],
    balanced: bool,
    seed: int,
    folder: Path,
    label: str,
) -> list[dict[str, float]]:
    """Trains in place on rows of `input_ids` and `label`, resuming from `folder`. Returns the loss history.

    With `balanced` every class is drawn as often.
    """

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        return {**padded(tokenizer, batch), "labels": torch.tensor([row["label"] for row in batch])}

    trainer = ExactTrainer(
        model=network,
        args=training_arguments(training, folder, seed),
        train_dataset=rows,
        data_collator=collate,
        label=label,
        lengths=[len(ids) for ids in rows["input_ids"]],
        weights=balanced_sampling(rows["label"][:], network.config.num_labels) if balanced else None,
    )
    # the model's loss is a mean over the batch, though its signature makes Trainer think it were a sum: accumulated
    # batches and processes would each multiply the gradient
    trainer.model_accepts_loss_kwargs = False
    return trainer.train_or_resume()
