"""Pictures of the evidence as inline SVG that takes its ink from the page around it.

Text and axes are drawn in one sentinel colour that becomes `currentColor`, so one picture serves a light and a dark
page; series colours come from a palette that keeps a contrast of 3 against both (test_figures.py holds it).
"""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from math import isfinite
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from hftransfer.evidence import Comparison, Curve, DataCard, Projection
from hftransfer.report import words

# After Okabe and Ito 2008, Color Universal Design: darkened or lightened where they vanish on white or near-black.
PALETTE = (
    "#0f7fbf",
    "#d5660a",
    "#0a9a72",
    "#c0619a",
    "#9a7d12",
    "#7d70d6",
    "#7b8894",
    "#1d95ad",
    "#c2544a",
    "#6f8f2f",
)
INK = "#010203"  # no palette colour and no default of matplotlib
DARK_INK = "#1c2024"  # on paper of the picture's own
WIDTH = 4.6  # inches; at 72 units an inch a phone shows the text in its true size
MAX_POINTS = 600  # of one line or one cloud: more cannot be told apart and would only weigh on the page
MAX_LABELS = 24  # bars in a label chart
MAX_ANNOTATED = 30  # classes up to which the counts are written into a confusion matrix


@contextmanager
def theme(ink: str = INK) -> Iterator[None]:
    """Sizes and colours of all figures that are drawn inside."""
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "hftransfer",
        "text.parse_math": False,  # a label may hold dollar signs
        "font.size": 9.5,
        "axes.labelsize": 9.5,
        "axes.titlesize": 10,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "grid.linewidth": 0.6,
        "grid.alpha": 0.15,
        "axes.facecolor": "none",
        "axes.axisbelow": True,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), ink),
        "grid.color": ink,
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the browser has the fonts
        yield


def _blank(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _inline_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an `<svg>` element: ids unique to `name`, ink from the page, no metadata, no style sheet."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*</defs>", "", text)
    text = re.sub(r"<[^>]+>", lambda tag: _adapt_tag(tag.group(), name), text)
    width, height = (72 * side for side in figure.get_size_inches())
    least = f"min-width:{width:.0f}px;" if width > 72 * WIDTH + 1 else ""
    opening = (
        f'<svg class="plot" role="img" aria-label="{escape(description)}" viewBox="0 0 {width:.1f} {height:.1f}" '
        f'style="{least}max-width:{1.45 * width:.0f}px">'
    )
    return re.sub(r"^<svg[^>]*>", lambda _: opening, re.sub(r"\n\s*", "\n", text)).strip()


def _adapt_tag(tag: str, name: str) -> str:
    tag = re.sub(r'\bid="', f'id="{name}-', tag)
    tag = tag.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'href="#{name}-')
    return tag.replace(INK, "currentColor")


def loss_curves(curves: Sequence[Curve], name: str) -> list[str]:
    """One picture for each pair of axes (`x`, `y`) among the curves; curves without a finite point are left out."""
    pictures = []
    with theme():
        for i, group in enumerate(_curve_groups(curves)):
            figure, axes = _blank(2.9)
            _draw_curves(axes, group)
            pictures.append(_inline_svg(figure, f"{name}-{i}", _describe_curves(group)))
    return pictures


def loss_curve_png(curves: Sequence[Curve], path: Path) -> None:
    """Writes the curves as a PNG on white, for the stage folder; writes nothing when there is nothing to draw."""
    groups = _curve_groups(curves)
    if not groups:
        return
    with theme(DARK_INK):
        figure = Figure(figsize=(6.4, 3.4 * len(groups)), layout="constrained", facecolor="white")
        for axes, group in zip(figure.subplots(len(groups), squeeze=False)[:, 0], groups, strict=True):
            _draw_curves(axes, group)
        figure.savefig(path, format="png", dpi=120, metadata={"Software": None})


def _curve_groups(curves: Sequence[Curve]) -> list[list[Curve]]:
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        points = [list(point) for point in curve["points"] if all(_is_finite(value) for value in point)]
        if points:
            whole = len(points) == len(curve["points"]) <= MAX_POINTS
            thinned: Curve = {**curve, "points": points if whole else thin(points)}
            if not whole:
                thinned.pop("spread", None)
            groups.setdefault((curve["x"], curve["y"]), []).append(thinned)
    return list(groups.values())


def _draw_curves(axes: Axes, curves: Sequence[Curve]) -> None:
    for color, curve in zip(_colors(len(curves)), curves, strict=True):
        x, y = zip(*curve["points"], strict=True)
        if spread := curve.get("spread"):
            low, high = ([v + sign * s for v, s in zip(y, spread, strict=True)] for sign in (-1, 1))
            axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
        axes.plot(x, y, color=color, linewidth=1.8, marker="o" if len(x) < 20 else None, markersize=3.5)
    axes.set_xlabel(words.short(curves[0]["x"]))
    axes.set_ylabel(words.short(curves[0]["y"], 30))  # as the axis is high
    axes.margins(x=0.02)
    axes.grid(True)
    if all(curve.get("log") for curve in curves):
        places = sorted({point[0] for curve in curves for point in curve["points"]})
        axes.set_xscale("log")
        axes.set_xticks(places, [words.number(round(place)) for place in places])
        axes.set_xticks([], minor=True)
    handles = [Line2D([], [], color=color, linewidth=2) for color in _colors(len(curves))]
    names = [words.short(curve["name"], 32) for curve in curves]
    columns = 3 if sum(map(len, names)) < 40 else 1
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    axes.legend(handles, names, ncols=columns, handlelength=1.2, **place)


def _describe_curves(curves: Sequence[Curve]) -> str:
    ends = [
        f"{words.clean(curve['name'])} from {words.number(curve['points'][0][1])} to "
        f"{words.number(curve['points'][-1][1])}"
        for curve in curves
    ]
    return f"{words.clean(curves[0]['y'])} by {words.clean(curves[0]['x'])}: " + "; ".join(ends)


def before_after(comparisons: Sequence[Comparison], before_name: str, after_name: str, name: str) -> str:
    """Each comparison as a line from before to after, with the 95 % interval of the change as a band.

    The band is the interval of the difference laid at the value before: where it lies wholly on one side of the
    hollow mark, the change is measurable. Scores within 0..1 share an axis; every other measure has its own.
    """
    with theme():
        figure = drawn_changes(comparisons, before_name, after_name)
        if figure is None:
            return ""
        parts = [
            f"{words.clean(item['name'])} from {words.number(item['before'])} to {words.number(item['after'])}"
            for item in comparisons
        ]
        return _inline_svg(figure, name, "Before and after: " + "; ".join(parts))


def drawn_changes(comparisons: Sequence[Comparison], before_name: str, after_name: str) -> Figure | None:
    """The figure of `before_after`, drawn inside a `theme`; None where no number is finite."""
    scores = [item for item in comparisons if all(0 <= item[key] <= 1 for key in ("before", "after"))]
    others = [[item] for item in comparisons if item not in scores and _is_finite(item["before"] + item["after"])]
    groups = ([scores] if scores else []) + others
    if not groups:
        return None
    heights = [0.5 + 0.5 * len(group) for group in groups]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.35), layout="constrained")
    grid = figure.add_gridspec(len(groups), height_ratios=heights)
    for row, group in enumerate(groups):
        _draw_changes(figure.add_subplot(grid[row]), group)
    handles = [_change_mark(False), _change_mark(True), Rectangle((0, 0), 1, 1, color=PALETTE[0], alpha=0.25)]
    entries = [words.short(before_name), words.short(after_name), "95 % interval"]
    figure.legend(handles, entries, loc="outside upper left", ncols=3, handlelength=1.2, columnspacing=1.2)
    return figure


def _change_mark(after: bool) -> Line2D:
    face = PALETTE[0] if after else "none"
    return Line2D([], [], linestyle="none", marker="o", color=PALETTE[0], markerfacecolor=face, markersize=7)


def _draw_changes(axes: Axes, comparisons: Sequence[Comparison]) -> None:
    color = PALETTE[0]
    for row, item in enumerate(comparisons):
        before, after = item["before"], item["after"]
        low, high = item.get("low"), item.get("high")
        if low is not None and high is not None:
            band = Rectangle((before + low, row - 0.18), high - low, 0.36, color=color, alpha=0.25, linewidth=0)
            axes.add_patch(band)
        axes.plot([before, after], [row, row], color=color, linewidth=2)
        axes.plot([after], [row], "o", color=color, markersize=7)
        axes.plot([before], [row], "o", color=color, markerfacecolor="none", markersize=7, markeredgewidth=1.6)
        left_first = before <= after
        _beside(axes, before, row, words.number(before), left=left_first)
        _beside(axes, after, row, words.number(after), left=not left_first)
    axes.set_yticks(range(len(comparisons)), [_row_name(item, comparisons) for item in comparisons])
    axes.set_ylim(len(comparisons) - 0.5, -0.5)
    axes.margins(x=0.32)
    axes.autoscale_view(scaley=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="x")


def _beside(axes: Axes, x: float, y: float, text: str, left: bool) -> None:
    offset, side = (-8, "right") if left else (8, "left")
    axes.annotate(text, (x, y), (offset, 0), textcoords="offset points", ha=side, va="center", fontsize=9)


def _row_name(item: Comparison, comparisons: Sequence[Comparison]) -> str:
    name, names = item["name"], [other["name"] for other in comparisons]
    if names.count(name) == 1:
        return words.short(name)
    return f"{words.short(name)}\n{words.short(item.get('protocol', '').split(':')[0])}".strip()


def label_shares(data: Sequence[DataCard], name: str) -> str:
    """Share of each label in each data set that knows its labels, side by side; empty when none does."""
    known = [item for item in data if item.get("labels")]
    counts: dict[str, int] = {}
    for item in known:
        for label, count in (item.get("labels") or {}).items():
            counts[label] = counts.get(label, 0) + count
    if not counts:
        return ""
    labels = list(counts) if len(counts) <= MAX_LABELS else sorted(counts, key=lambda key: -counts[key])[:MAX_LABELS]
    with theme():
        figure, axes = _blank(0.9 + len(labels) * (0.12 + 0.16 * len(known)))
        thickness = 0.8 / len(known)
        for i, (color, item) in enumerate(zip(_colors(len(known)), known, strict=True)):
            own = item.get("labels") or {}
            shares = [100 * own.get(label, 0) / max(sum(own.values()), 1) for label in labels]
            places = [row - 0.4 + thickness * (i + 0.5) for row in range(len(labels))]
            axes.barh(places, shares, height=thickness * 0.92, color=color)
        axes.set_yticks(range(len(labels)), [words.short(label) for label in labels])
        axes.set_ylim(len(labels) - 0.4, -0.6)
        cut = f", {len(labels)} most frequent of {len(counts)} labels" if len(labels) < len(counts) else ""
        axes.set_xlabel(f"share of examples (%){cut}")
        _legend_above(figure, known)
        axes.tick_params(axis="y", length=0)
        axes.grid(True, axis="x")
        what = ", ".join(words.clean(item["role"]) for item in known)
        return _inline_svg(figure, name, f"Share of each of {len(counts)} labels in: {what}")


def lengths(data: Sequence[DataCard], name: str) -> str:
    """Histograms of text length as shares, one outline for each data set; empty when none was measured."""
    measured = [item for item in data if item.get("lengths") and sum(item["lengths"]["counts"])]
    measured = [item for item in measured if len(item["lengths"]["edges"]) == len(item["lengths"]["counts"]) + 1]
    if not measured:
        return ""
    with theme():
        figure, axes = _blank(2.9)
        for color, item in zip(_colors(len(measured)), measured, strict=True):
            counts, edges = item["lengths"]["counts"], item["lengths"]["edges"]
            shares = [100 * count / sum(counts) for count in counts]
            axes.stairs(shares, edges, fill=True, color=color, alpha=0.18)
            axes.stairs(shares, edges, color=color, linewidth=1.8)
        axes.set_xlabel(f"length ({words.short(measured[0]['lengths']['unit'])})")
        axes.set_ylabel("share of examples (%)")
        axes.grid(True, axis="y")
        _legend_above(figure, measured)
        medians = [
            f"{words.clean(item['role'])} {words.number(item['median_length'])}"
            for item in measured
            if item.get("median_length") is not None
        ]
        tail = f"; median length: {', '.join(medians)}" if medians else ""
        return _inline_svg(figure, name, "Histogram of text lengths" + tail)


def _legend_above(figure: Figure, data: Sequence[DataCard]) -> None:
    handles = [Rectangle((0, 0), 1, 1, color=color) for color in _colors(len(data))]
    roles = [item["role"] for item in data]
    names = [item["role"] if roles.count(item["role"]) == 1 else f"{item['role']}: {item['name']}" for item in data]
    columns = 3 if len(data) <= 3 and sum(len(words.short(text, 32)) for text in names) < 40 else 1
    entries = [words.short(text, 32) for text in names]
    figure.legend(handles, entries, loc="outside upper left", ncols=columns, handlelength=1, handleheight=0.9)


def confusion_matrix(labels: Sequence[str], counts: Sequence[Sequence[int]], title: str, name: str) -> str:
    """Counts of one confusion matrix (rows: true, columns: predicted), coloured by the share of the true class.

    Right answers are blue and mistakes orange; colour stays pale enough for the page's own ink to be read on it.
    """
    with theme():
        right = sum(counts[i][i] for i in range(len(labels)))
        description = f"Confusion matrix, {words.clean(title)}: {right} of {sum(map(sum, counts))} right"
        return _inline_svg(drawn_confusion(labels, counts), name, description)


def drawn_confusion(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Figure:
    """The figure of `confusion_matrix`, drawn inside a `theme`."""
    size = len(labels)
    side = max(WIDTH, 1.7 + 0.3 * size)
    figure, axes = _blank(side * 0.98, side)
    for row, line in enumerate(counts):
        total = max(sum(line), 1)
        for column, count in enumerate(line):
            if count:
                _draw_cell(axes, row, column, count, count / total, annotate=size <= MAX_ANNOTATED)
    names = [words.short(label, 16) for label in labels]
    axes.set_xticks(range(size), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), names)
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.tick_params(length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_alpha(0.3)
    return figure


def _draw_cell(axes: Axes, row: int, column: int, count: int, share: float, annotate: bool) -> None:
    color = PALETTE[0] if row == column else PALETTE[1]
    cell = Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, color=color, alpha=0.16 + 0.44 * share, linewidth=0)
    axes.add_patch(cell)
    if annotate:
        axes.text(column, row, f"{count}", ha="center", va="center", fontsize=9 if count < 1000 else 7)


def scatter(projection: Projection, labels: Sequence[str], title: str, name: str) -> str:
    """Source (rings) and target (filled triangles) points in one plane, coloured by label where `label_colors` can.

    Points whose label is unknown, and all of them without labels, take the colour of their domain.
    """
    colors = label_colors(labels)
    with theme():
        figure, axes = _blank(3.7)
        for domain, points, numbers in (
            ("source", projection["source"], projection.get("source_labels")),
            ("target", projection["target"], projection.get("target_labels")),
        ):
            fallback = PALETTE[0] if domain == "source" else PALETTE[1]
            known = numbers if colors and numbers and len(numbers) == len(points) else [-1] * len(points)
            marks = [(p, k) for p, k in zip(points, known, strict=True) if all(_is_finite(value) for value in p)]
            _draw_cloud(axes, domain, thin(marks), colors, fallback)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_alpha(0.3)
        counts = f"{len(projection['source'])} source and {len(projection['target'])} target texts"
        return _inline_svg(figure, name, f"Embeddings in two dimensions, {words.clean(title)}: {counts}")


def _draw_cloud(axes: Axes, domain: str, marks: Sequence[Any], colors: Sequence[str], fallback: str) -> None:
    by_color: dict[str, list[Sequence[float]]] = {}
    for point, number in marks:
        color = colors[number] if 0 <= number < len(colors) else fallback
        by_color.setdefault(color, []).append(point)
    for color, points in sorted(by_color.items()):
        x, y = zip(*points, strict=True)
        if domain == "source":
            axes.plot(x, y, "o", color=color, markerfacecolor="none", markersize=4.5, markeredgewidth=0.9, alpha=0.75)
        else:
            axes.plot(x, y, "^", color=color, markersize=5, markeredgewidth=0, alpha=0.9)


def label_colors(labels: Sequence[str]) -> list[str]:
    """One palette colour for each label; empty when there are no labels or more than the palette can tell apart."""
    return list(PALETTE[: len(labels)]) if len(labels) <= len(PALETTE) else []


def stage_seconds(steps: Sequence[Mapping[str, Any]], name: str) -> str:
    """Bars of seconds, the slowest first; each step is `{"title": ..., "seconds": ...}`."""
    ordered = sorted(steps, key=lambda step: -step["seconds"])
    with theme():
        figure, axes = _blank(0.3 + 0.52 * len(ordered))
        axes.barh(range(len(ordered)), [step["seconds"] for step in ordered], height=0.34, color=PALETTE[0])
        longest = max(step["seconds"] for step in ordered) or 1
        for row, step in enumerate(ordered):
            text = f"{words.short(step['title'], 42)}: {words.duration(step['seconds'])}"
            axes.text(0, row - 0.26, text, ha="left", va="bottom")
        axes.set_xlim(0, longest * 1.02)
        axes.set_ylim(len(ordered) - 0.75, -0.85)
        axes.set_axis_off()
        parts = [f"{words.clean(step['title'])} {words.duration(step['seconds'])}" for step in ordered]
        return _inline_svg(figure, name, "Time by stage: " + "; ".join(parts))


def thin(items: Sequence[Any]) -> list[Any]:
    """At most `MAX_POINTS` of the items, evenly spaced, first and last among them."""
    if len(items) <= MAX_POINTS:
        return list(items)
    return [items[round(i * (len(items) - 1) / (MAX_POINTS - 1))] for i in range(MAX_POINTS)]


def _colors(count: int) -> list[str]:
    return [PALETTE[i % len(PALETTE)] for i in range(count)]


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and isfinite(value)
