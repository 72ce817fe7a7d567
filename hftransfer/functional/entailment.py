"""Yin et al. 2019, Benchmarking Zero-shot Text Classification, arXiv:1909.00161: a label as a hypothesis of a text."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def label_logits(logits: Array, *, entailment: int, contradiction: int | None = None) -> Array:
    """What an entailment model says of hypotheses, as logits of labels.

    Args:
        logits: (..., classes of the model).
        entailment: place of that class.
        contradiction: place of the class to weigh it against, where each label is a yes or no of its own.

    Returns:
        (...) logits, for a softmax over the labels; with `contradiction` for a sigmoid of each, which is the softmax
        over these two classes.
    """
    yes = logits[..., entailment]
    return yes if contradiction is None else yes - logits[..., contradiction]
