import math

import pytest
import torch

from hftransfer.functional.pseudo_label import pseudo_label


def test_value_and_gradient_by_hand():
    probabilities = torch.tensor([[0.96, 0.04], [0.9, 0.1], [0.03, 0.97], [0.5, 0.5]], dtype=torch.float64)
    logits = probabilities.log().requires_grad_()
    value = pseudo_label(logits_target=logits)
    assert value.item() == pytest.approx(-(math.log(0.96) + math.log(0.97)) / 4)  # two confident rows of four
    value.backward()
    expected = torch.tensor([[-0.04, 0.04], [0.0, 0.0], [0.03, -0.03], [0.0, 0.0]], dtype=torch.float64) / 4
    torch.testing.assert_close(logits.grad, expected)


def test_threshold():
    logits = torch.tensor([[0.9, 0.1], [0.8, 0.2]]).log()
    assert pseudo_label(logits_target=logits).item() == 0
    assert pseudo_label(logits_target=logits, threshold=0.85).item() == pytest.approx(-math.log(0.9) / 2)
