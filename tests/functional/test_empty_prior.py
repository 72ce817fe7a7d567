"""An empty input ends with even odds; what is alike for all rows changes nothing but the labels' balance."""

import numpy as np
import pytest

from hftransfer.functional.empty_prior import contextual_calibration, pointwise_information, sigmoid
from hftransfer.functional.softmax import softmax

RNG = np.random.default_rng(0)
LOGITS, EMPTY = RNG.normal(size=(20, 4)), RNG.normal(size=(1, 4))


def test_one_empty_input_has_even_probabilities():
    assert softmax(contextual_calibration(EMPTY, EMPTY)) == pytest.approx(np.full((1, 4), 0.25))
    assert sigmoid(contextual_calibration(EMPTY, EMPTY, independent=True)) == pytest.approx(np.full((1, 4), 0.5))


def test_the_papers_own_arithmetic():
    """W = diag(p_empty)^-1, b = 0, then the probabilities are normalised."""
    several = RNG.normal(size=(3, 4))
    weighted = softmax(LOGITS) @ np.diag(1 / softmax(several).mean(0))
    expected = weighted / weighted.sum(1, keepdims=True)
    assert softmax(contextual_calibration(LOGITS, several)) == pytest.approx(expected)


def test_odds_are_divided_by_the_empty_inputs_odds():
    prior = sigmoid(EMPTY[0])
    odds = np.exp(LOGITS) / (prior / (1 - prior))
    assert sigmoid(contextual_calibration(LOGITS, EMPTY, independent=True)) == pytest.approx(odds / (1 + odds))


def test_a_bias_of_the_labels_is_taken_out_whole():
    """A model that adds the same to a label of every input, the empty one too, says what it said without."""
    bias = np.array([3.0, -1.0, 0.5, 9.0])
    with_it = contextual_calibration(LOGITS + bias, EMPTY + bias)
    assert softmax(with_it) == pytest.approx(softmax(contextual_calibration(LOGITS, EMPTY)))
    information = pointwise_information(LOGITS + bias, EMPTY[0] + bias)
    assert information == pytest.approx(pointwise_information(LOGITS, EMPTY[0]))


def test_information_is_contextual_calibration_by_one_input():
    assert softmax(pointwise_information(LOGITS, EMPTY[0])) == pytest.approx(
        softmax(contextual_calibration(LOGITS, EMPTY))
    )


def test_extremes_stay_finite():
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(contextual_calibration(LOGITS, np.array([[900.0, 0, -900, 0]]))).all()
        assert np.isfinite(contextual_calibration(LOGITS, np.array([[900.0, 0, -900, 0]]), independent=True)).all()
        assert sigmoid(np.array([-900.0, 0, 900.0])).tolist() == [0, 0.5, 1]
