"""The run of `cluster`: reduce, choose a number, group, judge, name, place in a plane, save, draw."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hftransfer import clusters, processes, runs
from hftransfer.clusters import describe, methods, number, reduce, saved, scores
from hftransfer.clusters.methods import TREES
from hftransfer.clusters.plane import MOST_PLACED
from hftransfer.data.divide import sample as rows_of
from hftransfer.errors import HFTransferError
from hftransfer.runs import StageFolder
from hftransfer.signatures import options
from hftransfer.stages import clustering_record
from hftransfer.stages.cluster import cluster
from hftransfer.stages.clustering_rows import Rows, planned_rows, read_rows

Array = NDArray[Any]
FITTING = (  # options that decide what is fitted
    *("method", "k", "try_k", "distance", "estimator"),
    *("normalize", "standardize", "reduce", "components", "whiten", "map"),
)
UNEVEN = 10  # times that a number may vary more than another, unsaid
MOST_REFITTED = 3000  # rows that stability is told of


@dataclass
class Found:
    """All that was found of some rows."""

    given: dict[str, Any]
    rows: Rows
    reduction: reduce.Reduction
    reduced: Array  # (rows, numbers)
    fitted: methods.Fitted
    labels: Array  # (rows,) the cluster of each; -1: none
    plane: clusters.Plane
    points: Array  # (rows, 2)
    names: list[str]
    choice: number.Choice | None
    notes: list[str]

    @property
    def k(self) -> int:
        return len(self.names)

    @property
    def judged(self) -> tuple[Array, Array]:
        """The clusters and the labels of the rows that have a label."""
        assert self.rows.truth is not None
        return self.labels[self.rows.truth.known], self.rows.truth.labels[self.rows.truth.known]

    @cached_property
    def matching(self) -> scores.Matching:
        """The clusters against the labels."""
        return scores.matching(*self.judged)


def plan(given: dict[str, Any]) -> dict[str, Any]:
    """What `cluster` will read."""
    _check(given)
    rows, width = planned_rows(given["data"], "data")
    if given["fitted"] is not None:
        _check_width(given["fitted"], width)
    elif rows:  # of a stream they are not known yet
        _check_rows(given, rows)
    return {"class": given["method"], "rows": {"to group": rows or "a stream"}, "steps": 0, "width": width}


def _check_width(fitted: str, width: int) -> None:
    """Refuses vectors that are not like those that the earlier clusters were made of."""
    own = runs.read_json(Path(fitted) / saved.INFO).get("reduction", {}).get("width")
    if own is None:
        raise HFTransferError(f"fitted: {fitted} holds no clusters; give a folder that `cluster` left")
    if own != width:
        raise HFTransferError(
            f"fitted: its clusters were made of vectors of {own} numbers, and the data have {width}; embed them alike"
        )


def _check(given: dict[str, Any]) -> None:
    """Options that do not fit each other."""
    if given["fitted"] is not None:
        defaults = {option.name: option.default for option in options(cluster)}
        changed = [name for name in FITTING if given[name] != defaults[name]]
        if changed:
            raise HFTransferError(
                f"{changed[0]}: nothing is fitted beside fitted, which has its own; remove one of them"
            )
    if given["distance"] is not None and given["method"] not in TREES:
        raise HFTransferError(f"distance: {given['method']} has no hierarchy to cut; use {', '.join(TREES)}, or k")
    if given["distance"] is not None and given["k"] is not None:
        raise HFTransferError("distance: k is given too, and either decides how many clusters there are; remove one")
    if given["method"] == "hdbscan" and given["k"] is not None:
        raise HFTransferError("k: hdbscan finds its own number; set estimator.min_cluster_size")
    low, high = given["try_k"]
    if low > high:
        raise HFTransferError(f"try_k: expected the fewest first, found [{low}, {high}]")
    if isinstance(given["components"], str) and given["components"] != "likelihood":
        raise HFTransferError(
            f"components: expected a number, a share of the variance or likelihood, found '{given['components']}'"
        )


def _check_rows(given: dict[str, Any], rows: int) -> None:
    wanted = given["k"] or given["try_k"][0]
    if rows <= wanted:
        key = "k" if given["k"] else "try_k"
        raise HFTransferError(f"{key}: {wanted} clusters of {rows} rows; give fewer clusters, or more rows")


def run(folder: StageFolder, given: dict[str, Any]) -> None:
    """Everything is found by the main process: scikit-learn knows no others."""
    _check(given)
    work = folder.begin()
    record: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    problem = ""
    if processes.is_main():
        try:
            found = _found(given)
            metrics = measured(found)
            record = metrics, clustering_record.write(work, found, metrics)
        except HFTransferError as error:
            problem = str(error)
    problem = processes.agree(problem)
    if problem:
        raise HFTransferError(problem)
    folder.finish(*record)


def _found(given: dict[str, Any]) -> Found:
    rows = read_rows(given["data"], "data")
    if given["fitted"] is not None:
        return _placed(given, rows)
    _check_rows(given, len(rows))
    seed = given["seed"]
    reduction = _reduction(given, rows)
    reduced = reduction.transform(rows.vectors)
    choice = _choice(given, reduced)
    k = given["k"] or (choice.k if choice else None)
    fitted = methods.fit(
        reduced, given["method"], k=k, distance=given["distance"], seed=seed, fields=given["estimator"]
    )
    plane = clusters.fit_plane(reduced, _map(given, reduced), seed=seed)
    names = _names(rows, fitted.labels)
    notes = [reduction.says, *_warned(given, rows), *([choice.rule] if choice else []), fitted.says, plane.says]
    return Found(
        given, rows, reduction, reduced, fitted, fitted.labels, plane, plane.points, names, choice,
        [note for note in notes if note],
    )  # fmt: skip


def _placed(given: dict[str, Any], rows: Rows) -> Found:
    """New rows among earlier clusters."""
    earlier = clusters.load(Path(given["fitted"]))
    reduced = earlier.reduction.transform(rows.vectors)
    return Found(
        given, rows, earlier.reduction, reduced, earlier.fitted,
        earlier.fitted.assign(reduced), earlier.plane, earlier.plane.place(reduced), earlier.names, None,
        [f"the clusters and the plane are those of '{Path(given['fitted']).name}'; nothing was fitted"],
    )  # fmt: skip


def _reduction(given: dict[str, Any], rows: Rows) -> reduce.Reduction:
    components, width = given["components"], rows.vectors.shape[1]
    how = given["reduce"]
    if how is None:
        how = "none" if isinstance(components, int) and components >= min(width, len(rows)) else "pca"
    normalize = rows.embedded if given["normalize"] is None else given["normalize"]
    return reduce.fit_reduction(
        rows.vectors,
        how,
        components=components,
        normalize=normalize,
        whiten=given["whiten"],
        standardize=given["standardize"],
        seed=given["seed"],
    )


def _warned(given: dict[str, Any], rows: Rows) -> list[str]:
    """What of a table's numbers a reader should know."""
    if rows.embedded:
        return []
    spread = np.asarray(rows.vectors).std(axis=0)
    still = [rows.axes[place] for place in np.flatnonzero(spread == 0)]
    told = [f"the same in all rows, and so without effect: {', '.join(still[:5])}"] if still else []
    spread = spread[spread > 0]
    if len(spread) > 1 and spread.max() > UNEVEN * spread.min() and not given["standardize"]:
        told.append(
            f"the numbers' spreads differ by a factor of {spread.max() / spread.min():.0f}, and the widest decide; "
            "standardize: true brings all to one"
        )
    return told


def _choice(given: dict[str, Any], reduced: Array) -> number.Choice | None:
    """The number of clusters, where nothing else decides it."""
    if given["k"] is not None or given["distance"] is not None or given["method"] == "hdbscan":
        return None
    low, high = given["try_k"]
    return number.choose(reduced, range(low, min(high, len(reduced) - 1) + 1), given["method"], given["seed"])


def _map(given: dict[str, Any], reduced: Array) -> str:
    if given["map"] is not None:
        return str(given["map"])
    if reduced.shape[1] <= 2:
        return "none"
    return "tsne" if len(reduced) <= MOST_PLACED else "pca"


def _names(rows: Rows, labels: Array) -> list[str]:
    """Words for the clusters of texts; a number and the size's place for others."""
    count = int(labels.max()) + 1
    if rows.kind != "text" or rows.content is None:
        return [f"cluster {group}" for group in range(count)]
    found = describe.words(rows.texts(), labels, top=3)
    named = [", ".join(words) or f"cluster {group}" for group, words in enumerate(found)]
    return [name if named.index(name) == group else f"{name} ({group})" for group, name in enumerate(named)]


def measured(found: Found) -> dict[str, float]:
    """The numbers of the outcome; those with labels only where there are labels."""
    seed, kept = found.given["seed"], found.labels >= 0
    values: dict[str, float] = {"rows": len(found.rows), "k": found.k, "noise_share": float(np.mean(~kept))}
    values |= scores.internal(found.reduced, found.labels, seed)
    if found.given["fitted"] is None and found.given["method"] != "hdbscan":
        part = found.reduced[rows_of(len(found.reduced), MOST_REFITTED, seed)]
        values["stability"] = float(scores.stability(part, found.given["method"], found.k, seed).mean())
    if found.rows.truth is not None:
        values |= scores.external(*found.judged)
    if found.plane.kept is not None:
        values["map_kept"] = float(found.plane.kept)
    return values
