"""What is told of clusters, their number and their quality: against sums written out, and of rows few or alike."""

import itertools

import numpy as np
import pytest
from sklearn import metrics
from sklearn.datasets import make_blobs
from sklearn.metrics.pairwise import cosine_similarity

from hftransfer.clusters import describe, fit, scores
from hftransfer.clusters.number import choose
from hftransfer.errors import HFTransferError
from hftransfer.functional.ctfidf import ctfidf
from hftransfer.functional.gap_statistic import dispersion


@pytest.fixture(scope="module")
def points():
    return make_blobs([50, 40, 30], n_features=6, cluster_std=0.6, random_state=4)[0]


def groups_by_hand(rows, threshold):
    """Chains of rows that are alike, found by walking."""
    alike, left, found = cosine_similarity(rows) >= threshold, set(range(len(rows))), []
    while left:
        group, border = set(), {min(left)}
        while border:
            group |= border
            border = {other for row in border for other in np.flatnonzero(alike[row]).tolist()} - group
        left -= group
        found += [sorted(group)] if len(group) > 1 else []
    return sorted(found, key=lambda group: (-len(group), group[0]))


@pytest.mark.parametrize("block", [1, 7, 500])
@pytest.mark.parametrize("threshold", [0.93, 0.97, 0.99])
def test_near_duplicates_are_the_chains_found_by_walking(monkeypatch, block, threshold):
    noise = np.random.default_rng(5)
    rows = noise.normal(size=(90, 4))
    rows[40:50] = rows[3] * noise.uniform(0.5, 3, (10, 1))
    monkeypatch.setattr(describe, "BLOCK", block)
    found = describe.near_duplicates(rows, threshold)
    assert found == groups_by_hand(rows, threshold) and len(found) > 1


def test_rows_that_are_all_alike_are_one_group_in_no_time():
    rows = 1 + 1e-4 * np.random.default_rng(0).normal(size=(3000, 8))
    assert describe.near_duplicates(rows, 0.98) == [list(range(3000))]
    assert describe.near_duplicates(np.ones((3000, 8)), 0.98) == [list(range(3000))]


def test_the_order_of_rows_changes_no_name_no_representative_and_no_outlier(points):
    labels = fit(points, "kmeans", k=3).labels
    texts = [f"{['apple pear', 'wheel road', 'cloud rain'][label]} thing" for label in labels]
    centres = np.stack([points[labels == label].mean(axis=0) for label in range(3)])
    order = np.random.default_rng(0).permutation(len(points))
    assert describe.words(texts, labels) == describe.words([texts[row] for row in order], labels[order])
    chosen = describe.representatives(points, labels, centres, 5)
    again = describe.representatives(points[order], labels[order], centres, 5)
    assert [[int(order[row]) for row in rows] for rows in again] == chosen
    far = describe.outliers(points, labels, centres)
    np.testing.assert_allclose(describe.outliers(points[order], labels[order], centres), far[order])
    for label in range(3):
        assert np.sqrt(np.square(far[labels == label]).mean()) == pytest.approx(1)


def test_representatives_are_their_clusters_nearest_and_the_same_text_in_another_batch_is_one(points):
    labels = fit(points, "kmeans", k=3).labels
    rows, both = np.concatenate([points, points + 1e-7]), np.concatenate([labels, labels])
    centres = np.stack([points[labels == label].mean(axis=0) for label in range(3)])
    for label, chosen in enumerate(describe.representatives(rows, both, centres, 4)):
        own = np.flatnonzero(labels == label)
        nearest = own[np.linalg.norm(points[own] - centres[label], axis=1).argsort()[:4]]
        assert [row % len(points) for row in chosen] == nearest.tolist()
    assert describe.representatives(np.ones((3, 2)), np.zeros(3, int), np.ones((1, 2)), 5) == [[0]]


def test_a_name_has_one_form_of_a_word_and_rather_telling_words_than_frequent_ones():
    texts = ["test tests testing array array array"] * 60 + ["wave waves filter array array array"] * 60
    labels = np.repeat([0, 1], 60)
    first, second = describe.words(texts, labels, top=3)
    assert first[0] == "test" and "tests" not in first and "testing" in first
    assert set(second[:2]) == {"filter", "wave"}
    counts = np.array([[9, 4, 0], [9, 0, 4]])
    share = counts / counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(ctfidf(counts, root=True), ctfidf(counts) / np.sqrt(np.where(share > 0, share, 1)))
    assert describe.words(["", "the", "12"] * 30, np.array([0, 1, 2] * 30)) == [[], [], []]


def matched_by_hand(labels, truth):
    """The best of all ways to give each class a cluster of its own."""
    clusters, classes = range(int(labels.max()) + 1), range(int(truth.max()) + 1)
    wide, narrow = (clusters, classes) if len(clusters) >= len(classes) else (classes, clusters)
    best = 0
    for chosen in itertools.permutations(wide, len(narrow)):
        pairs = zip(chosen, narrow, strict=True) if wide is clusters else zip(narrow, chosen, strict=True)
        best = max(best, sum(int(((labels == one) & (truth == two)).sum()) for one, two in pairs))
    return best / len(labels)


@pytest.mark.parametrize("clusters, classes", [(2, 4), (4, 4), (5, 3), (1, 3)])
def test_matched_accuracy_is_the_best_of_all_matchings_and_names_do_not_matter(clusters, classes):
    noise = np.random.default_rng(clusters)
    truth = noise.integers(0, classes, 60)
    labels = np.where(noise.random(60) < 0.6, truth % clusters, noise.integers(-1, clusters, 60))
    found = scores.matching(labels, truth)
    assert found.accuracy == pytest.approx(matched_by_hand(labels, truth))
    renamed = np.append(noise.permutation(clusters), -1)[labels]
    assert scores.matching(renamed, noise.permutation(classes)[truth]).accuracy == pytest.approx(found.accuracy)
    assert scores.external(labels, truth)["adjusted_rand"] == pytest.approx(metrics.adjusted_rand_score(truth, labels))
    matched = [one for one in found.classes if one is not None]
    assert len(matched) == len(set(matched)) == min(clusters, classes)
    assert found.counts.sum() == (labels >= 0).sum()


def test_noise_is_no_part_of_the_scores_without_labels(points):
    labels = fit(points, "kmeans", k=3).labels
    noisy = np.where(np.arange(120) % 7 == 0, -1, labels)
    kept = noisy >= 0
    found = scores.internal(points, noisy, 0)
    assert found["silhouette"] == pytest.approx(metrics.silhouette_score(points[kept], labels[kept]))
    assert found["davies_bouldin"] == pytest.approx(metrics.davies_bouldin_score(points[kept], labels[kept]))
    assert scores.internal(points, np.zeros(120, int), 0) == {}


def test_a_sampled_silhouette_is_near_the_whole_one_and_the_same_again(monkeypatch):
    points, labels = make_blobs([900, 300, 60], n_features=4, cluster_std=2.0, random_state=4)
    whole = scores.silhouette(points, labels, 0)
    monkeypatch.setattr(scores, "MOST_SILHOUETTE", 400)
    part = scores.silhouette(points, labels, 0)
    assert part != whole and part == pytest.approx(whole, abs=0.05) and part == scores.silhouette(points, labels, 0)


@pytest.mark.parametrize("method", ["kmeans", "ward"])
@pytest.mark.parametrize("k", [2, 4, 6])
def test_blobs_that_lie_apart_are_counted(method, k):
    centres = 9 * np.eye(6)[:k] - 3
    points, _ = make_blobs(40 * k, centers=centres, cluster_std=0.7, random_state=k)
    found = choose(points, range(2, 10), method, 0)
    assert found.k == k, found.rule
    within = {number: value for number, value, _ in found.curves["spread within"]}
    assert within[k] == pytest.approx(dispersion(points, fit(points, method, k=k).labels))
    assert found == choose(points, range(2, 10), method, 0)


def test_more_clusters_than_rows_that_differ_are_not_tried():
    rows = np.repeat(np.eye(4) * [1, 2, 4, 8], 9, axis=0)
    found = choose(rows, range(2, 9), "kmeans", 0)
    assert [number for number, *_ in found.curves["silhouette"]] == [2, 3] and "2 to 3 tried" in found.rule
    with pytest.raises(HFTransferError, match="try_k: only 2 of the rows differ, so no number can be chosen; give k"):
        choose(rows[:18], range(2, 9), "kmeans", 0)


def test_rows_that_all_lie_equally_far_apart_are_cut_into_as_many_as_are_asked_for():
    assert fit(np.eye(7), "complete", k=3).k == 3
    assert choose(np.eye(7), range(2, 6), "complete", 0).k in range(2, 6)


@pytest.mark.parametrize("method", ["kmeans", "ward", "spherical_kmeans"])
def test_rare_rows_make_clusters_unstable_and_no_error(points, method):
    rows = np.concatenate([np.repeat(points[:1], 100, axis=0), points[60:61], points[110:111]])
    found = scores.stability(rows, method, 3, 0)
    assert len(found) == scores.DRAWS and (found == 0).any() and found.mean() < 0.9
    assert scores.stability(points, method, 2, 0).mean() > 0.5
