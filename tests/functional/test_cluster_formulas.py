"""Formulas of clustering against closed forms and other implementations."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs

from hftransfer.functional.ctfidf import ctfidf
from hftransfer.functional.gap_statistic import dispersion, first_within, gap, knee, uniform_reference
from hftransfer.functional.spherical_kmeans import spherical_kmeans
from hftransfer.functional.unit import unit


def test_ctfidf_is_the_sum_written_out():
    counts = np.array([[3, 1, 0], [0, 1, 5]])
    found = ctfidf(counts)
    words_in_all = counts.sum(axis=0)
    mean = counts.sum() / 2
    for group in range(2):
        for word in range(3):
            share = counts[group, word] / counts[group].sum()
            assert found[group, word] == pytest.approx(share * np.log(1 + mean / words_in_all[word]))


def test_a_word_of_one_group_outranks_a_word_of_all_and_empty_groups_are_nothing():
    found = ctfidf(np.array([[4, 4, 0], [4, 0, 4], [0, 0, 0]]))
    assert found[0, 1] > found[0, 0] and found[1, 2] > found[1, 0]
    assert (found[2] == 0).all()


def test_dispersion_is_the_inertia_of_kmeans_and_falls_when_clusters_split():
    points, labels = make_blobs(80, centers=3, random_state=1)
    fitted = KMeans(3, n_init=3, random_state=0).fit(points)
    assert dispersion(points, fitted.labels_) == pytest.approx(fitted.inertia_)
    one = dispersion(points, np.zeros(80, dtype=int))
    assert one == pytest.approx(np.square(points - points.mean(axis=0)).sum()) and one > dispersion(points, labels)


def test_the_reference_fills_the_box_along_the_principal_axes():
    noise = np.random.default_rng(0)
    turn = np.array([[np.cos(0.6), -np.sin(0.6)], [np.sin(0.6), np.cos(0.6)]])
    points = noise.uniform(-1, 1, (4000, 2)) * [9, 0.5] @ turn
    made = uniform_reference(points, noise)
    assert made.shape == points.shape
    back = (made - made.mean(axis=0)) @ turn.T
    assert np.abs(back[:, 0]).max() == pytest.approx(9, rel=0.05) and np.abs(back[:, 1]).max() < 0.7
    np.testing.assert_allclose(np.cov(made.T), np.cov(points.T), rtol=0.15, atol=0.2)


def test_gap_and_its_error():
    value, error = gap(1.0, [1.5, 2.5])
    assert value == 1.0 and error == pytest.approx(0.5 * np.sqrt(1.5))
    assert first_within([2, 3, 4], [0.1, 0.9, 0.8], [0.05, 0.05, 0.05]) == 3
    assert first_within([2, 3, 4], [0.1, 0.5, 0.9], [0.05, 0.05, 0.05]) is None
    assert first_within([2, 3, 4], [0.1, 0.5, 0.9], [0.05, 0.45, 0.05]) == 2  # within its error


def test_the_knee_is_where_a_curve_bends():
    assert knee([1, 2, 3, 4, 5], [0, 3, 6, 6.5, 7]) == 3
    assert knee([1, 2, 3], [0, 1, 2]) is None and knee([1, 2], [0, 1]) is None
    assert knee([1, 2, 3, 4], [0, 0.1, 0.4, 2]) is None  # it bends the other way


def test_lengths_do_not_matter_to_spherical_kmeans():
    noise = np.random.default_rng(0)
    axes = np.repeat(np.eye(3), 30, axis=0) + 0.1 * noise.normal(size=(90, 3))
    long = axes * noise.uniform(0.1, 50, (90, 1))
    centres = spherical_kmeans(long, 3, seed=0)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1)
    labels = (unit(long) @ centres.T).argmax(axis=1)
    assert sorted(np.bincount(labels)) == [30, 30, 30] and len({*labels[:30]}) == 1
    np.testing.assert_array_equal(centres, spherical_kmeans(long, 3, seed=0))


def test_spherical_kmeans_stops_where_each_centre_is_the_mean_direction():
    rows = unit(np.random.default_rng(1).normal(size=(200, 6)))
    centres = spherical_kmeans(rows, 4, seed=2, tol=0.0)
    labels = (rows @ centres.T).argmax(axis=1)
    means = unit(np.stack([rows[labels == label].sum(axis=0) for label in range(4)]))
    np.testing.assert_allclose(centres, means, atol=1e-6)
    more = [(rows @ spherical_kmeans(rows, k, seed=2).T).max(axis=1).sum() for k in (2, 4, 8)]
    assert more == sorted(more)


def test_zeros_and_twins_do_no_harm():
    rows = np.array([[0.0, 0.0]] * 3 + [[1.0, 0.0]] * 3 + [[0.0, 2.0]] * 3)
    assert np.isfinite(spherical_kmeans(rows, 2, seed=0)).all()
    assert np.isfinite(spherical_kmeans(np.ones((5, 2)), 3, seed=0)).all()
