import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from hftransfer.functional.classification import (
    binary_cross_entropy,
    class_weights,
    cross_entropy,
    positive_weights,
)

REDUCTIONS = ["mean", "sum", "none"]


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(40, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (40,), generator=generator)
    labels[::7] = -100
    return logits, labels


@pytest.fixture
def tags():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(30, 3, generator=generator, dtype=torch.float64)
    return logits, (torch.rand(30, 3, generator=generator) < 0.3).double()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1, 2, 3], dtype=torch.float64)])
def test_without_focus_it_is_torchs(rows, weights, smoothing, reduction):
    logits, labels = rows
    ours = cross_entropy(logits, labels, weights=weights, smoothing=smoothing, reduction=reduction)
    torchs = F.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing, reduction=reduction)
    torch.testing.assert_close(ours, torchs)


def test_tokens_are_rows(rows):
    logits, labels = rows
    found = cross_entropy(logits.view(8, 5, 4), labels.view(8, 5), gamma=1.5)
    torch.testing.assert_close(found, cross_entropy(logits, labels, gamma=1.5))
    each = cross_entropy(logits.view(8, 5, 4), labels.view(8, 5), reduction="none")
    assert each.shape == (8, 5) and (each[labels.view(8, 5) == -100] == 0).all()


def test_focal_loss_of_the_paper(rows):
    logits, labels = rows
    kept = labels != -100
    right = logits.softmax(-1)[kept].gather(1, labels[kept][:, None])[:, 0]
    expected = (-((1 - right) ** 2) * right.log()).mean()
    torch.testing.assert_close(cross_entropy(logits, labels, gamma=2.0), expected)
    weights = torch.tensor([0.5, 1, 2, 3], dtype=torch.float64)
    each = -weights[labels[kept]] * (1 - right) ** 2 * right.log()
    torch.testing.assert_close(
        cross_entropy(logits, labels, weights=weights, gamma=2.0), each.sum() / weights[labels[kept]].sum()
    )


def test_focus_goes_to_cross_entropy_and_turns_to_what_is_wrong():
    logits = torch.tensor([[4.0, 0.0], [0.0, 1.0]], requires_grad=True)
    labels = torch.tensor([0, 0])  # the first is right, the second is not
    torch.testing.assert_close(
        cross_entropy(logits, labels, gamma=1e-7), cross_entropy(logits, labels), rtol=1e-5, atol=0
    )
    shares = []
    for gamma in (0.0, 2.0):
        (gradient,) = torch.autograd.grad(cross_entropy(logits, labels, gamma=gamma), logits)
        assert (gradient[:, 0] < 0).all() and (gradient[:, 1] > 0).all()  # downhill is towards the label
        shares.append(float(gradient[0, 1] / gradient.abs().sum()))
    assert shares[1] < shares[0] / 10


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_finite_where_all_is_certain(gamma, dtype):
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], dtype=dtype, requires_grad=True)
    labels = torch.tensor([0, 0])
    (first,) = torch.autograd.grad(cross_entropy(logits, labels, gamma=gamma), logits)
    (second,) = torch.autograd.grad(binary_cross_entropy(logits, torch.eye(2), gamma=gamma), logits)
    assert first.isfinite().all() and second.isfinite().all()
    assert cross_entropy(logits, labels).dtype == torch.float32


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1, 4], dtype=torch.float64)])
def test_binary_without_focus_is_torchs(tags, weights, reduction):
    torch.testing.assert_close(
        binary_cross_entropy(*tags, weights=weights, reduction=reduction),
        F.binary_cross_entropy_with_logits(*tags, pos_weight=weights, reduction=reduction),
    )


def test_binary_focal_loss_of_the_paper(tags):
    logits, labels = tags
    right = torch.where(labels == 1, logits.sigmoid(), 1 - logits.sigmoid())
    torch.testing.assert_close(
        binary_cross_entropy(logits, labels, gamma=2.0), (-((1 - right) ** 2) * right.log()).mean()
    )


def test_binary_is_two_classes_softmaxed(tags):
    logits, labels = (column[:, 0] for column in tags)
    pairs = torch.stack([torch.zeros_like(logits), logits], dim=1)
    for options in ({}, {"gamma": 2.0}, {"smoothing": 0.1}):
        torch.testing.assert_close(
            binary_cross_entropy(logits[:, None], labels[:, None], **options),
            cross_entropy(pairs, labels.long(), **options),
        )


def test_class_weights_are_sklearns_and_none_for_what_is_absent():
    labels = np.array([0] * 7 + [1] * 2 + [2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights(np.bincount(labels)), expected)
    np.testing.assert_allclose(class_weights([7, 2, 0, 1]), [*expected[:2], 0, expected[2]])
    assert class_weights([7, 2, 0, 1]) @ [7, 2, 0, 1] == pytest.approx(10)


def test_weighted_gradients_of_the_classes_balance():
    labels = torch.tensor([0] * 9 + [1])
    logits = torch.zeros(10, 2, requires_grad=True)
    weights = torch.as_tensor(class_weights([9, 1]), dtype=torch.float32)
    (gradient,) = torch.autograd.grad(cross_entropy(logits, labels, weights=weights), logits)
    torch.testing.assert_close(gradient.sum(0), torch.zeros(2))


def test_positive_weights_balance_each_class():
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]])
    weights = positive_weights(labels.sum(0).numpy(), 4)
    np.testing.assert_allclose(weights, [3, 1 / 3, 1])
    logits = torch.zeros(4, 3, requires_grad=True)
    loss = binary_cross_entropy(logits, labels, weights=torch.as_tensor(weights, dtype=torch.float32))
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient.sum(0)[:2], torch.zeros(2))
