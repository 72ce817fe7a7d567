import pytest

from hftransfer.functional.schedules import sigmoid


def test_ganins_ramp():
    assert sigmoid(0.0) == 0
    assert sigmoid(0.05) == pytest.approx(0.244919, abs=1e-6)
    assert sigmoid(1.0) == pytest.approx(0.999909, abs=1e-6)
