"""Against scikit-learn where it computes the same, and what must not matter."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from hftransfer.functional.prototypes import expectation_maximisation, spherical_kmeans
from hftransfer.functional.softmax import softmax


def unit(values):
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.fixture
def groups():
    """(rows of length 1 around three directions, those directions turned away by some angle, true classes)."""
    rng = np.random.default_rng(0)
    directions = unit(rng.normal(size=(3, 8)))
    true = np.arange(90) % 3
    rows = unit(directions[true] + 0.1 * rng.normal(size=(90, 8)))
    return rows, unit(directions + 0.25 * rng.normal(size=(3, 8))), true


def test_kmeans_is_scikit_learns_where_clusters_lie_apart(groups):
    rows, start, _ = groups
    centres, classes = spherical_kmeans(rows, (rows @ start.T).argmax(1), start)
    peer = KMeans(3, init=start, n_init=1, tol=0).fit(rows)
    assert (classes == peer.labels_).all()
    assert centres == pytest.approx(unit(peer.cluster_centers_))


def test_kmeans_ends_where_every_row_is_nearest_to_its_classes_mean_direction(groups):
    rows, start, _ = groups
    rows = unit(rows + 0.8 * np.random.default_rng(1).normal(size=rows.shape))  # clusters that overlap
    centres, classes = spherical_kmeans(rows, (rows @ start.T).argmax(1), start)
    assert ((rows @ centres.T).argmax(1) == classes).all()
    assert centres == pytest.approx(np.stack([unit(rows[classes == k].sum(0)[None])[0] for k in range(3)]))
    before, after = ((rows @ c.T).max(1).sum() for c in (start, centres))
    assert after > before


def test_rows_in_another_order_are_in_the_same_classes(groups):
    rows, start, _ = groups
    order = np.random.default_rng(2).permutation(len(rows))
    first, second = (spherical_kmeans(r, (r @ start.T).argmax(1), start) for r in (rows, rows[order]))
    assert first[0] == pytest.approx(second[0])
    assert (first[1][order] == second[1]).all()


def test_a_class_without_rows_keeps_its_place(groups):
    rows, start, _ = groups
    start = np.concatenate([start, -rows.mean(0, keepdims=True) / np.linalg.norm(rows.mean(0))])
    centres, classes = spherical_kmeans(rows, (rows @ start.T).argmax(1), start)
    assert 3 not in classes
    assert centres[3] == pytest.approx(start[3])
    mixture = expectation_maximisation(rows, np.eye(4)[classes], start)
    assert mixture.means[3] == pytest.approx(start[3])
    assert mixture.shares[3] == 0
    assert np.isfinite(mixture.log_joint(rows)).all()


def test_em_is_scikit_learns_mixture_of_one_variance():
    """Of one number a row, its "tied" covariance is the same model; both climb from the same start to the same top."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(-2, 1, (60, 1)), rng.normal(2, 1, (140, 1))])
    start = softmax(-((rows - np.array([[-1.0, 1.0]])) ** 2))
    ours = expectation_maximisation(rows, start, np.array([[-1.0], [1.0]]), max_iterations=2000, tolerance=1e-10)
    peer = GaussianMixture(
        2, covariance_type="tied", means_init=[[-1.0], [1.0]], tol=1e-12, max_iter=2000, reg_covar=0
    )
    peer.fit(rows)
    assert ours.means == pytest.approx(peer.means_, abs=1e-4)
    assert ours.shares == pytest.approx(peer.weights_, abs=1e-4)
    assert ours.variance == pytest.approx(peer.covariances_[0, 0], abs=1e-4)
    assert softmax(ours.log_joint(rows)) == pytest.approx(peer.predict_proba(rows), abs=1e-3)


def test_em_never_lowers_the_likelihood(groups):
    rows, start, _ = groups
    rows = rows + 0.3 * np.random.default_rng(1).normal(size=rows.shape)
    begin = softmax(rows @ start.T)

    def likelihood(steps):
        mixture = expectation_maximisation(rows, begin, start, max_iterations=steps)
        joint = mixture.log_joint(rows) - rows.shape[1] / 2 * np.log(2 * np.pi * mixture.variance)
        return np.log(np.exp(joint).sum(1)).sum()

    climbed = [likelihood(steps) for steps in (1, 2, 4, 8, 16)]
    assert climbed == sorted(climbed) and climbed[-1] > climbed[0]


def test_rows_that_are_all_alike_stay_finite():
    rows = np.ones((5, 3))
    mixture = expectation_maximisation(rows, np.full((5, 2), 0.5), np.ones((2, 3)))
    assert np.isfinite(mixture.log_joint(rows)).all()
