import re

import pytest

from hftransfer.report import figures


def luminance(color: str) -> float:
    """Relative luminance of `#rrggbb`, WCAG 2.1."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def blend(color: str, paper: str, alpha: float) -> str:
    parts = [round(alpha * int(color[i : i + 2], 16) + (1 - alpha) * int(paper[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{part:02x}" for part in parts)


@pytest.mark.parametrize("color", figures.PALETTE)
@pytest.mark.parametrize("paper", ["#ffffff", "#131619"])
def test_palette_reads_on_white_and_on_near_black(color: str, paper: str) -> None:
    assert contrast(color, paper) >= 3


@pytest.mark.parametrize(("paper", "ink"), [("#ffffff", "#1b2026"), ("#131619", "#e4e7ea")])
@pytest.mark.parametrize("color", figures.PALETTE[:2])
def test_counts_read_on_the_strongest_cell(color: str, paper: str, ink: str) -> None:
    assert contrast(blend(color, paper, 0.6), ink) >= 4.5


def test_svg_takes_the_ink_of_the_page_and_keeps_text_as_text() -> None:
    svg = figures.confusion_matrix(["cat", "$dog$ <b>"], [[3, 1], [0, 2]], "after", "one")
    assert svg.startswith('<svg class="plot" role="img" aria-label="Confusion matrix, after: 5 of 6 right"')
    assert "currentColor" in svg and figures.INK not in svg
    assert ">cat</text>" in svg and "$dog$ &lt;b&gt;" in svg
    assert "<style" not in svg and "<metadata" not in svg and "xmlns" not in svg and "<!--" not in svg


def test_ids_carry_the_name_of_their_figure_and_references_resolve() -> None:
    svg = figures.loss_curves([{"name": "loss", "x": "step", "y": "loss", "points": [[0, 2.0], [1, 1.0]]}], "c")[0]
    ids = set(re.findall(r'\bid="([^"]+)"', svg))
    assert ids and all(name.startswith("c-0-") for name in ids)
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg)) <= ids


def test_curves_are_grouped_by_axes_and_lose_what_is_not_finite() -> None:
    curves = [
        {"name": "a", "x": "step", "y": "loss", "points": [[0, 2.0], [1, float("nan")], [2, 1.0]]},
        {"name": "b", "x": "step", "y": "loss", "points": [[0, 3.0]]},
        {"name": "c", "x": "step", "y": "weight", "points": [[0, 0.0]]},
        {"name": "d", "x": "step", "y": "nothing", "points": [[0, float("inf")]]},
    ]
    pictures = figures.loss_curves(curves, "c")
    assert len(pictures) == 2
    assert "a from 2.000 to 1.000; b from 3.000 to 3.000" in pictures[0]


def test_loss_curve_png_is_a_picture_and_nothing_is_written_for_nothing(tmp_path) -> None:
    curve = {"name": "loss", "x": "step", "y": "loss", "points": [[0, 2.0], [9, 1.0]]}
    figures.loss_curve_png([curve], tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    figures.loss_curve_png([], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_thinning_keeps_the_ends() -> None:
    items = figures.thin(range(10_000))
    assert len(items) == figures.MAX_POINTS and items[0] == 0 and items[-1] == 9_999
    assert figures.thin([1, 2]) == [1, 2]


def test_more_labels_than_colours_fall_back_to_the_domains() -> None:
    labels = [f"label {i}" for i in range(40)]
    points = [[float(i), float(i % 7)] for i in range(40)]
    projection = {"source": points, "target": points, "source_labels": list(range(40)), "target_labels": None}
    svg = figures.scatter(projection, labels, "before", "s")
    assert figures.label_colors(labels) == []
    assert figures.PALETTE[0] in svg and figures.PALETTE[1] in svg and figures.PALETTE[2] not in svg
    wide = figures.confusion_matrix(labels, [[int(i == j) for j in range(40)] for i in range(40)], "after", "w")
    assert "min-width" in wide


def test_empty_evidence_draws_nothing() -> None:
    assert figures.label_shares([{"role": "source", "name": "x", "rows": 3, "labels": None}], "l") == ""
    assert figures.lengths([{"role": "source", "name": "x", "rows": 3}], "l") == ""
    assert figures.before_after([], "before", "after", "b") == ""
    nothing = {"name": "loss", "before": float("nan"), "after": 1.0, "higher_is_better": False}
    assert figures.before_after([nothing], "before", "after", "b") == ""
