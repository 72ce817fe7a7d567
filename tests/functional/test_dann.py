import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from hftransfer.functional.dann import dann


def test_value_from_sklearn_and_reversed_gradient_by_hand():
    torch.manual_seed(0)
    source = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randn(3, 4, dtype=torch.float64)
    discriminator = torch.nn.Linear(4, 1).double()
    value = dann(features_source=source, features_target=target, discriminator=discriminator, progress=0.1)
    chances = [torch.sigmoid(discriminator(rows)).detach().numpy().ravel() for rows in (source, target)]
    expected = (
        log_loss(np.ones(6), chances[0], labels=[0, 1]) / 2 + log_loss(np.zeros(3), chances[1], labels=[0, 1]) / 2
    )
    assert value.item() == pytest.approx(expected, rel=1e-10)

    value.backward()
    slope = -(1 - chances[0])[:, None] * discriminator.weight.detach().numpy() / (2 * 6)  # of softplus(-z) / 2n
    coefficient = 2 / (1 + math.exp(-10 * 0.1)) - 1
    np.testing.assert_allclose(source.grad.numpy(), -coefficient * slope, rtol=1e-10)


def test_a_discriminator_that_cannot_tell_costs_log_two():
    def blind(rows):
        return torch.zeros(len(rows), 1)

    value = dann(
        features_source=torch.randn(6, 4), features_target=torch.randn(2, 4), discriminator=blind, progress=1.0
    )
    assert value.item() == pytest.approx(math.log(2))
