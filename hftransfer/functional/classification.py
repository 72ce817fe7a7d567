"""Losses of class labels, with what helps on skewed ones: class weights, the focal loss, label smoothing."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100  # a label that is not one: padding, the second piece of a word
Reduction = Literal["mean", "sum", "none"]


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    gamma: float = 0.0,
    smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross entropy of one class out of k; with nothing asked it is torch's.

    The focal loss (Lin et al. 2017, arXiv:1708.02002) multiplies each row's loss by (1 - p)^gamma, p the probability
    of its class, so that rows that are right already weigh less. Smoothing is Szegedy et al. 2016, arXiv:1512.00567.

    Args:
        logits: (..., k).
        labels: (...) classes; -100 does not count.
        weights: (k,) of the classes, as torch weighs them: the mean is over the sum of the rows' weights.
        gamma: 0 is plain cross entropy; the paper's is 2.
        smoothing: share of the target that is spread over all classes.
        reduction: none gives (...), 0 where a label does not count.
    """
    flat, classes = _wide(logits).reshape(-1, logits.shape[-1]), labels.reshape(-1)
    losses = F.cross_entropy(
        flat, classes, weight=weights, ignore_index=IGNORED, label_smoothing=smoothing, reduction="none"
    )
    counted = classes != IGNORED
    known = classes.where(counted, 0)  # (rows,) a class for every row, so that it can be looked up
    if gamma:
        right = flat.log_softmax(-1).gather(-1, known[:, None])[:, 0]
        losses = losses * _focus(right, gamma)
    if reduction == "none":
        return losses.reshape(labels.shape)
    total = counted.sum() if weights is None else (weights[known] * counted).sum()
    return losses.sum() / total if reduction == "mean" else losses.sum()


def binary_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    gamma: float = 0.0,
    smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross entropy of k classes of which any number is true; with nothing asked it is torch's.

    Args:
        logits: (n, k).
        labels: (n, k) of 0 and 1.
        weights: (k,) how much a class's true rows count against its untrue ones.
        gamma: of the focal loss, here of each class by itself as in its paper.
        smoothing: labels are moved by half of it towards each other.
        reduction: the mean is over n x k.
    """
    wide = _wide(logits)
    true = labels.to(wide.dtype)
    target = true * (1 - smoothing) + smoothing / 2
    losses = F.binary_cross_entropy_with_logits(wide, target, pos_weight=weights, reduction="none")
    if gamma:
        losses = losses * _focus(F.logsigmoid(wide * (2 * true - 1)), gamma)
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def class_weights(counts: ArrayLike) -> NDArray[np.float64]:
    """(k,) n / (k * count): all classes count alike, and the rows' mean weight is 1.

    k is the number of classes that have rows; one without rows has no loss to weigh, and gets 0.
    """
    given = np.asarray(counts, dtype=float)
    present = given > 0
    shares = given.sum() / (max(int(present.sum()), 1) * np.where(present, given, 1))
    return np.where(present, shares, 0.0)


def positive_weights(counts: ArrayLike, rows: int) -> NDArray[np.float64]:
    """(k,) untrue rows for each true one, of `counts` true rows in `rows`: both then count alike; 1 where none is."""
    given = np.asarray(counts, dtype=float)
    return np.where(given > 0, (rows - given) / np.maximum(given, 1), 1.0)


def _wide(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _focus(log_probability: Tensor, gamma: float) -> Tensor:
    """(1 - p)^gamma; kept off 0, where the derivative of a power below 1 is infinite."""
    wrong = -torch.expm1(log_probability)
    return wrong.clamp(min=torch.finfo(wrong.dtype).tiny).pow(gamma)
