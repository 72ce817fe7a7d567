import pytest

from hftransfer.functional.schedules import constant, linear, sigmoid


def test_ganins_ramp():
    assert sigmoid(0.0) == 0
    assert sigmoid(0.05) == pytest.approx(0.244919, abs=1e-6)
    assert sigmoid(1.0) == pytest.approx(0.999909, abs=1e-6)


def test_linear_and_constant():
    assert [linear(progress, 0.3, 0.15) for progress in (0.0, 0.5, 1.0)] == pytest.approx([0.3, 0.225, 0.15])
    assert constant(0.0) == constant(1.0) == 1
