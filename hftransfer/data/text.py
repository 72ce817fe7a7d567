"""Labelled texts as rows that a classifier reads."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from hftransfer.data.read import quiet

KEPT = ("input_ids", "token_type_ids")  # of what a tokenizer makes; the mask follows from the lengths


def tokenize(dataset: Dataset, tokenizer: Any, max_length: int) -> Dataset:
    """Adds `input_ids` (truncated, not padded) and keeps `label` where there is one.

    A second text beside each (`text_pair`) is cut with it, the longer first, and told apart by `token_type_ids` where
    the tokenizer makes them.
    """
    columns = [name for name in ("text", "text_pair") if name in dataset.column_names]

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        made = tokenizer(*(batch[name] for name in columns), truncation=True, max_length=max_length)
        names = KEPT if len(columns) > 1 else KEPT[:1]
        return {name: made[name] for name in names if name in made}

    small = len(dataset) < 100_000
    with quiet(show_bars=not small):
        return dataset.map(encode, batched=True, remove_columns=columns, keep_in_memory=small)


def padded(tokenizer: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Tokenised rows as tensors, padded to the longest of them."""
    kept = [{name: row[name] for name in KEPT if name in row} for row in rows]
    return dict(tokenizer.pad(kept, padding=True, return_attention_mask=True, return_tensors="pt"))


def collator(tokenizer: Any) -> Callable[[Sequence[Mapping[str, Any]]], dict[str, Tensor]]:
    """Makes a classifier's training batch of tokenised rows."""

    def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        return {**padded(tokenizer, rows), "labels": torch.tensor([row["label"] for row in rows])}

    return collate


def lengths(rows: Dataset) -> list[int]:
    """Tokens of each row."""
    return [len(ids) for ids in rows["input_ids"]]


def label_names(dataset: Dataset) -> list[str]:
    return list(dataset.features["label"].names)


def labels(dataset: Dataset) -> np.ndarray:
    return np.asarray(dataset["label"])


def id2label(names: Sequence[str]) -> dict[str, Any]:
    """What a config needs to print names instead of LABEL_0."""
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }
