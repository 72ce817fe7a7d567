import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torchmetrics.image.fid import FrechetInceptionDistance

from hftransfer.errors import HFTransferError
from hftransfer.functional.frechet import frechet_distance


def exact_sample(mean, deviations, rows, seed=0):
    """Rows whose mean and covariance are exactly these."""
    rng = np.random.default_rng(seed)
    centred = rng.normal(size=(rows, len(mean)))
    centred -= centred.mean(0)
    white = np.linalg.qr(centred)[0] * np.sqrt(rows - 1)
    return white * deviations + mean


def written_out(one, two):
    product = sqrtm(np.cov(one.T) @ np.cov(two.T)).real
    return np.sum((one.mean(0) - two.mean(0)) ** 2) + np.trace(np.cov(one.T) + np.cov(two.T) - 2 * product)


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)), rng.normal(1, 2, size=(200, 6))


def test_closed_form_of_diagonal_gaussians():
    means, deviations = ([0.0, 1, -2, 5], [1.0, -1, 0, 5]), ([1.0, 2, 0.5, 3], [2.0, 2, 0.1, 0])
    first = exact_sample(means[0], deviations[0], 60)
    second = exact_sample(means[1], deviations[1], 40, seed=1)
    expected = np.square(np.subtract(*means)).sum() + np.square(np.subtract(*deviations)).sum()
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-10)


def test_the_matrix_square_root_written_out(samples):
    assert frechet_distance(*samples) == pytest.approx(written_out(*samples), rel=1e-9)


def test_torchmetrics_agrees(samples):
    class Identity(torch.nn.Module):
        num_features = 6

        def forward(self, rows):
            return rows

    metric = FrechetInceptionDistance(feature=Identity(), input_img_size=(6,), normalize=True).set_dtype(torch.float64)
    for rows, real in zip(samples, (True, False), strict=True):
        metric.update(torch.from_numpy(rows), real=real)
    assert frechet_distance(*samples) == pytest.approx(metric.compute().item(), rel=1e-6)


def test_invariances(samples):
    first, second = samples
    value = frechet_distance(first, second)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    assert frechet_distance(first @ turn + 9, second @ turn + 9) == pytest.approx(value, rel=1e-9)
    assert frechet_distance(second, first) == pytest.approx(value, rel=1e-12)
    assert frechet_distance(3 * first, 3 * second) == pytest.approx(9 * value, rel=1e-9)
    assert frechet_distance(first[::-1], second) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("rows, width", [(300, 6), (5, 40), (2, 40), (50, 1)])
def test_nothing_between_a_sample_and_itself_but_its_shift(rows, width):
    sample = 100 + np.random.default_rng(0).normal(size=(rows, width))
    for scale in range(1, 20):  # rounding falls on either side
        assert 0 <= frechet_distance(scale * sample, scale * sample[::-1]) < 1e-8
    assert frechet_distance(sample, sample + 2) == pytest.approx(4 * width, rel=1e-9)


def test_fewer_rows_than_columns():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(7, 20)), rng.normal(size=(9, 20))
    a, b = (np.cov(rows.T) for rows in (first, second))
    root = sqrtm(a + 1e-12 * np.eye(20)).real
    shared = np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(0)).sum()
    expected = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(a + b) - 2 * shared
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-5)
    # The same numbers in a space that has no room to spare.
    basis = np.linalg.qr(np.concatenate([first, second]).T)[0]
    assert frechet_distance(first @ basis, second @ basis) == pytest.approx(frechet_distance(first, second), rel=1e-9)


def test_a_feature_that_never_changes_does_no_harm(samples):
    first, second = (np.concatenate([rows, np.full((len(rows), 1), 4.0)], 1) for rows in samples)
    assert frechet_distance(first, second) == pytest.approx(frechet_distance(*samples), rel=1e-9)


def test_what_is_no_pair_of_samples_is_said():
    rows = np.ones((5, 3))
    with pytest.raises(HFTransferError, match=r"shapes \(5, 3\) and \(5, 2\)"):
        frechet_distance(rows, rows[:, :2])
    with pytest.raises(HFTransferError, match="1 rows are too few to compare samples; give at least 2"):
        frechet_distance(rows, rows[:1])
    with pytest.raises(HFTransferError, match="not finite"):
        frechet_distance(rows, rows * np.nan)
