"""What is written: escaped, small, the same each time, within its limits, and nothing that a policy would not name."""

import base64
import hashlib
import io
import json
import random
import re
import wave
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hftransfer import explore
from hftransfer.errors import HFTransferError
from hftransfer.explore import Page, columns, content, packing, writing

HERE = Path(explore.__file__).parent
POINTS = np.random.default_rng(0).normal(size=(6, 2))
TEXTS = ["a", "</script><script>alert(1)</script>", "\u2028 & \u2029", "", None, "half \ud83d pair"]


def page(**changed):
    return Page(**{"title": "t", "points": POINTS, "axes": ("x", "y"), "content": TEXTS, "kind": "text", **changed})


class Scripts(HTMLParser):
    """The scripts, styles and addresses of a page, as a browser would see them."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.styles, self.blocks, self.addresses, self.policy = [], [], {}, [], ""
        self._open = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action", "data")]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        self._open = (tag, given) if tag in ("script", "style") else None

    def handle_data(self, text):
        if self._open:
            tag, given = self._open
            if given.get("type") == "application/json":
                self.blocks[given["id"]] = json.loads(text)
            else:
                (self.styles if tag == "style" else self.scripts).append(text)

    def handle_endtag(self, tag):
        self._open = None


def written(folder, made):
    return Scripts(explore.write(folder, made).read_text(encoding="utf-8"))


def test_json_in_a_page_is_neither_markup_nor_a_line_end():
    rng = random.Random(0)
    for _ in range(300):
        value = "".join(rng.choice("<>&/!-\"'\\script\u2028\u2029\n\0ä\U0001f389") for _ in range(rng.randrange(30)))
        made = packing.as_json([value, {value: None}])
        assert json.loads(made) == [value, {value: None}]
        assert not set(made) & set("<>&\u2028\u2029")


def test_rounded_places_are_within_half_a_step():
    values = np.random.default_rng(0).normal(size=500) * 1e6
    made = packing.places(values)
    steps = np.frombuffer(base64.b64decode(made["at"][1]), "<u2").astype(float)
    restored = made["low"] + (made["high"] - made["low"]) * steps / packing.STEPS
    assert np.abs(restored - values).max() <= 0.5001 * (made["high"] - made["low"]) / packing.STEPS
    assert set(np.frombuffer(base64.b64decode(packing.places(np.full(3, 7.0))["at"][1]), "<u2")) == {32768}


def test_the_policy_names_exactly_the_scripts_and_nothing_is_fetched(tmp_path):
    made = written(tmp_path, page())
    assert len(made.scripts) == 2 and len(made.styles) == 1
    for kind, sources in (("script-src", made.scripts), ("style-src", made.styles)):
        hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in sources]
        assert f"{kind} {' '.join(hashes)};" in made.policy
    assert made.policy.startswith("default-src 'none';") and "unsafe" not in made.policy
    assert made.addresses == ["data:,"]
    own = "".join(file.read_text() for file in (HERE / "parts").glob("*.js"))
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|\bfetch\(|XMLHttp|https?:", own) == []
    )


def test_texts_are_the_given_ones_and_the_bytes_the_same(tmp_path):
    made = written(tmp_path, page())
    assert made.blocks["piece-0"] == [*TEXTS[:5], "half ? pair"]
    first = (tmp_path / "explore.html").read_bytes()
    explore.write(tmp_path, page())
    assert (tmp_path / "explore.html").read_bytes() == first
    assert len(first) < 620_000  # all but half a kilobyte is the page itself


def test_every_script_is_used_once_and_ships():
    assert sorted(f"{name}.js" for name in writing.SCRIPTS) == sorted(file.name for file in HERE.glob("parts/*.js"))
    project = HERE.parent.parent
    settings = (project / "pyproject.toml").read_text()
    for target in ("wheel", "sdist"):
        section = settings.split(f"[tool.hatch.build.targets.{target}]")[1]
        patterns = re.findall(r'"(.+?)"', section[: section.index("]")])
        shipped = {file for pattern in patterns for file in project.glob(pattern.strip("/"))}
        missing = {file for file in HERE.rglob("*") if file.is_file() and "__pycache__" not in file.parts} - shipped
        assert missing == set()


def test_the_vendored_library_is_what_was_built():
    origin = json.loads((HERE / "vendor" / "origin.json").read_text())
    assert hashlib.sha256((HERE / "vendor" / "echarts.min.js").read_bytes()).hexdigest() == origin["sha256"]
    licences = (HERE / "vendor" / "LICENSES.txt").read_text()
    assert "Apache License" in licences and "d3" in licences and "Baidu" in licences


def codes(column):
    kind, text = column["codes"]
    return [column["names"][code] for code in np.frombuffer(base64.b64decode(text), f"<{kind}")]


@pytest.mark.parametrize(
    "values, names",
    [
        (["b 10", "b 2", None, "a", "b 2"], ["a", "b 2", "b 10", None]),
        (np.array([3, 1, 3]), ["1", "3"]),  # few whole numbers are names
        (np.array([True, False]), ["False", "True"]),
        (["10", "9", "-1"], ["-1", "9", "10"]),
        ([None, None], [None]),
        (["", "x"], ["", "x"]),
    ],
)
def test_categories_in_a_natural_order(values, names):
    made = columns.encode("c", values, coloured=False)
    assert made["names"] == names
    assert codes(made) == [None if value is None else str(value) for value in values]


def test_clusters_keep_the_order_of_their_words():
    made = columns.encode("c", ["a", "b", "c", "b"], coloured=True, first=["c", "a", "absent"])
    assert made["names"] == ["c", "a", "b"] and codes(made) == ["a", "b", "c", "b"]


def test_many_categories_begin_with_the_frequent_ones_and_too_many_are_text():
    values = [f"v{number}" for number in range(60)] + ["v7"]
    assert columns.encode("c", values, coloured=False)["names"][0] == "v7"
    many = [f"id {number}" for number in range(columns.MOST_CATEGORIES + 1)]
    assert columns.encode("c", many, coloured=False) == {"name": "c", "type": "text", "values": many}
    assert len(columns.encode("c", many, coloured=True)["names"]) == len(many)


@pytest.mark.parametrize(
    "values, kind",
    [
        ([0.5, None], "f4"),
        ([0.1, 1e300], "f8"),
        (range(30), "f4"),
        ([2**40, *range(25)], "f4"),
        ([2**53 - 1, *range(25)], "f8"),
    ],
)
def test_numbers_are_exact_in_as_few_bytes_as_that_takes(values, kind):
    made = columns.encode("n", list(values), coloured=False)
    assert made["values"][0] == kind
    restored = np.frombuffer(base64.b64decode(made["values"][1]), f"<{kind}").astype(float)
    np.testing.assert_array_equal(restored, [np.nan if value is None else value for value in values])


def test_pieces_are_all_rows_in_order_and_of_about_one_size(monkeypatch):
    monkeypatch.setattr(content, "PIECE", 100)
    rows = ["x" * size for size in (5, 300, 1, 1, 90, 20, 0)] + [None] * 50
    made = content.pieces(rows)
    assert [text for _, part in made for text in part] == rows
    assert [start for start, _ in made] == list(np.cumsum([0, *(len(part) for _, part in made)])[:-1])
    assert all(sum(map(content.weight, part[:-1])) < 100 for _, part in made)
    assert content.pieces([]) == []


def test_much_content_lies_beside_the_page_and_goes_when_it_is_little(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "PIECE", 30)
    assert written(tmp_path, page()).blocks["data"]["folder"] == ""
    monkeypatch.setattr(content, "ONE_FILE", 50)
    made = written(tmp_path, page())
    files = sorted((tmp_path / writing.PIECES).iterdir())
    assert len(files) == len(made.blocks["data"]["pieces"]) > 1 and list(made.blocks) == ["data"]
    rows = [
        row
        for file in files
        for row in json.loads(re.fullmatch(r"hftransferPiece\(\d+,(.*)\);\n", file.read_text())[1])
    ]
    assert rows == [*TEXTS[:5], "half ? pair"]
    monkeypatch.undo()
    explore.write(tmp_path, page())
    assert not (tmp_path / writing.PIECES).exists()


def test_what_does_not_fit_is_left_out_evenly_and_said(monkeypatch):
    monkeypatch.setitem(content.MOST_BYTES, "text", 60)
    kept, said = content.encode(["1234567890"] * 9, "text")
    assert kept == ["1234567890", None, None] * 3
    assert said == ["6 texts of 9 rows are left out: the page holds 0 MiB of them."]
    monkeypatch.undo()
    kept, said = content.encode(["ab" * 60_000, "c"], "text")
    assert [len(text) for text in kept] == [content.LONGEST, 1] and said[0].startswith("1 text of more than 100,000")


def test_more_points_than_can_be_drawn_are_thinned_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "MOST_POINTS", 4)
    made = written(tmp_path, page(columns={"c": list("abcdef")})).blocks
    assert (
        made["data"]["rows"] == 3
        and made["data"]["numbers"] == packing.array(np.arange(0.0, 6.0, 2))
        and made["piece-0"] == TEXTS[::2]
    )
    assert codes(made["data"]["columns"][0]) == ["a", "c", "e"]
    assert made["data"]["notes"] == ["6 points are too many to draw: one in 2 is shown."]


def test_images_of_every_kind_become_thumbnails():
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    large = Image.new("RGB", (500, 250), "red")
    items = [
        pixels,
        Image.fromarray(pixels),
        png.getvalue(),
        {"bytes": png.getvalue(), "path": None},
        large,
        None,
        b"no image",
        {},
    ]
    made, said = content.encode(items, "image")
    decoded = [Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) for uri in made if uri]
    for image in decoded[:4]:
        np.testing.assert_array_equal(np.asarray(image.convert("L")), pixels)
    assert decoded[4].size == (content.SIDE, content.SIDE // 2)
    assert made[5:] == [None] * 3 and said == ["2 images could not be read and cannot be shown."]


def test_sounds_are_kept_as_files_or_made_into_waves(tmp_path):
    samples = np.sin(np.arange(800) / 9)
    made, said = content.encode(
        [{"array": samples, "sampling_rate": 8000}, b"fLaC....", {"bytes": None, "path": str(tmp_path / "no")}],
        "sound",
    )
    with wave.open(io.BytesIO(base64.b64decode(made[0].split(",")[1]))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        restored = np.frombuffer(file.readframes(800), "<i2") / 32767
    np.testing.assert_allclose(restored, samples, atol=1 / 32767)
    assert made[1].startswith("data:audio/flac;base64,") and made[2] is None
    assert said == ["1 sound could not be read and cannot be shown."]


def test_groups_name_the_column_that_has_them(tmp_path):
    given = {"columns": {"other": list("uvwxyz"), "cluster": list("001122")}, "groups": {"0": "zero", "2": "two"}}
    assert written(tmp_path, page(**given)).blocks["data"]["grouped"] == 1
    assert written(tmp_path, page(**given, color_by="other")).blocks["data"]["grouped"] == 1
    assert written(tmp_path, page(columns=given["columns"])).blocks["data"]["grouped"] == -1


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"points": np.zeros((6, 3))}, r"points: \(6, 3\) is not \(rows, 2\)"),
        ({"points": np.zeros((0, 2)), "content": []}, r"points: \(0, 2\)"),
        ({"points": np.array([[0, 0]] * 5 + [[0, np.nan]])}, r"points: 1 rows are not finite \(5\)"),
        ({"columns": {"c": [1]}}, "columns.c: 1 values for 6 points"),
        ({"content": ["a"]}, "content: 1 values for 6 points"),
        ({"columns": {"cluster": [1] * 6}, "color_by": "clusters"}, "did you mean 'cluster'"),
        ({"kind": "texts"}, "did you mean 'text'"),
        ({"kind": None}, "kind: content and its kind"),
    ],
)
def test_mistakes_are_told(changed, message):
    with pytest.raises(HFTransferError, match=message):
        page(**changed)
