"""One class a row, or any number of them; of texts, pairs of texts, images and sounds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hftransfer import metrics
from hftransfer.data import target_rows
from hftransfer.functional.classification import binary_cross_entropy, positive_weights
from hftransfer.functional.softmax import softmax
from hftransfer.tasks.base import Task


class SingleLabel(Task):
    """One class a row."""

    name = "single_label_classification"
    metric = "accuracy"
    encode = staticmethod(target_rows.encode_classes)

    def targets(self, labels: Sequence[Any]) -> Tensor:
        return torch.tensor([int(label) for label in labels])

    def score(self, outputs: Any, labels: Any) -> dict[str, float]:
        return metrics.score(softmax(outputs), labels)

    def row_scores(self, outputs: Any, labels: Any) -> np.ndarray:
        return (outputs.argmax(1) == labels).astype(float)

    def floor(self, train: Any, labels: Any) -> dict[str, float]:
        return {"majority_class_accuracy": float(self.usual(train, labels).mean())}

    def usual(self, train: Any, labels: Any) -> np.ndarray:
        return (labels == np.bincount(train).argmax()).astype(float)

    @classmethod
    def strata(cls, labels: Any) -> np.ndarray:
        return np.asarray(labels)

    def evidence(self, outputs: Any, labels: Any) -> dict[str, Any]:
        found = outputs.argmax(1)
        counts = metrics.confusion(found, labels, len(self.names))
        return {
            "per_class": metrics.per_class(found, labels, self.names),
            "confusion": {"labels": self.names, "after": counts},
        }


class MultiLabel(Task):
    """Any number of classes a row, each a yes or no at even odds."""

    name = "multi_label_classification"
    metric = "example_f1"
    encode = staticmethod(target_rows.encode_tags)

    def loss(
        self, logits: Tensor, labels: Tensor, *, weights: Any = None, gamma: float = 0.0, smoothing: float = 0.0,
        reduction: Any = "mean",
    ) -> Tensor:  # fmt: skip
        return binary_cross_entropy(
            logits, labels, weights=weights, gamma=gamma, smoothing=smoothing, reduction=reduction
        )

    def targets(self, labels: Sequence[Any]) -> Tensor:
        return torch.as_tensor(np.stack(labels), dtype=torch.float32)

    def score(self, outputs: Any, labels: Any) -> dict[str, float]:
        return metrics.multi_label(outputs > 0, labels > 0)

    def row_scores(self, outputs: Any, labels: Any) -> np.ndarray:
        return metrics.example_f1(outputs > 0, labels > 0)

    def floor(self, train: Any, labels: Any) -> dict[str, float]:
        return {"majority_example_f1": float(self.usual(train, labels).mean())}

    def usual(self, train: Any, labels: Any) -> np.ndarray:
        known = np.asarray(train) > 0
        shares = known.mean(0)
        usual = shares >= min(0.5, shares.max())  # the most frequent one, where none is in half of the rows
        always = max(usual, np.zeros_like(usual), key=lambda answer: metrics.example_f1(answer[None], known).mean())
        return metrics.example_f1(np.tile(always, (len(labels), 1)), labels > 0)

    @classmethod
    def strata(cls, labels: Any) -> np.ndarray:
        return rarest(labels)

    def class_weights(self, labels: Any) -> np.ndarray:
        marks = np.asarray(labels) > 0
        return positive_weights(marks.sum(0), len(marks))

    def evidence(self, outputs: Any, labels: Any) -> dict[str, Any]:
        return {"per_class": metrics.per_tag(outputs > 0, labels > 0, self.names)}


def rarest(labels: Any) -> np.ndarray:
    """(rows,) the rarest class that each row has, or a class of their own for rows that have none."""
    marks = np.asarray(labels) > 0
    order = np.argsort(marks.sum(0), kind="stable")  # rare classes first
    ranked = marks[:, order]
    return np.where(ranked.any(1), order[ranked.argmax(1)], marks.shape[1])
