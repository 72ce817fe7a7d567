"""Against scikit-learn where it computes the same, and what must not matter."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from hftransfer.functional.prototypes import expectation_maximisation, principal_axes, spherical_kmeans
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


def test_em_is_scikit_learns_mixture_of_one_covariance():
    """Both climb from the same start to the same top."""
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(3, 3))
    true = np.repeat([0, 1], [60, 140])
    rows = rng.normal(size=(200, 3)) @ spread + 4 * np.array([[-1, 0, 1], [1, 1, 0]])[true]
    start = np.array([[-3.0, 0, 3], [3, 3, 0]])
    begin = softmax(-((rows[:, None] - start) ** 2).sum(-1) / 9)
    ours = expectation_maximisation(rows, begin, start, max_iterations=2000, tolerance=1e-12)
    peer = GaussianMixture(2, covariance_type="tied", means_init=start, tol=1e-12, max_iter=2000, reg_covar=1e-8)
    peer.fit(rows)
    assert ours.means == pytest.approx(peer.means_, abs=1e-3)
    assert ours.shares == pytest.approx(peer.weights_, abs=1e-4)
    assert ours.covariance == pytest.approx(peer.covariances_, abs=1e-3)
    assert softmax(ours.log_joint(rows)) == pytest.approx(peer.predict_proba(rows), abs=1e-3)


def test_em_sees_classes_that_lie_beside_each_other_along_a_narrow_way():
    """Within the classes rows differ more than between them, but in another direction."""
    rng = np.random.default_rng(0)
    true = np.arange(400) % 2
    rows = np.stack([rng.normal(0, 3, 400), 2.0 * true + rng.normal(0, 0.3, 400)], axis=1)
    start = np.array([[-0.5, 0.8], [0.5, 1.2]])
    begin = softmax(-((rows[:, None] - start) ** 2).sum(-1))
    found = expectation_maximisation(rows, begin, start)
    assert (found.log_joint(rows).argmax(1) == true).mean() > 0.99
    assert (begin.argmax(1) == true).mean() < 0.8


def test_shrinkage_goes_from_one_covariance_to_a_sphere(groups):
    rows, start, _ = groups
    whole = expectation_maximisation(rows, softmax(rows @ start.T), start, shrinkage=1.0)
    variances = np.diag(whole.covariance)
    assert whole.covariance == pytest.approx(np.diag(variances)) and np.ptp(variances) < 1e-12


def test_em_never_lowers_the_likelihood(groups):
    rows, start, _ = groups
    rows = rows + 0.3 * np.random.default_rng(1).normal(size=rows.shape)
    begin = softmax(rows @ start.T)

    def likelihood(steps):
        mixture = expectation_maximisation(rows, begin, start, max_iterations=steps)
        each = [multivariate_normal(mean, mixture.covariance).pdf(rows) for mean in mixture.means]
        return np.log(mixture.shares @ np.stack(each)).sum()

    climbed = [likelihood(steps) for steps in (1, 2, 4, 8, 16)]
    assert climbed == sorted(climbed) and climbed[-1] > climbed[0]


def test_principal_axes_are_scikit_learns():
    rows = np.random.default_rng(0).normal(size=(50, 6)) @ np.diag([5, 4, 3, 2, 1, 0.5])
    mean, axes = principal_axes(rows, 3)
    peer = PCA(3).fit(rows)
    assert mean == pytest.approx(peer.mean_)
    assert np.abs(axes.T @ peer.components_.T) == pytest.approx(np.eye(3), abs=1e-6)


def test_rows_that_are_all_alike_stay_finite():
    rows = np.ones((5, 3))
    mixture = expectation_maximisation(rows, np.full((5, 2), 0.5), np.ones((2, 3)))
    assert np.isfinite(mixture.log_joint(rows)).all()
