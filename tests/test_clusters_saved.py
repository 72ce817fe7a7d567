"""Saved clusters: nothing that is not known is loaded, and whatever lacks is told in a line."""

import subprocess
import sys

import numpy as np
import pytest
import skops.io
from safetensors.numpy import save_file
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.preprocessing import FunctionTransformer

from hftransfer import clusters
from hftransfer.clusters import fit, fit_plane, fit_reduction
from hftransfer.errors import HFTransferError

FILES = ["clusters.json", "clusters.safetensors", "reduction.skops", "plane.skops", "estimator.skops"]


@pytest.fixture(scope="module")
def points():
    return make_blobs([50, 40, 30], n_features=6, cluster_std=0.6, random_state=4)[0]


@pytest.fixture
def folder(points, tmp_path):
    """Of as many components as there are numbers: without its reduction it would predict, and wrongly."""
    reduction = fit_reduction(points, "pca", components=6)
    reduced = reduction.transform(points)
    clusters.save(tmp_path, reduction, fit(reduced, "kmeans", k=3), fit_plane(reduced, "pca"), ["a", "b", "c"])
    return tmp_path


def test_skops_trusts_what_is_saved_without_being_told(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    for name in FILES[2:]:
        assert skops.io.get_untrusted_types(file=folder / name) == []


@pytest.mark.parametrize("function", [eval, print, np.save, np.fromregex])
def test_no_function_is_loaded_whatever_library_it_is_of(folder, function):
    skops.io.dump(FunctionTransformer(function), folder / "reduction.skops")
    with pytest.raises(HFTransferError, match=rf"reduction\.skops holds .*{function.__name__}, which is not trusted"):
        clusters.load(folder)


@pytest.mark.parametrize("name", ["reduction", "plane"])
def test_no_other_estimator_is_loaded(folder, points, name):
    skops.io.dump(KMeans(2, n_init=1).fit(points), folder / f"{name}.skops")
    with pytest.raises(HFTransferError, match=rf"{name}\.skops holds sklearn.*KMeans, which is not trusted"):
        clusters.load(folder)


@pytest.mark.parametrize("name", FILES[:4])
def test_a_file_that_is_missing_or_cut_is_told_in_a_line(folder, name):
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    for content in (None, whole[:-40], whole[: len(whole) // 2], b""):
        if content is not None:
            (folder / name).write_bytes(content)
        with pytest.raises(HFTransferError, match=r"cannot be read|holds no clusters") as error:
            clusters.load(folder)
        assert "\n" not in str(error.value)
    (folder / name).write_bytes(whole)
    assert clusters.load(folder).names == ["a", "b", "c"]


def test_arrays_of_another_folder_are_told(folder):
    save_file({"points": np.zeros((3, 2))}, folder / "clusters.safetensors")
    with pytest.raises(HFTransferError, match=r"fitted: .* is not what `cluster` leaves"):
        clusters.load(folder)


def test_another_process_predicts_and_places_the_same(folder, points):
    new = points + 0.05
    np.save(folder / "new.npy", new)
    code = (
        "import sys, numpy as np; from hftransfer import clusters; opened = clusters.load(sys.argv[1]);"
        "new = np.load(sys.argv[1] + '/new.npy');"
        "np.savez(sys.argv[1] + '/told', labels=opened.predict(new), places=opened.place(new))"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)
    told, opened = np.load(folder / "told.npz"), clusters.load(folder)
    np.testing.assert_array_equal(told["labels"], opened.predict(new))
    np.testing.assert_array_equal(told["places"], opened.place(new))


@pytest.mark.parametrize("wrong, message", [(5, "vectors of 5 numbers"), (7, "vectors of 7 numbers")])
def test_vectors_of_another_width_are_told(folder, wrong, message):
    for asked in (clusters.load(folder).predict, clusters.load(folder).place):
        with pytest.raises(HFTransferError, match=message) as error:
            asked(np.ones((2, wrong)))
        assert "\n" not in str(error.value)
