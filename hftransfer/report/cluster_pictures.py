"""Clusters as pictures: points, dendrograms, the curves that a number was chosen by, explained variance.

Pure functions from arrays to the bytes of a PNG, on light paper of their own, so that they read the same on a light
and on a dark page. A cluster has the same colour in all of them: the palette's, which begins anew where it ends, with
another marker.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from hftransfer.report import words
from hftransfer.report.figures import DARK_INK, PALETTE, theme
from hftransfer.report.gan_pictures import PAPER, figure_png

Array = NDArray[Any]
GREY, DPI = "#b9c0c7", 130
MARKERS = "os^DvP*X"
MOST_POINTS = 20_000  # more cannot be told apart in a picture
MOST_NAMED = 30  # clusters whose name is written beside them
MOST_LEAVES = 60  # of a dendrogram
COLUMNS = 3


class Colouring(NamedTuple):
    """One way of telling points apart."""

    title: str
    groups: Array  # (n,) whole numbers; -1 is none and drawn grey
    names: Sequence[str]  # of the groups from 0 on


def scatter(points: Array, ways: Sequence[Colouring], *, axes: tuple[str, str], centres: Array | None = None) -> bytes:
    """The same points beside each other, coloured in each way; `centres` (groups, 2) are marked in the first."""
    with theme(DARK_INK):
        figure = Figure(figsize=(5.6 * len(ways), 5.4), layout="constrained", facecolor=PAPER)
        places = figure.subplots(1, len(ways), squeeze=False)[0]
        for place, (plane, way) in enumerate(zip(places, ways, strict=True)):
            _points(plane, points, way)
            if centres is not None and place == 0:
                plane.plot(*centres.T, "X", markersize=11, color=DARK_INK, markeredgecolor=PAPER, markeredgewidth=1.2)
            _names(plane, points, way, above=11 if centres is not None and place == 0 else 0)
            plane.set_title(way.title, loc="left")
            plane.set(xlabel=axes[0], ylabel=axes[1])
            if not any(axes):  # numbers that mean nothing
                plane.set(xticks=[], yticks=[])
        return figure_png(figure, DPI)


def _points(plane: Axes, points: Array, way: Colouring) -> None:
    shown = np.linspace(0, len(points) - 1, min(len(points), MOST_POINTS)).round().astype(int)
    size = min(5.0, max(1.2, 60 / len(shown) ** 0.45))
    for group in np.unique(way.groups[shown]):
        at = points[shown[way.groups[shown] == group]]
        look: dict[str, Any] = {"color": GREY, "marker": "."} if group < 0 else _look(int(group))
        plane.plot(at[:, 0], at[:, 1], linestyle="none", markersize=size, markeredgewidth=0, alpha=0.75, **look)
    plane.margins(0.06)


def _look(group: int) -> dict[str, str]:
    return {"color": PALETTE[group % len(PALETTE)], "marker": MARKERS[group // len(PALETTE) % len(MARKERS)]}


def _names(plane: Axes, points: Array, way: Colouring, above: int) -> None:
    """The name of each group at the middle of its points, or so many pixels above it."""
    for group in np.unique(way.groups[way.groups >= 0])[:MOST_NAMED]:
        x, y = np.median(points[way.groups == group], axis=0)
        plane.annotate(
            words.short(way.names[int(group)], 26), (x, y), xytext=(0, above), textcoords="offset points",
            ha="center", va="center", fontsize=9.5, fontweight="bold",
            path_effects=[withStroke(linewidth=3, foreground=PAPER)],
        )  # fmt: skip


def dendrogram(tree: Array, labels: Array, names: Sequence[str], *, cut: float | None, unit: str) -> bytes:
    """How clusters join, from scipy's linkage matrix: a leaf is a row or, of many rows, a whole branch.

    Args:
        tree: (rows - 1, 4).
        labels: (rows,) the cluster of each leaf of the tree.
        cut: the distance at which clusters were cut, drawn as a line.
        unit: what the distance is.
    """
    from scipy.cluster import hierarchy

    colours = _link_colours(tree, labels)
    with theme(DARK_INK):
        figure = Figure(figsize=(9.2, 4.6), layout="constrained", facecolor=PAPER)
        plane = figure.add_subplot()
        drawn = hierarchy.dendrogram(
            tree, p=MOST_LEAVES, truncate_mode="lastp", no_labels=True, ax=plane,
            link_color_func=lambda node: colours[node],
        )  # fmt: skip
        if cut is not None:
            plane.axhline(cut, color=DARK_INK, linewidth=1, linestyle=(0, (4, 3)))
            plane.annotate("cut here", (1, cut), xycoords=("axes fraction", "data"), ha="right", va="bottom")
        _branches(plane, drawn["leaves"], tree, labels, names)
        plane.set_ylabel(unit)
        plane.spines["bottom"].set_visible(False)
        return figure_png(figure, DPI)


def _link_colours(tree: Array, labels: Array) -> dict[int, str]:
    """A colour for each node of a tree: its cluster's, or ink where it joins several."""
    rows = len(tree) + 1
    owner: dict[int, int | None] = {row: int(labels[row]) for row in range(rows)}
    for place, (left, right, *_) in enumerate(tree):
        both = owner[int(left)], owner[int(right)]
        owner[rows + place] = both[0] if both[0] == both[1] else None
    return {
        node: DARK_INK if group is None else GREY if group < 0 else PALETTE[group % len(PALETTE)]
        for node, group in owner.items()
    }


def _branches(plane: Axes, leaves: Sequence[int], tree: Array, labels: Array, names: Sequence[str]) -> None:
    """The clusters' names under their branches."""
    first = _first_rows(tree)
    groups = [int(labels[first[leaf]]) for leaf in leaves]
    start = 0
    for place in range(1, len(groups) + 1):
        if place < len(groups) and groups[place] == groups[start]:
            continue
        middle = 10 * (start + place) / 2  # a leaf is ten units wide
        name = "none" if groups[start] < 0 else words.short(names[groups[start]], 24)
        colour = GREY if groups[start] < 0 else PALETTE[groups[start] % len(PALETTE)]
        plane.annotate(
            name, (middle, 0), xytext=(0, -6), textcoords="offset points", ha="right", va="top", rotation=35,
            fontsize=8.5, color=colour, annotation_clip=False,
        )  # fmt: skip
        start = place


def _first_rows(tree: Array) -> list[int]:
    """One row of each node."""
    rows = len(tree) + 1
    found = list(range(rows))
    for left, *_ in tree:
        found.append(found[int(left)])
    return found


def number_curves(curves: Mapping[str, Sequence[tuple[float, float, float]]], chosen: int) -> bytes:
    """A small picture for each curve over the number of clusters, as (number, value, spread); the choice is marked."""
    rows = ceil(len(curves) / COLUMNS)
    with theme(DARK_INK):
        figure = Figure(figsize=(3.2 * COLUMNS, 2.3 * rows), layout="constrained", facecolor=PAPER)
        planes = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
        for plane, (name, curve) in zip(planes, curves.items(), strict=False):
            numbers, values, spread = (np.array(part, dtype=float) for part in zip(*curve, strict=True))
            plane.axvline(chosen, color=PALETTE[1], linewidth=1.2)
            plane.fill_between(numbers, values - spread, values + spread, color=PALETTE[0], alpha=0.18, linewidth=0)
            plane.plot(numbers, values, color=PALETTE[0], marker=".", markersize=4, linewidth=1.2)
            plane.set_title(name, loc="left")
            plane.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, nbins=6))
            plane.grid(True)
        for plane in planes[len(curves) :]:
            plane.set_axis_off()
        figure.supxlabel(f"number of clusters; chosen: {chosen}", fontsize=9.5)
        return figure_png(figure, DPI)


def explained(ratios: Array, likelihood: Sequence[tuple[int, float]] | None, kept: int) -> bytes:
    """The share of variance that the first components hold together and, where it was computed, their likelihood."""
    with theme(DARK_INK):
        figure = Figure(figsize=(4.8 * (2 if likelihood else 1), 3.0), layout="constrained", facecolor=PAPER)
        planes = figure.subplots(1, 2 if likelihood else 1, squeeze=False)[0]
        share = np.cumsum(ratios)
        planes[0].plot(np.arange(1, len(share) + 1), share, color=PALETTE[0])
        planes[0].set(ylim=(0, 1.03), xlabel="components", title="variance that they hold together")
        if likelihood:
            planes[1].plot(*zip(*likelihood, strict=True), color=PALETTE[0], marker=".")
            planes[1].set(xlabel="components", title="log likelihood of held-out rows")
        for plane in planes:
            plane.axvline(kept, color=PALETTE[1], linewidth=1.2)
            plane.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
            plane.set_title(plane.get_title(), loc="left")
            plane.set_title("", loc="center")
            plane.grid(True)
        return figure_png(figure, DPI)
