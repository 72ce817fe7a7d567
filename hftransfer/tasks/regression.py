"""A number a row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict
from torch import Tensor
from torch.nn.functional import mse_loss

from hftransfer import metrics
from hftransfer.data import target_rows, targets
from hftransfer.data.spec import Spec
from hftransfer.errors import HFTransferError
from hftransfer.tasks.base import Task

BINS = 5  # of a number, for divisions that keep its distribution


class Regression(Task):
    """A number a row, by the squared error."""

    name = "regression"
    metric = "mae"
    higher_is_better = False

    @classmethod
    def read(
        cls, spec: Spec, splits: Any, *, seed: int, kind: str, known: Sequence[str] | None, max_samples: int | None
    ) -> tuple[DatasetDict, list[str]]:
        return targets.divided(
            spec, splits, seed=seed, label=targets.label_column_of(splits, spec, kind), max_samples=max_samples,
            encode=lambda rows, spec, names: target_rows.encode_numbers(rows, spec, names, kind=kind),
            strata=lambda rows: binned(np.asarray(rows["label"])),
        )  # fmt: skip

    def loss(
        self, logits: Tensor, labels: Tensor, *, weights: Any = None, gamma: float = 0.0, smoothing: float = 0.0,
        reduction: str = "mean",
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

    def strata(self, labels: Any) -> np.ndarray:
        return binned(labels)


def binned(labels: Any) -> np.ndarray:
    """(rows,) fifths of the numbers."""
    values = np.asarray(labels, dtype=float)
    edges = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.searchsorted(edges, values)
