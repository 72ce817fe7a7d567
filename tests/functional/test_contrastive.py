import pytest
import torch
from torch.nn import functional as F

from hftransfer.functional.contrastive import cosine_pairs


@pytest.fixture
def rows():
    torch.manual_seed(0)
    return torch.randn(9, 5, dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 1])


def pair_by_pair(features, labels):
    like, unlike = [], []
    for i in range(len(features)):
        for j in range(i):
            cosine = F.cosine_similarity(features[i], features[j], dim=0)
            if labels[i] == labels[j]:
                like.append((1 - cosine) ** 2)
            else:
                unlike.append(cosine**2)
    kinds = [torch.stack(kind).mean() for kind in (like, unlike) if kind]
    return sum(kinds) / len(kinds)


def test_value_and_gradient_are_those_of_a_loop_over_pairs(rows):
    features, labels = rows
    ours, theirs = cosine_pairs(features, labels), pair_by_pair(features, labels)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(loss, features)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("labels", [torch.zeros(9, dtype=torch.long), torch.arange(9)])
def test_one_kind_of_pair_counts_fully(rows, labels):
    torch.testing.assert_close(cosine_pairs(rows[0], labels), pair_by_pair(rows[0], labels))


def test_order_names_and_lengths_do_not_matter(rows):
    features, labels = rows
    expected = cosine_pairs(features, labels)
    order = torch.randperm(9)
    torch.testing.assert_close(cosine_pairs(features[order], labels[order]), expected)
    torch.testing.assert_close(cosine_pairs(features, 7 - labels), expected)
    torch.testing.assert_close(cosine_pairs(features * torch.rand(9, 1).add(0.1), labels), expected)


def test_its_least_value():
    labels = torch.tensor([0, 0, 1, 2])
    together = torch.eye(3)[labels]
    assert float(cosine_pairs(together, labels)) == pytest.approx(0, abs=1e-6)
    assert float(cosine_pairs(-together, labels)) == pytest.approx(0, abs=1e-6)
    assert float(cosine_pairs(torch.ones(4, 3), labels)) == pytest.approx(0.5)


def test_a_single_row_and_zeros_have_finite_gradients():
    for count in (1, 2):
        features = torch.zeros(count, 3, requires_grad=True)
        loss = cosine_pairs(features, torch.zeros(count, dtype=torch.long))
        loss.backward()
        assert features.grad.isfinite().all()
    assert float(cosine_pairs(torch.ones(1, 3), torch.tensor([0]))) == 0


def test_half_precision_is_widened(rows):
    features = rows[0].detach().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = cosine_pairs(features, rows[1])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, pair_by_pair(features.float(), rows[1]))
