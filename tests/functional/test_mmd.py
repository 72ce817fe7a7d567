import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel

from hftransfer.functional.mmd import mmd


def test_value_from_sklearn_kernels():
    torch.manual_seed(0)
    source, target = torch.randn(7, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64) + 1
    rows = np.concatenate([source.numpy(), target.numpy()])
    mean_squared = (euclidean_distances(rows) ** 2).mean()
    expected = 0.0
    for k in (-3, -2, -1, 0, 1):
        kernel = rbf_kernel(rows, gamma=1 / (2 * 2.0**k * mean_squared))
        expected += kernel[:7, :7].mean() + kernel[7:, 7:].mean() - 2 * kernel[:7, 7:].mean()
    assert mmd(features_source=source, features_target=target).item() == pytest.approx(expected, rel=1e-10)


def test_grows_with_the_shift_and_ignores_the_scale():
    torch.manual_seed(0)
    source, target = torch.randn(20, 4, dtype=torch.float64), torch.randn(20, 4, dtype=torch.float64)
    near = mmd(features_source=source, features_target=target + 0.5)
    far = mmd(features_source=source, features_target=target + 3)
    assert 0 <= near < far < 10
    torch.testing.assert_close(mmd(features_source=100 * source, features_target=100 * (target + 3)), far)


def test_bandwidths_pass_no_gradient():
    torch.manual_seed(0)
    source, target = torch.randn(9, 4, dtype=torch.float64, requires_grad=True), torch.ones(9, 4, dtype=torch.float64)
    target.requires_grad_()
    slopes = torch.autograd.grad(mmd(features_source=source, features_target=target), [source, target])
    # Were they to, the value's indifference to scale would make this, its slope along scale, exactly zero.
    assert abs((slopes[0] * source).sum() + (slopes[1] * target).sum()) > 1e-3


def test_float32_is_exact_far_from_the_origin():
    torch.manual_seed(0)
    source, target = 1000 + 0.1 * torch.randn(40, 4), 1000.1 + 0.1 * torch.randn(40, 4)
    exact = mmd(features_source=source.double(), features_target=target.double()).float()
    torch.testing.assert_close(mmd(features_source=source, features_target=target), exact, rtol=1e-4, atol=0)
