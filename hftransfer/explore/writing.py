"""The page as files: everything in one of them or, of much content, that in pieces beside it."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from hftransfer.explore import columns, content, packing
from hftransfer.explore.page import Page

NAME, PIECES = "explore.html", "explore_data"
MOST_POINTS = 500_000  # a browser redraws them in about half a second
HERE = Path(__file__).parent
SCRIPTS = (
    "basics", "data", "looks", "filters", "map", "labels", "card", "legend", "table", "csv", "main",
)  # fmt: skip


def write(folder: Path, page: Page) -> Path:
    """Writes `explore.html` into a folder that is there, and gives its path.

    The same page has the same bytes. With more than 24 MiB of content (`content.ONE_FILE`) the folder `explore_data`
    lies beside it: pieces that the page loads as scripts, since one opened from a disk may not read files otherwise.
    """
    step = -(-len(page.points) // MOST_POINTS)
    said = [f"{len(page.points):,} points are too many to draw: one in {step} is shown."] if step > 1 else []
    page = page.every(step)
    data = _data(page)
    encoded, more = ([], []) if page.content is None else content.encode(page.content, str(page.kind))
    data["notes"] = [packing.clean(note) for note in (*page.notes, *said, *more)]
    if page.numbers is not None:
        data["numbers"] = packing.array(np.asarray(page.numbers, dtype=np.float64))
    pieces = content.pieces(encoded)
    data["pieces"] = [[start, len(rows)] for start, rows in pieces]
    apart = sum(map(content.weight, encoded)) > content.ONE_FILE
    data["folder"] = PIECES if apart else ""
    shutil.rmtree(folder / PIECES, ignore_errors=True)
    inline = ""
    if apart:
        (folder / PIECES).mkdir()
        for place, (_, rows) in enumerate(pieces):
            script = f"hftransferPiece({place},{packing.as_json(rows)});\n"
            (folder / PIECES / f"{place:04}.js").write_text(script, encoding="utf-8", newline="\n")
    else:
        inline = "\n".join(_block(f"piece-{place}", rows) for place, (_, rows) in enumerate(pieces))
    path = folder / NAME
    path.write_text(
        _html(packing.clean(page.title), _block("data", data), inline, apart), encoding="utf-8", newline="\n"
    )
    return path


def _data(page: Page) -> dict[str, Any]:
    """All but the content, for JSON."""
    from hftransfer.report.figures import PALETTE

    points = np.asarray(page.points)
    groups = {packing.clean(str(label)): packing.clean(words) for label, words in page.groups.items()}
    encoded = [
        columns.encode(packing.clean(str(name)), values, coloured=name == page.color_by, first=list(groups))
        for name, values in page.columns.items()
    ]
    colourable = [place for place, column in enumerate(encoded) if column["type"] != "text"]
    asked = list(page.columns).index(page.color_by) if page.color_by else None
    return {
        "rows": len(points),
        "axes": [packing.clean(axis) for axis in page.axes],
        "points": [packing.places(points[:, axis]) for axis in (0, 1)],
        "columns": encoded,
        "color": asked if asked is not None else colourable[0] if colourable else -1,
        "kind": page.kind,
        "groups": groups,
        "grouped": _grouped(encoded, groups, asked),
        "palette": PALETTE,
    }


def _grouped(encoded: list[dict[str, Any]], groups: dict[str, str], asked: int | None) -> int:
    """The column whose values the groups name: the one asked for first, else the first that has most of them."""
    shared = [len(groups.keys() & set(column.get("names", ()))) for column in encoded]
    if asked is not None and shared[asked]:
        return asked
    return int(np.argmax(shared)) if any(shared) else -1


def _block(name: str, value: Any) -> str:
    return f'<script type="application/json" id="{name}">{packing.as_json(value)}</script>'


def _html(title: str, data: str, inline: str, apart: bool) -> str:
    """The whole page; its policy names the scripts that may run by their hashes and lets nothing be fetched."""
    from markupsafe import escape

    style = (HERE / "parts" / "page.css").read_text(encoding="utf-8")
    library = (HERE / "vendor" / "echarts.min.js").read_text(encoding="utf-8")
    own = "\n".join((HERE / "parts" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    own = f'"use strict";\n(() => {{\n{own}}})();\n'
    sources = [packing.hash_source(library), packing.hash_source(own), *(["'self'", "file:"] if apart else [])]
    policy = (
        f"default-src 'none'; script-src {' '.join(sources)}; style-src {packing.hash_source(style)}; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "TITLE": str(escape(title)),
        "POLICY": policy,
        "STYLE": style,
        "LICENCES": str(escape((HERE / "vendor" / "LICENSES.txt").read_text(encoding="utf-8"))),
        "DATA": f"{data}\n{inline}",
        "LIBRARY": library,
        "OWN": own,
    }
    pieces = (HERE / "parts" / "page.html").read_text(encoding="utf-8").split("%%")
    return "".join(parts[piece] if place % 2 else piece for place, piece in enumerate(pieces))
