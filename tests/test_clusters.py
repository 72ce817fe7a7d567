"""The library behind `cluster`: reductions, planes, groups, their number, scores and words; saved and found again."""

import numpy as np
import pytest
import skops.io
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn import metrics
from sklearn.datasets import load_digits, make_blobs
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression

from hftransfer import clusters
from hftransfer.clusters import METHODS, describe, fit, fit_plane, fit_reduction, methods, reduce, scores
from hftransfer.clusters.number import choose, vote
from hftransfer.errors import HFTransferError

OPTIONS = {method: {} if method == "hdbscan" else {"k": 3} for method in METHODS}


@pytest.fixture(scope="module")
def blobs():
    return make_blobs([50, 40, 30], n_features=6, cluster_std=0.6, random_state=4)


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:600]


def test_pca_is_scikit_learns_and_keeps_the_share_that_was_asked_for(digits):
    found = fit_reduction(digits, "pca", components=0.9)
    peer = PCA(0.9, svd_solver="full").fit(digits)
    assert found.transform(digits).shape == (600, peer.n_components_)
    np.testing.assert_allclose(np.abs(found.transform(digits)), np.abs(peer.transform(digits)), atol=1e-6)
    assert found.explained[: peer.n_components_].sum() >= 0.9 and found.explained.sum() == pytest.approx(1)
    lengths = np.linalg.norm(fit_reduction(digits, "none", normalize=True).transform(digits), axis=1)
    np.testing.assert_allclose(lengths, 1)
    white = fit_reduction(digits, "pca", components=5, whiten=True).transform(digits)
    np.testing.assert_allclose(white.var(axis=0, ddof=1), 1, atol=1e-6)


def test_a_pca_of_blocks_is_the_whole_ones_and_reads_a_memory_map(digits, tmp_path, monkeypatch):
    file = np.memmap(tmp_path / "rows", np.float64, "w+", shape=digits.shape)
    file[:] = digits
    monkeypatch.setattr(reduce, "AT_ONCE", 100)
    found = fit_reduction(file, "incremental_pca", components=4).transform(file)
    whole = PCA(4).fit_transform(digits)
    np.testing.assert_allclose(np.abs(found), np.abs(whole), rtol=0.05, atol=0.5)
    with pytest.raises(HFTransferError, match=r"components: incremental_pca needs a number, found 0\.5"):
        fit_reduction(digits, "incremental_pca", components=0.5)


def test_likelihood_finds_the_number_that_there_is():
    noise = np.random.default_rng(0)
    rows = noise.normal(size=(400, 4)) @ (3 * noise.normal(size=(4, 20))) + 0.3 * noise.normal(size=(400, 20))
    found = fit_reduction(rows, "pca", components="likelihood")
    assert found.transform(rows).shape[1] == 4
    assert max(found.likelihood, key=lambda one: one[1])[0] == 4 and "held-out rows are likeliest" in found.says


@pytest.mark.parametrize("how", ["pca", "tsne"])
def test_rows_lie_where_they_lay_and_new_ones_beside_their_likes(blobs, how):
    points, labels = blobs
    plane = fit_plane(points[::2], how)
    np.testing.assert_allclose(plane.place(points[::2]), plane.points, atol=1e-9)
    new = plane.place(points[1::2])
    centres = np.stack([plane.points[labels[::2] == label].mean(axis=0) for label in range(3)])
    nearest = np.linalg.norm(new[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == labels[1::2]).mean() > 0.95
    assert 0.5 < plane.kept <= 1
    np.testing.assert_array_equal(plane.points, fit_plane(points[::2], how).points)


def test_numbers_that_are_a_plane_already():
    points = np.random.default_rng(0).normal(size=(9, 2))
    np.testing.assert_array_equal(fit_plane(points, "none").points, points)
    assert (fit_plane(points[:, :1], "none").points[:, 1] == 0).all()
    with pytest.raises(HFTransferError, match="map: rows of 3 numbers have no plane of their own"):
        fit_plane(np.ones((5, 3)), "none")


@pytest.mark.parametrize("method", METHODS)
def test_fitted_rows_are_assigned_to_their_own_clusters(blobs, method):
    points, truth = blobs
    found = fit(points, method, **OPTIONS[method])
    np.testing.assert_array_equal(found.assign(points), found.labels)
    counts = np.bincount(found.labels[found.labels >= 0])
    assert counts.tolist() == sorted(counts, reverse=True) and found.k == len(counts)
    near = points + 1e-3
    assert (found.assign(near) == found.labels)[found.labels >= 0].mean() > 0.95
    if method != "spherical_kmeans":
        assert metrics.adjusted_rand_score(truth, found.labels) > 0.9
    order = np.random.default_rng(0).permutation(len(points))
    again = fit(points[order], method, **OPTIONS[method])
    assert metrics.adjusted_rand_score(found.labels[order], again.labels) > 0.9
    np.testing.assert_array_equal(found.labels, fit(points, method, **OPTIONS[method]).labels)


def test_a_hierarchy_is_scipys(blobs):
    points, _ = blobs
    tree = linkage(points, "ward")
    found = fit(points, "ward", k=5)
    np.testing.assert_allclose(found.tree, tree)
    assert metrics.adjusted_rand_score(fcluster(tree, 5, "maxclust"), found.labels) == 1
    assert len(np.unique(fcluster(tree, found.cut, "distance"))) == 5
    by_distance = fit(points, "ward", distance=found.cut)
    np.testing.assert_array_equal(by_distance.labels, found.labels)
    with pytest.raises(HFTransferError, match=r"distance: a cut at 1e.06 leaves one cluster; the last two join at"):
        fit(points, "ward", distance=1e6)


def test_many_rows_are_joined_by_way_of_small_groups(blobs, monkeypatch):
    points, truth = blobs
    monkeypatch.setattr(methods, "MOST_IN_TREE", 100)
    monkeypatch.setattr(methods, "MICRO", 20)
    found = fit(points, "ward", k=3)
    assert len(found.tree) == 19 and metrics.adjusted_rand_score(truth, found.labels) > 0.95
    assert "20 small groups" in found.says and len(found.leaves) == 20
    np.testing.assert_array_equal(found.assign(points), found.labels)


def test_noise_stays_noise(blobs):
    points, _ = blobs
    far = np.concatenate([points, points.mean(axis=0) + 100 * np.eye(6)])
    found = fit(far, "hdbscan")
    assert (found.labels[-6:] == -1).all() and found.k == 3
    assert (found.assign(far[-6:] + 1) == -1).all() and (found.assign(points[:1] + 50) == -1).all()
    with pytest.raises(HFTransferError, match=r"estimator\.min_cluster_size: hdbscan finds no cluster"):
        fit(np.random.default_rng(0).normal(size=(30, 6)), "hdbscan", fields={"min_cluster_size": 29})


def test_the_number_is_found_and_all_curves_are_told():
    points, _ = make_blobs(300, centers=5, cluster_std=0.4, random_state=2)
    found = choose(points, range(2, 10), "kmeans", 0)
    assert found.k == 5
    assert {len(curve) for curve in found.curves.values()} == {8} and len(found.curves) == 6
    assert choose(points, range(2, 10), "ward", 0).k == 5


def curves(silhouette, gap, stability, error=0.01):
    ks = range(2, 2 + len(gap))
    shapes = {"silhouette": silhouette, "gap": gap, "stability": stability}
    return {name: [(k, value, error) for k, value in zip(ks, values, strict=True)] for name, values in shapes.items()}


@pytest.mark.parametrize(
    ("shapes", "chosen", "told"),
    [
        (([0.1, 0.5, 0.2, 0.1], [0.1, 0.9, 0.8, 0.7], [0.5, 1, 0.6, 0.5]), 3, "they agree"),
        (([0.1, 0.2, 0.5, 0.1], [0.1, 0.9, 0.8, 0.7], [1, 0.5, 0.5, 0.5]), 3, "their median"),
        (([0.1, 0.2, 0.3, 0.4], [0.1, 0.6, 0.7, 0.8], [1, 0.5, 0.5, 0.5]), 3, "its knee 3; stability 2; the larger"),
        (([0.1, 0.2, 0.3, 0.4], [0.5, 0.499, 0.9, 1.2], [1, 0.5, 0.5, 0.5]), 2, "gap none"),
    ],
)
def test_the_rule(shapes, chosen, told):
    found, words = vote(curves(*shapes))
    assert (found, told in words) == (chosen, True), words


def test_scores_are_scikit_learns_and_the_matching_is_the_best(blobs):
    points, truth = blobs
    labels = fit(points, "kmeans", k=5).labels
    inside = scores.internal(points, labels, 0)
    assert inside["silhouette"] == pytest.approx(metrics.silhouette_score(points, labels))
    outside = scores.external(labels, truth)
    assert outside["adjusted_rand"] == pytest.approx(metrics.adjusted_rand_score(truth, labels))
    matched = scores.matching(labels, truth)
    assert matched.counts.sum() == len(labels) and sum(own is not None for own in matched.classes) == 3
    import itertools

    best = max(sum(matched.counts[row, column] for column, row in enumerate(rows))
               for rows in itertools.permutations(range(5), 3))  # fmt: skip
    assert matched.accuracy == outside["matched_accuracy"] == best / len(labels)
    noisy = labels.copy()
    noisy[:10] = -1
    assert scores.matching(noisy, truth).accuracy <= matched.accuracy
    assert scores.stability(points, "kmeans", 3, 0).mean() > 0.95 > scores.stability(points, "kmeans", 7, 0).mean()


def test_words_middles_and_what_is_odd():
    texts = ["the cat sat"] * 3 + ["the dog ran"] * 3 + ["12 %"]
    labels = np.array([0, 0, 0, 1, 1, 1, -1])
    found = describe.words(texts, labels, top=2)
    assert found == [["cat", "sat"], ["dog", "ran"]]
    assert describe.words(["1", "2"], np.array([0, 1])) == [[], []]
    rows = np.array([[0.0, 0], [0, 0], [1, 0], [9, 9], [9, 8], [9, 7], [4, 4]])
    centres = np.array([[0.3, 0], [9, 8.0]])
    assert describe.representatives(rows, labels, centres, 2) == [[0, 2], [4, 3]]  # a twin is left out
    far = describe.outliers(rows, labels, centres)
    assert far.argmax() == 6 and far[4] == 0
    assert np.sqrt(np.mean(far[3:6] ** 2)) == pytest.approx(1)


def test_near_duplicates_are_chains_of_all_pairs(monkeypatch):
    noise = np.random.default_rng(0)
    rows = noise.normal(size=(40, 8))
    rows[7], rows[31], rows[20] = 2 * rows[3], rows[3] + 1e-3, rows[19]
    assert describe.near_duplicates(rows, 0.999) == [[3, 7, 31], [19, 20]]
    monkeypatch.setattr(describe, "BLOCK", 6)
    assert describe.near_duplicates(rows, 0.999) == [[3, 7, 31], [19, 20]]
    assert describe.near_duplicates(rows[:3], 0.999) == []


@pytest.mark.parametrize("method", METHODS)
def test_what_is_saved_predicts_the_same(blobs, tmp_path, method):
    points, _ = blobs
    reduction = fit_reduction(points, "pca", components=4)
    reduced = reduction.transform(points)
    fitted, plane = fit(reduced, method, **OPTIONS[method]), fit_plane(reduced, "tsne")
    clusters.save(tmp_path, reduction, fitted, plane, [f"name {label}" for label in range(fitted.k)])
    opened = clusters.load(tmp_path)
    new = points + 0.05
    np.testing.assert_array_equal(opened.predict(points), fitted.labels)
    np.testing.assert_array_equal(opened.predict(new), fitted.assign(reduction.transform(new)))
    np.testing.assert_allclose(opened.place(new), plane.place(reduction.transform(new)))
    assert opened.names[0] == "name 0" and not list(tmp_path.glob("*.pkl"))
    if (tmp_path / "estimator.skops").exists() and method == "kmeans":
        file = tmp_path / "estimator.skops"
        own = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
        np.testing.assert_array_equal(own.predict(reduced), fitted.labels)


def test_only_trusted_classes_are_loaded(blobs, tmp_path):
    points, _ = blobs
    reduction, plane = fit_reduction(points, "pca", components=2), fit_plane(points[:, :2], "none")
    clusters.save(tmp_path, reduction, fit(points, "kmeans", k=3), plane, list("abc"))

    class Stranger(LinearRegression):
        pass

    Stranger.__module__ = "somewhere.else"
    skops.io.dump(Stranger(), tmp_path / "reduction.skops")
    with pytest.raises(
        HFTransferError, match=r"reduction\.skops holds somewhere\.else\.Stranger, which is not trusted"
    ):
        clusters.load(tmp_path)
    (tmp_path / "reduction.skops").write_bytes(b"PK cut")
    with pytest.raises(HFTransferError, match=r"reduction\.skops in .* cannot be read") as error:
        clusters.load(tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(HFTransferError, match="holds no clusters"):
        clusters.load(tmp_path / "nowhere")


def test_rows_that_do_not_fit_are_told(blobs):
    points, _ = blobs
    reduction = fit_reduction(points, "pca", components=2)
    with pytest.raises(HFTransferError, match="data: vectors of 5 numbers, and the clusters were made of 6"):
        reduction.transform(points[:, :5])
    broken = points.copy()
    broken[[3, 8], 0] = np.nan
    with pytest.raises(HFTransferError, match=r"data: 2 vectors hold numbers that are not finite \(rows 4, 9\)"):
        fit_reduction(broken, "pca")
    with pytest.raises(HFTransferError, match="data: all rows are the same"):
        fit_reduction(np.ones((9, 3)), "pca")
    with pytest.raises(HFTransferError, match="k: 4 clusters of 3 rows"):
        fit(points[:3], "kmeans", k=4)
    with pytest.raises(HFTransferError, match="k: 4 clusters, and only 2 of the rows differ"):
        fit(np.repeat(points[:2], 9, axis=0), "kmeans", k=4)
    with pytest.raises(HFTransferError, match=r"estimator\.n_int: kmeans has no such field; did you mean 'n_init'\?"):
        fit(points, "kmeans", k=3, fields={"n_int": 3})
    with pytest.raises(HFTransferError, match=r"estimator\.x: ward has no such field; it has none"):
        fit(points, "ward", k=3, fields={"x": 3})
