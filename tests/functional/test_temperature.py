import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.nn import functional as F

from hftransfer.functional.calibration import expected_calibration_error
from hftransfer.functional.temperature import HIGHEST, LOWEST, temperature


def softmax(logits):
    return torch.as_tensor(logits).softmax(-1).numpy()


def nll(logits, labels):
    wide = torch.as_tensor(logits)
    if labels.ndim == 2:
        return float(F.binary_cross_entropy_with_logits(wide, torch.as_tensor(labels, dtype=wide.dtype)))
    return float(F.cross_entropy(wide, torch.as_tensor(labels)))


@pytest.fixture(params=["softmax", "sigmoid"])
def honest(request):
    """Logits, and labels drawn from what they say: their temperature is 1."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 4))
    if request.param == "sigmoid":
        return logits, (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(int)
    labels = (softmax(logits).cumsum(1) > rng.random((len(logits), 1))).argmax(1)
    return logits, labels


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found(honest, true):
    logits, labels = honest
    assert temperature(true * logits, labels) == pytest.approx(true, rel=0.03)


def test_it_is_the_minimum_and_scales_with_the_logits(honest):
    logits, labels = honest
    found = temperature(3 * logits, labels)
    best = minimize_scalar(lambda t: nll(3 * logits / t, labels), bounds=(0.1, 10), options={"xatol": 1e-8})
    assert found == pytest.approx(best.x, rel=1e-4)
    assert temperature(6 * logits, labels) == pytest.approx(2 * found, rel=1e-9)
    assert nll(3 * logits / found, labels) < nll(3 * logits, labels)


def test_order_of_rows_and_a_shift_of_all_logits_do_not_matter():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (200, 5)), rng.integers(5, size=200)
    order, found = rng.permutation(200), temperature(logits, labels)
    assert temperature(logits[order], labels[order]) == pytest.approx(found, rel=1e-9)
    assert temperature(logits + rng.normal(0, 5, (200, 1)), labels) == pytest.approx(found, rel=1e-9)


def test_calibration_error_falls_and_no_class_changes(honest):
    logits, labels = honest
    claimed = 4 * logits
    settled = claimed / temperature(claimed, labels)
    if labels.ndim == 2:
        before, after = (1 / (1 + np.exp(-given)) for given in (claimed, settled))
    else:
        before, after = softmax(claimed), softmax(settled)
    assert expected_calibration_error(before, labels) > 0.1 > 0.02 > expected_calibration_error(after, labels)
    assert (before.argmax(1) == after.argmax(1)).all()


def test_bounds_where_all_is_right_wrong_or_equal():
    logits = np.array([[2.0, 0.0], [0.0, 1.0]])
    assert temperature(logits, [0, 1]) == pytest.approx(LOWEST)
    assert temperature(logits, [1, 0]) == pytest.approx(HIGHEST)
    assert temperature(10 * logits, [0, 1]) == pytest.approx(LOWEST)
    assert temperature(np.zeros((3, 2)), [0, 1, 1]) == 1
    assert temperature(10_000 * logits, [0, 1]) == 1
    assert temperature(logits, [[1, 0], [0, 1]]) == pytest.approx(LOWEST)
