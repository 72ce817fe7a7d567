"""Against the softmaxes that the paper and transformers' pipeline take."""

import numpy as np
import pytest

from hftransfer.functional.empty_prior import sigmoid
from hftransfer.functional.entailment import label_logits
from hftransfer.functional.softmax import softmax

LOGITS = np.random.default_rng(0).normal(size=(5, 4, 3))  # rows, labels, classes


def test_one_label_a_row():
    expected = np.exp(LOGITS[..., 2]) / np.exp(LOGITS[..., 2]).sum(1, keepdims=True)
    assert softmax(label_logits(LOGITS, entailment=2)) == pytest.approx(expected)


def test_each_label_by_itself():
    pair = np.exp(LOGITS[..., [0, 2]])
    expected = pair[..., 1] / pair.sum(-1)
    assert sigmoid(label_logits(LOGITS, entailment=2, contradiction=0)) == pytest.approx(expected)
