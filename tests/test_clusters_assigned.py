"""A row belongs to the same cluster whether it was fitted or comes later, in any batch, type and order."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn import metrics
from sklearn.datasets import make_blobs

from hftransfer.clusters import METHODS, fit
from hftransfer.clusters.neighbours import first_of_twins, neighbours
from hftransfer.errors import HFTransferError

OPTIONS = {method: {} if method == "hdbscan" else {"k": 3} for method in METHODS}


@pytest.fixture(scope="module")
def points():
    return make_blobs([50, 40, 30], n_features=6, cluster_std=0.6, random_state=4)[0]


def rows_of(kind, points):
    noise = np.random.default_rng(0)
    return {
        "float16": points.astype(np.float16),
        "float32": points.astype(np.float32),
        "with twins": np.concatenate([points, points[::2], points[::3]]),
        "all but twins": np.concatenate([points, points + 1e-9 * noise.normal(size=points.shape)]),
        "a grid full of ties": noise.integers(0, 4, (200, 3)).astype(float),
        "far from the origin": points + 1e6,
    }[kind]


@pytest.mark.parametrize(
    "kind", ["float16", "float32", "with twins", "all but twins", "a grid full of ties", "far from the origin"]
)
@pytest.mark.parametrize("method", METHODS)
def test_fitted_rows_keep_their_cluster_in_any_batch(points, method, kind):
    rows = rows_of(kind, points)
    found = fit(rows, method, **OPTIONS[method])
    np.testing.assert_array_equal(found.assign(rows), found.labels)
    order = np.random.default_rng(1).permutation(len(rows))
    np.testing.assert_array_equal(found.assign(rows[order]), found.labels[order])
    alone = [found.assign(rows[row : row + 1])[0] for row in order[:20]]
    np.testing.assert_array_equal(alone, found.labels[order[:20]])
    counts = np.bincount(found.labels[found.labels >= 0], minlength=found.k)
    assert counts.min() > 0 and counts.tolist() == sorted(counts, reverse=True)


@pytest.mark.parametrize("method", METHODS)
def test_scaling_and_moving_all_rows_moves_none_to_another_cluster(points, method):
    found = fit(points, method, **OPTIONS[method])
    scaled = fit(8 * points, method, **OPTIONS[method])
    assert metrics.adjusted_rand_score(found.labels, scaled.labels) == 1
    if method != "spherical_kmeans":  # whose angles are seen from the origin
        moved = fit(points + 100, method, **OPTIONS[method])
        assert metrics.adjusted_rand_score(found.labels, moved.labels) == 1


def test_a_group_of_hdbscan_takes_a_row_within_its_own_spacing_and_no_farther():
    line = np.column_stack([np.arange(20) * 1.0, np.zeros(20)])
    rows = np.concatenate([line, line + np.array([0, 500.0])])
    found = fit(rows, "hdbscan", fields={"min_cluster_size": 5})
    assert found.k == 2 and found.reach == pytest.approx([1, 1])
    own = found.labels[19]
    new = np.array([[19.99, 0], [20.0, 0], [20.01, 0], [30, 0], [10, 250]])
    assert found.assign(new).tolist() == [own, own, -1, -1, -1]


def test_the_nearest_are_those_of_all_pairs_and_twins_give_the_first():
    noise = np.random.default_rng(0)
    reference, rows = noise.normal(size=(300, 5)), noise.normal(size=(90, 5))
    apart = cdist(rows, reference)
    distances, found = neighbours(rows, reference, 4)
    np.testing.assert_array_equal(found, apart.argsort(axis=1)[:, :4])
    np.testing.assert_allclose(distances, np.sort(apart, axis=1)[:, :4])
    far = np.concatenate([reference, reference[:9]]) + 1e7  # where a matrix product cannot tell rows apart
    distances, found = neighbours(far, far)
    assert (distances == 0).all() and found[:, 0].tolist() == [*range(300), *range(9)]
    assert neighbours(rows[:2], reference[:3], 3)[1].shape == (2, 3)


def test_first_of_twins_gives_the_rows_back():
    rows = np.random.default_rng(0).integers(0, 2, (40, 4)) * -1.0  # -0 among them
    first, twin = first_of_twins(rows)
    np.testing.assert_array_equal(rows[first][twin], rows)
    assert (np.diff(first) > 0).all() and (first[twin] <= np.arange(40)).all()
    assert len(first) == len(np.unique(rows + 0.0, axis=0))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "kmean", "k": 3}, r"method: there is no 'kmean'; did you mean 'kmeans'\?"),
        ({"method": "kmeans"}, "k: kmeans needs a number of clusters, found None"),
        ({"method": "kmeans", "k": 0}, "k: kmeans needs a number of clusters, found 0"),
        ({"method": "ward"}, "k: ward needs either k or distance"),
        ({"method": "ward", "k": 2, "distance": 1.0}, "k: ward needs either k or distance"),
        ({"method": "kmeans", "k": 3, "fields": {"n_init": -1}}, "estimator: .*'n_init' parameter of KMeans must be"),
        ({"method": "hdbscan", "fields": {"metric": "x"}}, "estimator: .*'metric' parameter of HDBSCAN must be"),
        ({"method": "hdbscan", "fields": {"min_cluster_size": 500}}, "estimator: .*at most the number of samples"),
        ({"method": "kmeans", "k": 121}, "k: 121 clusters of 120 rows"),
    ],
)
def test_mistakes_are_told_in_a_line(points, options, message):
    with pytest.raises(HFTransferError, match=message) as error:
        fit(points, **options)
    assert "\n" not in str(error.value)


def test_numbers_that_are_not_finite_are_told_by_row(points):
    broken = points.copy()
    broken[6, 1], broken[9, 0] = np.inf, np.nan
    with pytest.raises(HFTransferError, match=r"2 vectors hold numbers that are not finite \(rows 7, 10\)"):
        fit(broken, "ward", k=2)
