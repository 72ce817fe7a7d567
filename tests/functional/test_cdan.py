import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from scipy.stats import entropy

from hftransfer.functional.cdan import cdan


def draw(rows):
    return torch.randn(rows, 4, dtype=torch.float64), 3 * torch.randn(rows, 3, dtype=torch.float64, requires_grad=True)


def test_value_from_the_paper_row_by_row():
    torch.manual_seed(0)
    source, target = draw(6), draw(5)
    discriminator = torch.nn.Linear(12, 1).double()
    weight, bias = discriminator.weight.detach().numpy().ravel(), discriminator.bias.item()
    expected = 0.0
    for (features, logits), sign in ((source, 1), (target, -1)):
        predictions = softmax(logits.detach().numpy(), axis=1)
        certainty = 1 + np.exp(-entropy(predictions, axis=1))
        for f, g, w in zip(features.numpy(), predictions, certainty / certainty.sum(), strict=True):
            expected -= w * np.log(expit(sign * (np.outer(f, g).ravel() @ weight + bias))) / 2
    value = cdan(
        features_source=source[0],
        features_target=target[0],
        logits_source=source[1],
        logits_target=target[1],
        discriminator=discriminator,
        progress=0.5,
    )
    assert value.item() == pytest.approx(expected, rel=1e-10)


def test_predictions_condition_but_are_not_moved():
    (features_source, logits_source), (features_target, logits_target) = draw(6), draw(5)
    features_source.requires_grad_()
    value = cdan(
        features_source=features_source,
        features_target=features_target,
        logits_source=logits_source,
        logits_target=logits_target,
        discriminator=torch.nn.Linear(12, 1).double(),
        progress=0.5,
    )
    gradients = torch.autograd.grad(value, [features_source, logits_source, logits_target], allow_unused=True)
    assert gradients[0].norm() > 0 and gradients[1:] == (None, None)
