import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from hftransfer.functional.mcc import mcc


def test_value_from_the_paper_loop_by_loop():
    logits = np.random.default_rng(0).normal(size=(6, 3)) * 3
    probabilities = softmax(logits / 2.5, axis=1)
    weights = 1 + np.exp(-entropy(probabilities, axis=1))
    weights = 6 * weights / weights.sum()
    confusion = np.zeros((3, 3))
    for row, weight in zip(probabilities, weights, strict=True):
        confusion += weight * np.outer(row, row)
    confusion /= confusion.sum(axis=1, keepdims=True)
    expected = sum(confusion[i, j] for i in range(3) for j in range(3) if i != j) / 3
    assert mcc(logits_target=torch.tensor(logits)).item() == pytest.approx(expected, rel=1e-12)


def test_bounds():
    assert mcc(logits_target=torch.eye(4) * 1000).item() == pytest.approx(0)
    assert mcc(logits_target=torch.zeros(5, 4)).item() == pytest.approx(3 / 4)


def test_a_class_without_mass_is_no_confusion():
    logits = torch.tensor([[1000.0, 0.0, -1000.0], [0.0, 1000.0, -1000.0]], requires_grad=True)
    value = mcc(logits_target=logits)
    value.backward()
    assert value.item() == 0 and logits.grad.isfinite().all()


def test_a_rare_class_weighs_as_much_as_any():
    logits = torch.tensor([[0.0, -2.5 * 12, -2.5 * 12]] * 4, dtype=torch.float64)  # classes of mass exp(-12)
    assert mcc(logits_target=logits).item() == pytest.approx(2 / 3, abs=1e-4)  # both are wholly taken for the first
