"""What `cluster` leaves: assignments, saved clusters, pictures, the page to look through, and the record."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Audio, ClassLabel, Dataset, Features, Image, Value
from numpy.typing import NDArray

from hftransfer import explore
from hftransfer.clusters import describe, saved
from hftransfer.data.read import quiet
from hftransfer.data.rows import column
from hftransfer.evidence import Picture
from hftransfer.report import cluster_pictures, gan_pictures, words
from hftransfer.stages.clustering_rows import Rows

if TYPE_CHECKING:
    from hftransfer.stages.clustering import Found

Array = NDArray[Any]
PAGE, ASSIGNMENTS = "explore.html", "assignments.parquet"
SHEET = "sheet.png"  # images of the data
DISTANCE, TWICE = "distance from the middle", "near-duplicate"  # columns of the page
NONE = "none"  # of no cluster
SHOWN = 8  # images of a cluster in the contact sheet, and rows of a table of oddities
MOST_SHEETS = 20  # clusters in it
SIDE = 64  # pixels of its images
LONGEST = 160  # characters of a text in a table
CITATIONS = {
    "kmeans": "Arthur and Vassilvitskii 2007, k-means++: the advantages of careful seeding, SODA",
    "minibatch_kmeans": "Sculley 2010, Web-scale k-means clustering, WWW",
    "spherical_kmeans": "Dhillon and Modha 2001, Concept decompositions for large sparse text data, Machine Learning",
    "ward": "Ward 1963, Hierarchical grouping to optimize an objective function, JASA",
    "hdbscan": "Campello et al. 2013, Density-based clustering based on hierarchical density estimates, PAKDD",
    "tsne": "van der Maaten and Hinton 2008, Visualizing data using t-SNE, JMLR",
    "umap": "McInnes et al. 2018, UMAP, arXiv:1802.03426",
    "names": "Grootendorst 2022, BERTopic: class-based TF-IDF, arXiv:2203.05794",
    "gap": "Tibshirani et al. 2001, Estimating the number of clusters via the gap statistic, JRSS B",
}


def write(work: Path, found: "Found", metrics: dict[str, Any]) -> dict[str, Any]:
    """Writes all files into a stage's folder; gives the evidence."""
    outliers = describe.outliers(found.reduced, found.labels, found.fitted.centres)  # (rows,) 1: as far as usual
    near: list[list[int]] = []
    if found.rows.embedded:  # of a table's numbers angles say nothing
        space = found.reduced if "pca" in found.reduction.how else np.asarray(found.rows.vectors)
        # what all vectors share makes all of them alike
        near = describe.near_duplicates(space - space.mean(axis=0), found.given["near_duplicates"])
        metrics["near_duplicates"] = sum(map(len, near))
    medoids = describe.representatives(found.reduced, found.labels, found.fitted.centres, SHOWN)
    if found.given["fitted"] is None:
        saved.save(work, found.reduction, found.fitted, found.plane, found.names)
    _assignments(work, found, outliers)
    pictures = _pictures(work, found, medoids)
    _page(work, found, outliers, near)
    return {
        "stage": "cluster",
        "title": f"Clusters: {found.fitted.method.replace('_', ' ')}",
        "settings": dict(found.given),
        "notes": found.notes,
        "citations": _citations(found),
        "outcome": {"outcome": "found", "text": _said(found, metrics)},
        "data": [found.rows.card()],
        "tables": _tables(found, medoids, outliers, near),
        "pictures": pictures,
        "pages": [{"file": PAGE, "caption": "Look through all rows"}],
    }


def names_of(found: "Found") -> list[str]:
    """The cluster of each row, by name."""
    return [_name(found, label) for label in found.labels]


def _name(found: "Found", label: int) -> str:
    return found.names[label] if label >= 0 else NONE


def _said(found: "Found", metrics: dict[str, Any]) -> str:
    told = f"among {len(found.rows):,} rows"
    if metrics["noise_share"]:
        told += f", {metrics['noise_share']:.0%} of which lie in none"
    told += f"; silhouette {metrics['silhouette']:.3f}" if "silhouette" in metrics else ""
    if "stability" in metrics:
        told += f"; found again in parts of the rows with an adjusted Rand of {metrics['stability']:.2f}"
    if found.rows.truth is not None and "adjusted_rand" in metrics:
        count = len(found.rows.truth.names)
        known = found.rows.truth.known
        some = "" if known.all() else f" of the {int(known.sum()):,} rows that have one"
        told += (
            f". Against the {count} labels{some}, which took no part: adjusted Rand {metrics['adjusted_rand']:.3f} "
            f"(chance: 0), and {metrics['matched_accuracy']:.1%} of the rows lie in the cluster that is matched to "
            "their label"
        )
    return f"{found.k} clusters: {told}."


def _citations(found: "Found") -> list[str]:
    keys = [found.fitted.method, found.plane.how, "names" if found.rows.kind == "text" else ""]
    keys += ["gap"] if found.choice is not None else []
    return [CITATIONS[key] for key in keys if key in CITATIONS]


def _assignments(work: Path, found: "Found", outliers: Array) -> None:
    """A line for each row."""
    features = Features(
        {"row": Value("int64"), "cluster": Value("int64"), "name": Value("string"), "x": Value("float64"),
         "y": Value("float64"), "distance": Value("float64")}
    )  # fmt: skip
    made = {
        "row": found.rows.numbers.tolist(), "cluster": found.labels.tolist(), "name": names_of(found),
        "x": found.points[:, 0].tolist(), "y": found.points[:, 1].tolist(), "distance": outliers.tolist(),
    }  # fmt: skip
    with quiet():
        Dataset.from_dict(made, features=features).to_parquet(work / ASSIGNMENTS)


def _pictures(work: Path, found: "Found", medoids: list[list[int]]) -> list[Picture]:
    """Draws what there is to draw; gives the record's lines."""
    made: list[tuple[str, str, bytes]] = []
    ways = [cluster_pictures.Colouring("clusters", found.labels, found.names)]
    if found.rows.truth is not None:
        ways.append(_label_colours(found))
    centres = _drawn_centres(found)
    drawn = cluster_pictures.scatter(found.points, ways, axes=_axes(found), centres=centres)
    made.append(("clusters.png", f"All rows in the plane: {found.plane.says}", drawn))
    if found.rows.kind == "image":
        sheet, names = _sheet(found, medoids)
        made.append((SHEET, "The images in the middle of each cluster", gan_pictures.sheet(
            sheet, columns=SHOWN, names=names)))  # fmt: skip
    if found.fitted.tree is not None and found.fitted.leaves is not None:
        tree = cluster_pictures.dendrogram(
            found.fitted.tree, found.fitted.leaves, found.names, cut=found.fitted.cut, unit=found.fitted.unit
        )
        made.append(("dendrogram.png", "How clusters join, from below", tree))
    if found.choice is not None:
        curves = cluster_pictures.number_curves(found.choice.curves, found.choice.k)
        made.append(("number.png", f"What the number of clusters was chosen by. {found.choice.rule}", curves))
    if found.reduction.explained is not None:
        picture = cluster_pictures.explained(
            found.reduction.explained, found.reduction.likelihood, found.reduced.shape[1]
        )
        made.append(("explained.png", "Principal components: those to the left of the line are used", picture))
    for name, _, data in made:
        (work / name).write_bytes(data)
    return [{"file": name, "caption": caption, "shareable": name != SHEET} for name, caption, _ in made]


def _label_colours(found: "Found") -> cluster_pictures.Colouring:
    """Labels in the colours of the clusters that they are matched to, the others in colours that are left."""
    truth = found.rows.truth
    assert truth is not None
    matched = found.matching.classes
    place = {label: cluster for cluster, label in enumerate(matched) if label is not None}
    free = iter(number for number in range(len(truth.names) + len(matched)) if number not in place.values())
    colours = np.array([place[label] if label in place else next(free) for label in range(len(truth.names))])
    names = dict(zip(colours.tolist(), truth.names, strict=True))
    told = [names.get(number, "") for number in range(int(colours.max()) + 1)]
    return cluster_pictures.Colouring("labels", np.where(truth.known, colours[truth.labels], -1), told)


def _axes(found: "Found") -> tuple[str, str]:
    """A table's two columns by name, else the plane's."""
    plain = found.plane.how == "none" and found.reduction.how == "none" and len(found.rows.axes) == 2
    return (found.rows.axes[0], found.rows.axes[1]) if plain else found.plane.axes


def _drawn_centres(found: "Found") -> Array | None:
    """The clusters' middles, where the plane is the space that they were made in."""
    return found.fitted.centres if found.plane.how == "none" and found.fitted.centres.shape[1] == 2 else None


def _sheet(found: "Found", medoids: list[list[int]]) -> tuple[Array, list[str]]:
    """(images, side, side, 3) of each cluster's middle, a row a cluster, and the rows' names."""
    from PIL import Image as Pictures

    images, names = [], []
    assert found.rows.content is not None
    for label, rows in enumerate(medoids[:MOST_SHEETS]):
        if not rows:  # none of the new rows is of this cluster
            continue
        kept = [*rows, *[rows[-1]] * (SHOWN - len(rows))]  # a small cluster's last image again
        for row in kept:
            image = found.rows.columns[int(row)][found.rows.content].convert("RGB")
            images.append(
                np.asarray(image.resize((SIDE, SIDE), Pictures.Resampling.NEAREST if image.width < SIDE else 3))
            )
        names.append(found.names[label])
    return np.stack(images), names


def _tables(found: "Found", medoids: list[list[int]], outliers: Array, near: list[list[int]]) -> list[dict[str, Any]]:
    """What can be read: the clusters, how they match labels, what is odd, what is there twice."""
    tables = [_clusters(found, medoids)]
    if found.rows.truth is not None:
        tables.append(_matching(found))
    if found.rows.kind == "text":
        odd = np.argsort(-outliers)[:SHOWN]
        tables.append({
            "title": "Farthest from their cluster's middle (1: the cluster's usual distance)",
            "columns": ["row", "distance", "cluster", "text"],
            "rows": [[int(found.rows.numbers[row]), float(outliers[row]), _name(found, found.labels[row]),
                      _text(found, row)] for row in odd],
        })  # fmt: skip
        tables.append({
            "title": f"Near-duplicates (cosine from {found.given['near_duplicates']:g}, of centred vectors)",
            "columns": ["rows", "how many", "text"],
            "rows": [[", ".join(str(int(found.rows.numbers[row])) for row in group[:6]), len(group),
                      _text(found, group[0])] for group in near[:SHOWN]],
        })  # fmt: skip
    return tables


def _clusters(found: "Found", medoids: list[list[int]]) -> dict[str, Any]:
    truth, texts = found.rows.truth, found.rows.kind == "text"
    counts = Counter(found.labels.tolist())
    rows = []
    for label, name in enumerate(found.names):
        line: list[Any] = [name, counts[label]]
        if truth is not None:
            own = truth.labels[(found.labels == label) & truth.known]
            (most, count), *_ = Counter(own.tolist()).most_common(1) or [(None, 0)]
            line += ["" if most is None else truth.names[most], f"{count / max(1, len(own)):.0%}"]
        middle = _text(found, medoids[label][0]) if texts and medoids[label] else ""
        rows.append([*line, middle] if texts else line)
    if counts[-1]:
        rows.append([NONE, counts[-1], *["", ""] * (truth is not None), *[""] * texts])
    columns = ["cluster", "rows", *["most frequent label", "its share"] * (truth is not None)]
    return {"title": "Clusters, the largest first", "columns": [*columns, *["in its middle"] * texts], "rows": rows}


def _matching(found: "Found") -> dict[str, Any]:
    """Clusters against labels, each label's own cluster in its column's order."""
    assert found.rows.truth is not None
    table = found.matching
    rows = [
        [found.names[label], "" if own is None else found.rows.truth.names[own], *table.counts[label].tolist()]
        for label, own in enumerate(table.classes)
    ]
    return {
        "title": "Clusters against labels, which took no part: each label is matched to one cluster at most",
        "columns": ["cluster", "matched to", *found.rows.truth.names],
        "rows": rows,
    }


def _text(found: "Found", row: int) -> str:
    assert found.rows.content is not None
    return words.short(found.rows.columns[int(row)][found.rows.content], LONGEST)


def _page(work: Path, found: "Found", outliers: Array, near: list[list[int]]) -> None:
    """The page to look through all rows."""
    columns: dict[str, Any] = {"cluster": names_of(found), DISTANCE: outliers}
    twice = {row for group in near for row in group}
    if twice:
        columns[TWICE] = ["yes" if row in twice else "no" for row in range(len(found.rows))]
    for name, values in _further(found.rows).items():
        columns[name if name not in columns else f"{name} (of the data)"] = values
    content = None
    if found.rows.content is not None:
        content = column(found.rows.stored(), found.rows.content)
    explore.write(
        work,
        explore.Page(
            title=found.rows.name, points=found.points, axes=_axes(found), columns=columns, content=content,
            kind=found.rows.kind if found.rows.content is not None else None, color_by="cluster",
            numbers=found.rows.numbers,
            notes=[found.plane.says], groups={name: name for name in found.names},
        ),
    )  # fmt: skip


def _further(rows: Rows) -> dict[str, Any]:
    """The data's own columns, the label first: numbers as numbers, all else as text."""
    found: dict[str, Any] = {}
    names = [name for name in rows.columns.column_names if name != rows.content]
    for name in sorted(names, key=lambda name: name != rows.label):
        feature, values = rows.columns.features[name], column(rows.columns, name)
        kind = getattr(feature, "dtype", "")
        if isinstance(feature, ClassLabel):
            found[name] = [None if value is None or value < 0 else feature.names[value] for value in values]
        elif name != rows.label and kind.startswith(("float", "double")):
            found[name] = np.array([np.nan if value is None else float(value) for value in values])
        elif name != rows.label and kind.startswith(("int", "uint")) and None not in values:
            exact = max(map(abs, values), default=0) < 2**53  # beyond, a page's numbers are not
            found[name] = np.array(values) if exact else list(map(str, values))
        elif not isinstance(feature, Image | Audio):
            found[name] = [None if value is None else str(value) for value in values]
    return found
