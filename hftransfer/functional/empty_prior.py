"""What a model says of labels before it has read anything, taken out of what it says of a text.

Labels differ in how likely they are by themselves: a frequent word, a wide description. An input without content tells
how much. Nothing is learnt from labels or from the data.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hftransfer.functional.softmax import softmax

Array = NDArray[np.floating[Any]]
LEAST = 1e-12  # of a probability whose logarithm is taken


def contextual_calibration(logits: Array, empty: Array, *, independent: bool = False) -> Array:
    """Zhao et al. 2021, Calibrate Before Use, arXiv:2102.09690: divides by the probabilities of an empty input.

    Args:
        logits: (rows, labels).
        empty: (inputs, labels) the same of inputs without content; their probabilities are averaged.
        independent: each label is a yes or no of its own, and its odds are divided by the empty input's odds.

    Returns:
        (rows, labels) logits, by which a single empty input has even probabilities, or each label even odds.
    """
    if independent:
        prior = sigmoid(empty).mean(0).clip(LEAST, 1 - LEAST)
        return logits - np.log(prior / (1 - prior))
    return logits - np.log(softmax(empty).mean(0).clip(LEAST))


def pointwise_information(likelihoods: Array, premise: Array) -> Array:
    """Holtzman et al. 2021, Surface Form Competition, arXiv:2104.08315: domain-conditional PMI.

    What a text adds to the likelihood of a label: log p(label | text) - log p(label | the prompt without a text).

    Args:
        likelihoods: (rows, labels) logarithms.
        premise: (labels,) the same of the prompt alone.
    """
    return likelihoods - premise


def sigmoid(logits: Array) -> Array:
    """The probability of a yes, without an overflow."""
    return (1 + np.tanh(logits / 2)) / 2
