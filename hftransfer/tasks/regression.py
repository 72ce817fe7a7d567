"""A number a row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from hftransfer import metrics
from hftransfer.data import target_rows
from hftransfer.errors import HFTransferError
from hftransfer.tasks.base import Task

BINS = 5  # of a number, for divisions that keep its distribution


class Regression(Task):
    """A number a row, by the squared error."""

    name = "regression"
    metric = "mae"
    counted = "labels a fifth of the range"
    higher_is_better = False
    encode = staticmethod(target_rows.encode_numbers)

    def loss(
        self, logits: Tensor, labels: Tensor, *, weights: Any = None, gamma: float = 0.0, smoothing: float = 0.0,
        reduction: Any = "mean",
    ) -> Tensor:  # fmt: skip
        if weights is not None or gamma or smoothing:
            raise HFTransferError("loss: a regression has no classes to weigh, to focus on or to smooth; remove it")
        return mse_loss(logits.squeeze(-1), labels, reduction=reduction)

    def targets(self, labels: Sequence[Any]) -> Tensor:
        return torch.tensor([float(label) for label in labels])

    def score(self, outputs: Any, labels: Any) -> dict[str, float]:
        return metrics.numbers(outputs.reshape(-1), np.asarray(labels))

    def row_scores(self, outputs: Any, labels: Any) -> np.ndarray:
        return np.abs(outputs.reshape(-1) - labels)

    def floor(self, train: Any, labels: Any) -> dict[str, float]:
        return {"majority_mae": float(self.usual(train, labels).mean())}

    def usual(self, train: Any, labels: Any) -> np.ndarray:
        return np.abs(np.median(train) - labels)

    @classmethod
    def strata(cls, labels: Any) -> np.ndarray:
        return binned(labels)


def binned(labels: Any) -> np.ndarray:
    """(rows,) fifths of the numbers."""
    values = np.asarray(labels, dtype=float)
    edges = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.searchsorted(edges, values)
