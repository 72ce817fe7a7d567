"""Pictures of clusters: the same bytes for the same input, every group in its colour, and a tree's own clusters."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.cluster.hierarchy import fcluster, linkage

from hftransfer.report import cluster_pictures
from hftransfer.report.cluster_pictures import Colouring
from hftransfer.report.figures import PALETTE


def rgb(colour):
    return tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))


def has(picture, colour):
    """Whether a colour is in a PNG, blended as it may be with the paper."""
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
    paper = np.array(rgb(cluster_pictures.PAPER))
    blended = (0.75 * np.array(rgb(colour)) + 0.25 * paper).round()
    near = [np.abs(pixels - one).max(axis=2).min() for one in (np.array(rgb(colour)), blended)]
    return min(near) <= 3


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(size=(60, 2)) + np.repeat([[0, 0], [9, 0], [0, 9]], 20, axis=0)


def test_each_group_has_its_colour_and_rows_of_none_are_grey(points):
    groups = np.repeat([0, 1, -1], 20)
    drawn = cluster_pictures.scatter(points, [Colouring("found", groups, ["a", "b"])], axes=("x", "y"))
    assert [has(drawn, colour) for colour in (*PALETTE[:3], cluster_pictures.GREY)] == [True, True, False, True]
    again = cluster_pictures.scatter(points, [Colouring("found", groups, ["a", "b"])], axes=("x", "y"))
    assert drawn == again


def test_two_ways_lie_beside_each_other(points):
    one = Colouring("found", np.repeat([0, 1, 2], 20), ["a", "b", "<i>$x$</i>"])
    alone, both = (
        cluster_pictures.scatter(points, ways, axes=("x", "y"), centres=points[:3]) for ways in ([one], [one, one])
    )
    widths = [Image.open(io.BytesIO(picture)).width for picture in (alone, both)]
    assert widths[1] == 2 * widths[0]


@pytest.mark.parametrize("count", [1, 40])
def test_any_number_of_groups_and_a_single_point_are_drawn(count):
    groups = np.arange(count)
    points = np.stack([groups, groups], axis=1).astype(float)
    names = [f"group {group}" for group in groups]
    assert cluster_pictures.scatter(points, [Colouring("found", groups, names)], axes=("x", "y"))[:4] == b"\x89PNG"


def test_a_branch_has_its_clusters_colour_and_what_joins_clusters_has_none(points):
    tree = linkage(points, "ward")
    labels = fcluster(tree, 3, "maxclust") - 1
    colours = cluster_pictures._link_colours(tree, labels)
    assert [colours[row] for row in range(60)] == [PALETTE[label] for label in labels]
    joins = [colours[60 + place] for place in range(len(tree))]
    assert joins[-2:] == [cluster_pictures.DARK_INK] * 2  # three clusters join twice
    assert cluster_pictures.DARK_INK not in joins[:-2]
    drawn = cluster_pictures.dendrogram(tree, labels, ["a", "b", "c"], cut=20.0, unit="distance")
    assert all(has(drawn, PALETTE[label]) for label in range(3))


def test_curves_and_variance_are_drawn():
    curve = [(k, 1 / k, 0.1) for k in range(2, 9)]
    assert has(cluster_pictures.number_curves({"silhouette": curve, "gap": curve}, 4), PALETTE[1])
    alone, both = (
        cluster_pictures.explained(np.array([0.6, 0.3]), likelihood, 1) for likelihood in (None, [(1, -2.0)])
    )
    widths = [Image.open(io.BytesIO(picture)).width for picture in (alone, both)]
    assert widths[1] == 2 * widths[0]
