import numpy as np
import pytest
import torch

from hftransfer.functional.coral import coral


def test_value_from_numpy_covariances():
    torch.manual_seed(0)
    source, target = torch.randn(9, 4, dtype=torch.float64), 3 * torch.randn(5, 4, dtype=torch.float64)
    difference = np.cov(source.numpy(), rowvar=False) - np.cov(target.numpy(), rowvar=False)
    value = coral(features_source=source, features_target=target).item()
    assert value == pytest.approx(np.linalg.norm(difference, "fro") ** 2 / (4 * 4**2), rel=1e-12)


def test_a_shift_of_the_mean_is_not_seen():
    torch.manual_seed(0)
    source = torch.randn(9, 4, dtype=torch.float64)
    assert coral(features_source=source, features_target=source + 7).item() < 1e-20


def test_one_row_has_no_covariance_to_align():
    lonely = torch.randn(1, 4, requires_grad=True)
    value = coral(features_source=torch.randn(6, 4), features_target=lonely)
    value.backward()
    assert value.item() == 0 and (lonely.grad == 0).all()
