import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from hftransfer.functional.calibration import expected_calibration_error


def test_value_from_sklearns_curve():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet([0.5] * 4, size=500)
    labels = generator.integers(4, size=500)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    accuracy, claimed = calibration_curve(correct, confidence, n_bins=15)
    sizes, _ = np.histogram(confidence, bins=15, range=(0, 1))
    expected = (abs(accuracy - claimed) * sizes[sizes > 0] / 500).sum()
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected, rel=1e-10)


def test_by_hand():
    assert expected_calibration_error([[1.0, 0.0], [0.0, 1.0]], [0, 1]) == 0
    assert expected_calibration_error([[1.0, 0.0], [0.0, 1.0]], [1, 0]) == 1
    assert expected_calibration_error([[0.75, 0.25]] * 4, [0, 0, 0, 1]) == pytest.approx(0)
    assert expected_calibration_error([[0.75, 0.25]] * 4, [0, 0, 1, 1]) == pytest.approx(0.25)


def test_classes_that_stand_by_themselves_are_yes_or_no_answers():
    generator = np.random.default_rng(0)
    probabilities = generator.random((50, 3))
    labels = generator.integers(2, size=(50, 3))
    pairs = np.stack([1 - probabilities.ravel(), probabilities.ravel()], axis=1)
    expected = expected_calibration_error(pairs, labels.ravel())
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected)
    assert expected_calibration_error([[0.9, 0.1]], [[1, 0]]) == pytest.approx(0.1)
    assert expected_calibration_error([[0.9, 0.1]], [[0, 1]]) == pytest.approx(0.9)
