"""Cases by hand."""

import numpy as np
import pytest

from hftransfer.functional.abstention import selective_accuracy

CONFIDENCE, RIGHT = np.array([0.9, 0.5, 0.6, 0.2]), np.array([True, False, True, False])


def test_what_is_left_of_the_rows():
    found = selective_accuracy(CONFIDENCE, RIGHT, [0, 0.5, 0.55, 1])
    assert [row.coverage for row in found] == [1, 0.75, 0.5, 0]
    assert [row.accuracy for row in found] == [0.5, pytest.approx(2 / 3), 1, None]


def test_coverage_never_rises_with_the_threshold():
    confidence = np.random.default_rng(0).random(100)
    covered = [row.coverage for row in selective_accuracy(confidence, confidence > 0.5, np.linspace(0, 1, 11))]
    assert covered == sorted(covered, reverse=True) and covered[0] == 1
