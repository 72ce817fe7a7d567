"""Reductions and planes against scikit-learn's own, on memory maps, and of rows that have nothing to tell."""

import sys
import types

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_blobs
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold, cross_val_score

from hftransfer.clusters import fit_plane, fit_reduction, placed, plane, reduce
from hftransfer.errors import HFTransferError


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:600]


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("count", [1, 7, 30])
def test_components_cut_from_a_whole_fit_are_those_of_a_fit_of_so_many(digits, count, whiten):
    found = fit_reduction(digits, "pca", components=count, whiten=whiten)
    peer = PCA(count, whiten=whiten, svd_solver="full").fit(digits)
    np.testing.assert_allclose(np.abs(found.transform(digits)), np.abs(peer.transform(digits)), atol=1e-6)
    assert found.estimator.noise_variance_ == pytest.approx(peer.noise_variance_)
    assert found.estimator.score(digits) == pytest.approx(peer.score(digits))
    np.testing.assert_allclose(found.explained[:count], peer.explained_variance_ratio_)
    lower = found.estimator.inverse_transform(found.transform(digits))
    np.testing.assert_allclose(lower, peer.inverse_transform(peer.transform(digits)), atol=1e-6)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8, 0.95])
def test_a_share_of_the_variance_takes_the_fewest_components_that_hold_it(digits, share):
    found = fit_reduction(digits, "pca", components=share)
    count = found.transform(digits).shape[1]
    held = np.cumsum(found.explained)
    assert held[count - 1] >= share > (held[count - 2] if count > 1 else 0)
    assert count == PCA(share, svd_solver="full").fit(digits).n_components_


def test_likelihood_is_scikit_learns_and_does_not_mind_rows_that_come_by_class(digits):
    noise = np.random.default_rng(0)
    rows = np.concatenate([noise.normal(size=(150, 12)) + 9 * np.eye(12)[place] for place in range(3)])
    found = fit_reduction(rows, "pca", components="likelihood", seed=3)
    folds = KFold(5, shuffle=True, random_state=3)
    for number, value in found.likelihood:
        assert value == pytest.approx(cross_val_score(PCA(number, svd_solver="full"), rows, cv=folds).mean())
    assert found.transform(rows).shape[1] == 2  # three middles span a plane
    assert len(found.likelihood) > 8 and found.likelihood[-1][0] == 11


def test_components_that_leave_no_noise_are_no_candidates():
    noise = np.random.default_rng(0)
    flat = np.column_stack([noise.normal(size=(90, 6)) * [9, 5, 1, 1, 1, 1], np.ones((90, 2))])
    found = fit_reduction(flat, "pca", components="likelihood")
    assert max(number for number, _ in found.likelihood) < 6
    with pytest.raises(HFTransferError, match="components: the vectors lie on a line, so likelihood cannot choose"):
        fit_reduction(noise.normal(size=(90, 1)) * np.ones(4), "pca", components="likelihood")


def test_blocks_span_what_the_whole_spans(digits, monkeypatch):
    whole = PCA(5).fit(digits)
    found = fit_reduction(digits, "incremental_pca", components=5).estimator
    cosines = np.linalg.svd(found.components_ @ whole.components_.T)[1]
    assert cosines.min() > 0.999  # of the angles between both spaces
    np.testing.assert_allclose(found.explained_variance_ratio_, whole.explained_variance_ratio_, rtol=0.01)


def test_incremental_pca_never_holds_more_than_a_block(digits, tmp_path, monkeypatch):
    file = np.memmap(tmp_path / "rows", np.float32, "w+", shape=(20_000, 8))
    file[:] = np.random.default_rng(0).normal(size=file.shape) * np.geomspace(9, 1, 8)
    seen = []
    unit = reduce.unit
    monkeypatch.setattr(reduce, "unit", lambda rows: seen.append(len(rows)) or unit(rows))
    monkeypatch.setattr(reduce, "AT_ONCE", 5_000)
    found = fit_reduction(file, "incremental_pca", components=3, normalize=True)
    assert found.transform(file).shape == (20_000, 3) and max(seen) <= 8192 and sum(seen) == 40_000
    np.testing.assert_allclose(found.transform(file[:10]), found.transform(file)[:10], rtol=1e-5, atol=1e-6)


def test_nothing_is_copied_where_nothing_is_done(tmp_path):
    file = np.memmap(tmp_path / "rows", np.float32, "w+", shape=(50, 4))
    file[:] = np.random.default_rng(0).normal(size=file.shape)
    assert np.shares_memory(fit_reduction(file, "none").transform(file), file)


@pytest.mark.parametrize("how", ["pca", "tsne"])
def test_fitted_rows_land_where_they_are_to_the_bit_alone_or_together(how):
    points = make_blobs([20, 20], n_features=5, random_state=1)[0]
    points = np.concatenate([points, points[:3]])
    drawn = fit_plane(points, how)
    if how == "tsne":
        np.testing.assert_array_equal(drawn.place(points[:-3]), drawn.points[:-3])
        np.testing.assert_array_equal(drawn.place(points[4:5]), drawn.points[4:5])
    np.testing.assert_allclose(drawn.place(points), drawn.points, atol=1e-3)
    assert np.isfinite(drawn.place(points + 1e-9)).all() and np.isfinite(drawn.place(points + 1e9)).all()


def test_new_rows_lie_in_the_midst_of_their_nearest_ones_by_distance():
    drawn = placed.Placed(np.array([[0.0], [4.0], [100.0]]), np.array([[0.0, 0], [4, 4], [7, 7]]))
    weights = np.array([1 / 1, 1 / 3, 1 / 99])
    expected = weights @ drawn.targets / weights.sum()
    np.testing.assert_allclose(drawn.transform(np.array([[1.0]]))[0], expected)
    np.testing.assert_array_equal(drawn.transform(np.array([[4.0]]))[0], [4, 4])


def test_many_rows_are_placed_between_a_sample_and_that_is_said(monkeypatch):
    points, labels = make_blobs(300, centers=4, n_features=5, cluster_std=0.5, random_state=1)
    monkeypatch.setattr(plane, "MOST_PLACED", 100)
    drawn = fit_plane(points, "tsne")
    assert drawn.points.shape == (300, 2) and "it was made of 100 rows" in drawn.says
    np.testing.assert_allclose(drawn.place(points), drawn.points)
    centres = np.stack([np.median(drawn.points[labels == label], axis=0) for label in range(4)])
    assert (np.linalg.norm(drawn.points[:, None] - centres, axis=2).argmin(axis=1) == labels).mean() > 0.95


@pytest.mark.parametrize("rows", [2, 3, 4, 5, 7, 40])
@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("how", ["pca", "tsne"])
def test_few_rows_and_few_numbers_have_a_plane(how, rows, width):
    points = np.random.default_rng(0).normal(size=(rows, width))
    drawn = fit_plane(points, how)
    assert drawn.points.shape == (rows, 2) and np.isfinite(drawn.points).all()
    np.testing.assert_allclose(drawn.place(points), drawn.points, atol=1e-9)


@pytest.mark.parametrize(
    "rows, message",
    [(np.ones((9, 3)), "all rows are the same"), (np.ones((1, 3)), "there is one row"),
     (np.array([[1.0, np.inf], [0, 1]]), r"not finite \(rows 1\)")],
)  # fmt: skip
@pytest.mark.parametrize("how", ["pca", "incremental_pca", "tsne"])
def test_rows_with_nothing_to_tell_are_told(rows, message, how):
    with pytest.raises(HFTransferError, match=message) as error:
        fit_plane(rows, how) if how == "tsne" else fit_reduction(rows, how, components=2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "how, components, message",
    [("pcaa", 2, r"reduce: there is no 'pcaa'; did you mean 'pca'\?"),
     ("pca", 0, "components: expected a number, .* found 0"), ("pca", 1.5, "components: .* found 1.5"),
     ("pca", "many", "components: .* found many"), ("umap", 0.5, "components: umap needs a number, found 0.5")],
)  # fmt: skip
def test_mistakes_are_told_in_a_line(digits, how, components, message):
    with pytest.raises(HFTransferError, match=message) as error:
        fit_reduction(digits, how, components=components)
    assert "\n" not in str(error.value)
    with pytest.raises(HFTransferError, match=r"map: there is no 'tsnee'; did you mean 'tsne'\?"):
        fit_plane(digits, "tsnee")


def test_umap_that_is_not_installed_is_told_in_a_line(digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    for fitted in (lambda: fit_plane(digits, "umap"), lambda: fit_reduction(digits, "umap", components=3)):
        with pytest.raises(HFTransferError, match=r"umap: .*pip install .hftransfer\[umap\]") as error:
            fitted()
        assert "\n" not in str(error.value)


def test_umaps_places_are_kept_and_few_rows_are_told(digits, monkeypatch):
    """With a stand-in of its interface: the package is an extra, and takes a minute to compile."""
    asked = []

    class UMAP:
        def __init__(self, **options):
            asked.append(options)

        def fit_transform(self, rows):
            return np.arange(rows.shape[0] * asked[-1]["n_components"]).reshape(len(rows), -1) / 7

    module = types.ModuleType("umap")
    module.UMAP = UMAP
    monkeypatch.setitem(sys.modules, "umap", module)
    rows = np.concatenate([digits[:9], digits[:1]])
    drawn = fit_plane(rows, "umap", seed=5)
    assert asked[-1]["n_neighbors"] == 9 and asked[-1]["random_state"] == 5
    np.testing.assert_array_equal(drawn.points, drawn.place(rows))
    np.testing.assert_array_equal(drawn.points[9], drawn.points[0])
    reduced = fit_reduction(digits, "umap", components=3)
    assert asked[-1]["n_neighbors"] == 15 and asked[-1]["n_components"] == 3
    np.testing.assert_allclose(reduced.transform(digits[4:6]), [[12 / 7, 13 / 7, 2], [15 / 7, 16 / 7, 17 / 7]])
    with pytest.raises(HFTransferError, match="umap: 7 rows are too few for 7 dimensions; use pca"):
        fit_reduction(digits[:7], "umap", components=7)
