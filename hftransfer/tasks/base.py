"""The interface of a task."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from torch import Tensor, nn

from hftransfer import inference, inputs, models
from hftransfer.data import targets
from hftransfer.data.spec import Spec
from hftransfer.data.text import id2label
from hftransfer.functional.classification import IGNORED, class_weights, cross_entropy
from hftransfer.inputs import Inputs

JOBS = inputs.JOBS


class Task(ABC):
    """Labels of a kind: how they are read, what the network needs for them, and what a prediction is worth."""

    name: ClassVar[str]
    metric: str  # what comparisons and an early end judge by
    higher_is_better: ClassVar[bool] = True
    kinds: ClassVar[tuple[str, ...]] = ("text", "image", "sound")
    counted: ClassVar[str] = "labels a class"  # what a number of few labels is a number of: see `strata`

    def __init__(
        self, kind: str, names: Sequence[str], seen: str | None = None, padding: Mapping[str, int] | None = None
    ) -> None:
        self.kind, self.names = kind, list(names)
        self.seen = seen or kind  # as what the network takes it: a ViT sees spectrograms as images
        self.padding = dict(padding or {})  # fields by which a decoder finds the last token of a padded text

    @property
    def job(self) -> str:
        """The key of `models.AUTO_CLASSES` that does this task."""
        return JOBS[self.seen]

    @property
    def head(self) -> dict[str, Any]:
        """The fields of a config that this task sets."""
        return {**id2label(self.names), "problem_type": self.name, **self.padding}

    @classmethod
    def read(
        cls, spec: Spec, splits: Any, *, seed: int, kind: str, known: Sequence[str] | None, max_samples: int | None
    ) -> tuple[DatasetDict, list[str]]:
        """Train and test rows of what `targets.opened` returns, and the labels' names."""
        return targets.divided(
            spec, splits, seed=seed, label=targets.label_column_of(splits, spec, kind), known=known,
            max_samples=max_samples, encode=functools.partial(cls.encode, kind=kind),
            strata=lambda rows: cls.strata(np.asarray(rows["label"])),
        )  # fmt: skip

    @staticmethod
    def encode(rows: Dataset, spec: Spec, known: Any, *, kind: str) -> tuple[Dataset, Any]:
        """Rows with content and `label` of rows as they are stored, and the labels' names: see `data.target_rows`."""
        raise AssertionError("each task says how its rows are made, or how they are read")

    def loss(
        self, logits: Tensor, labels: Tensor, *, weights: Any = None, gamma: float = 0.0, smoothing: float = 0.0,
        reduction: Any = "mean",
    ) -> Tensor:  # fmt: skip
        """What a batch costs; with nothing asked, what the network's own loss is."""
        return cross_entropy(logits, labels, weights=weights, gamma=gamma, smoothing=smoothing, reduction=reduction)

    @abstractmethod
    def score(self, outputs: Any, labels: Any) -> dict[str, float]:
        """All metrics."""

    @abstractmethod
    def row_scores(self, outputs: Any, labels: Any) -> np.ndarray:
        """(rows,) what each row is worth; the mean is the metric, or stands for it."""

    @abstractmethod
    def floor(self, train: Any, labels: Any) -> dict[str, float]:
        """What the most frequent answer among the training labels is worth."""

    def usual(self, train: Any, labels: Any) -> np.ndarray | None:
        """(rows,) what the most frequent answer is worth, as `row_scores` has it; None where there is none."""
        return None

    @abstractmethod
    def targets(self, labels: Sequence[Any]) -> Tensor:
        """A batch's labels as the network takes them."""

    @classmethod
    def strata(cls, labels: Any) -> np.ndarray | None:
        """(rows,) classes that a division keeps in proportion and that few labels are counted by; None without."""
        return None

    def class_weights(self, labels: Any) -> np.ndarray:
        """(classes,) weights with which all classes count alike in the loss, however rare they are."""
        flat = labels if labels.dtype != object else np.concatenate(list(labels))  # a class a row, or a word
        return class_weights(np.bincount(flat, minlength=len(self.names)))

    def evidence(self, outputs: Any, labels: Any) -> dict[str, Any]:
        """What the report shows beside the metrics."""
        return {}

    def labels(self, part: Dataset) -> Any:
        """(rows, ...) the labels of rows as they were read."""
        return np.asarray(part["label"])

    def reader(self, model: Any, reader: Any = None) -> Any:
        """What makes the network's inputs for this task, and belongs to its checkpoint; made of `reader` if given."""
        reader = models.reader(model, self.kind) if reader is None else reader
        return inputs.padding_behind(reader, models.config_of(model)) if self.kind == "text" else reader

    def inputs(self, part: Dataset, model: Any, *, key: str, max_length: int, reader: Any = None) -> Inputs:
        """Rows as the network reads them, with their labels."""
        reader = self.reader(model, reader)
        return inputs.labelled_inputs(
            part, model, key=key, max_length=max_length, kind=self.kind, reader=reader, labels=self.labels(part)
        )

    def training(self, rows: Inputs) -> tuple[Sequence[Any], Callable[[Sequence[Any]], dict[str, Tensor]]]:
        """Rows for a Trainer, and how its batches are made of them."""

        def collate(batch: Sequence[tuple[Any, Any]]) -> dict[str, Tensor]:
            made = rows.batch([row for row, _ in batch])
            return {**made, "labels": self.targets([label for _, label in batch])}

        return Labelled(rows), collate

    def predict(self, network: nn.Module, rows: Inputs) -> Any:
        """(rows, ...) logits, on every process alike."""

        def run(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor]:
            return (model(**batch).logits,)

        with torch.no_grad():
            found = inference.over(rows.rows, rows.lengths, rows.batch, network, run)
        return np.stack([logits for (logits,) in found])


class BesideTokens(Task):
    """A task whose labels stand beside tokens: each row has as many `labels` as `input_ids`."""

    kinds = ("text",)
    counted = "labelled rows"

    def training(self, rows: Inputs) -> tuple[Sequence[Any], Callable[[Sequence[Any]], dict[str, Tensor]]]:
        return rows.rows, lambda batch: self.batch(rows, batch)

    def targets(self, labels: Sequence[Any]) -> Tensor:
        raise AssertionError("such a label is placed beside its token")

    @staticmethod
    def batch(rows: Inputs, some: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch with each label at its token's place, wherever the padding is."""
        made = rows.batch(some)
        labels = torch.full_like(made["input_ids"], IGNORED)
        labels[made["attention_mask"].bool()] = torch.tensor([label for row in some for label in row["labels"]])
        return {**made, "labels": labels}


class Labelled(Sequence[Any]):
    """(row, label) pairs, made when they are asked for."""

    def __init__(self, rows: Inputs) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows.rows)

    def __getitem__(self, number: Any) -> tuple[Any, Any]:
        return self.rows.rows[number], self.rows.labels[number]
