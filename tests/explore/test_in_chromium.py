"""The page in a real browser: drawn, searched, filtered, lassoed, saved; nothing of the data runs, nothing leaves."""

import csv
import io
import json
import time
from itertools import pairwise

import numpy as np
import pytest

from hftransfer import explore
from hftransfer.explore import Page, content, packing, writing
from hftransfer.report.figures import PALETTE

HOSTILE = "</script><script>alert(1)</script><img src=https://example.invalid/x onerror=alert(2)>"
# four points at the corners and one in the middle
POINTS = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0], [5.0, 5.0]])
TEXTS = ["the first text", "=SUM(A1)", 'line one\nline "two", with ÄÖ', None, HOSTILE]
KINDS = ["even", "odd", "even", "odd", HOSTILE]
LOADED = "!document.querySelector('#download').disabled"  # all texts are there
SCORES = np.array([-0.5, 1.25, 2.0, np.nan, 4.0])


def page(**changed):
    given = {
        "title": f"Five points {HOSTILE}",
        "points": POINTS,
        "axes": ("across", HOSTILE),
        "columns": {"kind": KINDS, "score": SCORES, HOSTILE: ["+1", "@x", "-2", "plain", "=3"]},
        "content": TEXTS,
        "kind": "text",
        "color_by": "kind",
        "notes": [HOSTILE],
        "groups": {"even": "two four", HOSTILE: HOSTILE},
    }
    return Page(**{**given, **changed})


@pytest.fixture
def tab(browser, tmp_path):
    opened = browser.open(explore.write(tmp_path, page()))
    opened.wait("document.querySelector('#status').textContent === '5 points'")
    opened.wait(LOADED)
    yield opened
    assert opened.requests() == []
    assert opened.troubles() == []


def place(tab, row):
    """The pixel of a row, by the page's equal scales: a tenth more than the points, beside the buttons."""
    left, top, width, height = tab.box("#canvas")
    unit = min(width - 48, height) / (10 * 1.1)
    x, y = POINTS[row]
    return left + (width - 48) / 2 + (x - 5) * unit, top + height / 2 - (y - 5) * unit


def colour(text):
    return np.array([int(text[start : start + 2], 16) for start in (1, 3, 5)])


def test_each_point_is_drawn_in_its_colour(tab):
    tab.click("#words")  # the words lie over the points
    time.sleep(0.1)
    picture = tab.picture()
    for row, kind in enumerate(KINDS):
        x, y = map(round, place(tab, row))
        expected = colour(PALETTE[{"even": 0, HOSTILE: 1, "odd": 2}[kind]])
        assert np.abs(picture[y, x] - expected).max() < 45, (row, kind)
    left, top, width, height = map(int, tab.box("#canvas"))
    saturated = np.ptp(picture[top : top + height, left : left + width - 60], axis=2) > 60
    assert 5 * 30 < saturated.sum() < 5 * 150  # five discs and nothing else


def test_a_hover_shows_the_text_and_the_columns_and_runs_nothing(tab):
    tab.mouse("Moved", *place(tab, 4))
    tab.wait("!document.querySelector('#card').hidden")
    card = tab.text("#card")
    assert card.startswith(HOSTILE) and "score\n4" in card
    assert tab.run("document.querySelectorAll('#card img, #card script').length") == 0
    tab.mouse("Moved", *(value + 60 for value in place(tab, 4)))
    tab.wait("document.querySelector('#card').hidden")


def test_a_click_opens_the_whole_text(tab):
    for kind in ("Pressed", "Released"):
        tab.mouse(kind, *place(tab, 2))
    tab.wait("!document.querySelector('#point').hidden")
    assert 'line one\nline "two", with ÄÖ' in tab.text("#point")
    tab.press("Escape")
    tab.wait("document.querySelector('#point').hidden")


def test_hostile_text_is_shown_as_it_is(tab):
    assert tab.text("h1") == f"Five points {HOSTILE}"
    assert HOSTILE in tab.text("#notes") and HOSTILE in tab.text("#axes")
    assert HOSTILE in tab.texts("#legend .value .name")
    assert HOSTILE in tab.texts("#table thead th")
    assert HOSTILE in "".join(tab.texts("td.content"))
    assert HOSTILE in tab.run("[...document.querySelector('#color').options].map((one) => one.text)")


def test_a_legend_entry_hides_its_points(tab):
    assert tab.texts("#legend .count") == ["2", "1", "2"]
    tab.click("#legend .value")
    tab.wait("document.querySelector('#status').textContent === '3 of 5 points'")
    assert tab.texts("tbody th") == ["1", "3", "4"]
    assert tab.texts("#chips button") == ["kind: 1 of 3 hidden \N{MULTIPLICATION SIGN}"]
    tab.click("#chips button")
    tab.wait("document.querySelector('#status').textContent === '5 points'")
    tab.click("#legend li:last-child .only")
    tab.wait("document.querySelector('#status').textContent === '2 of 5 points'")
    assert tab.texts("tbody th") == ["1", "3"]


def test_a_range_of_numbers_is_a_filter_and_missing_ones_are_outside(tab):
    tab.choose("#filter", "score")
    tab.run(
        "(() => { const box = document.querySelector('#filter-values [data-end=from]'); box.value = '1';"
        " box.dispatchEvent(new Event('change')); })()"
    )
    tab.wait("document.querySelector('#status').textContent === '3 of 5 points'")
    assert tab.texts("tbody th") == ["1", "2", "4"]


def test_the_search_counts_whatever_the_case(tab):
    tab.press("/")
    tab.type("#search", "äö")
    tab.wait("document.querySelector('#status').textContent === '1 of 5 points'")
    assert tab.texts("tbody th") == ["2"]
    tab.press("Escape")
    tab.wait("document.querySelector('#status').textContent === '5 points'")
    tab.type("#search", "PLAIN")  # in a column
    tab.wait("document.querySelector('#status').textContent === '1 of 5 points'")
    assert tab.texts("tbody th") == ["3"]


def lasso(tab, rows):
    """Draws around the rows, in their order, and back to the first one."""
    tab.run("document.querySelector('#canvas').focus()")
    tab.press("l")
    middle_x, middle_y = place(tab, 4)
    corners = [
        (x + 14 * np.sign(x - middle_x), y + 14 * (np.sign(y - middle_y) or -1))
        for x, y in (place(tab, row) for row in rows)
    ]
    corners.append(corners[0])
    steps = [
        (x + (to_x - x) * share, y + (to_y - y) * share)
        for (x, y), (to_x, to_y) in pairwise(corners)
        for share in (0, 0.25, 0.5, 0.75)
    ]
    tab.drag([*steps, corners[0]])


def test_a_lasso_selects(tab):
    lasso(tab, (0, 1, 3, 2))
    tab.wait("document.querySelector('#status').textContent.includes('selected')")
    assert tab.text("#list-title") == "Selection: 5 rows"
    lasso(tab, (0, 1, 4))
    tab.wait("document.querySelector('#status').textContent.endsWith('3 selected')")
    assert tab.texts("tbody th") == ["0", "1", "4"]
    tab.press("Escape")
    tab.wait("document.querySelector('#status').textContent === '5 points'")


def downloaded(tab, folder):
    tab.browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    tab.click("#download")
    end = time.monotonic() + 10
    while not (files := [file for file in folder.iterdir() if file.suffix == ".csv"]):
        assert time.monotonic() < end, "no file came"
        time.sleep(0.02)
    return files[0]


def test_the_selection_as_csv_is_quoted_and_holds_no_formula(tab, tmp_path_factory):
    file = downloaded(tab, tmp_path_factory.mktemp("saved"))
    assert file.name == "rows.csv"
    head, *rows = csv.reader(io.StringIO(file.read_bytes().decode("utf-8-sig"), newline=""), strict=True)
    assert head == ["row", "x", "y", "text", "kind", "score", HOSTILE]
    assert [row[3] for row in rows] == ["the first text", "'=SUM(A1)", TEXTS[2], "", HOSTILE]
    assert [row[5] for row in rows] == ["-0.5", "1.25", "2", "", "4"]
    assert [row[6] for row in rows] == ["'+1", "'@x", "'-2", "plain", "'=3"]
    coordinates = np.array([[float(row[1]), float(row[2])] for row in rows])
    np.testing.assert_allclose(coordinates, POINTS, atol=10 / packing.STEPS)


def test_keys_step_through_points_and_rows(tab):
    tab.run("document.querySelector('#canvas').focus()")
    tab.press("ArrowRight")  # the middle of the map comes first
    tab.wait("document.querySelector('#said').textContent.startsWith('Row 4')")
    tab.press("ArrowUp")
    tab.wait("/^Row [23]/.test(document.querySelector('#said').textContent)")
    tab.press(" ")
    tab.wait("document.querySelector('#status').textContent.endsWith('1 selected')")
    tab.press("Enter")
    tab.wait("document.activeElement.id === 'point'")
    tab.press("Escape")
    tab.wait("document.activeElement.id === 'canvas'")
    tab.press("Escape")
    tab.press("Escape")
    tab.wait("document.querySelector('#status').textContent === '5 points'")
    tab.run("document.querySelector('tbody tr').focus()")
    tab.press("ArrowDown")
    assert tab.run("document.activeElement.dataset.row") == "1"
    tab.press("Enter")
    assert tab.text("#point h2") == "Row 1"


def test_the_tab_key_reaches_every_control(tab):
    seen = []
    for _ in range(60):
        tab.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", windowsVirtualKeyCode=9)
        seen.append(
            tab.run("document.activeElement.id || document.activeElement.className || document.activeElement.tagName")
        )
    wanted = ["search", "theme", "color", "value", "only", "filter", "canvas", "pan", "lasso", "download", "TR"]
    assert [name for name in wanted if name not in seen] == []
    assert seen.index("search") < seen.index("color") < seen.index("canvas") < seen.index("TR")


def test_the_theme_follows_the_system_and_the_button(browser, tmp_path):
    tab = browser.open(explore.write(tmp_path, page()), dark=True)
    background = "getComputedStyle(document.body).backgroundColor"
    assert tab.run(background) == "rgb(19, 22, 25)"
    tab.click("#theme")
    assert tab.run(background) == "rgb(255, 255, 255)"
    assert tab.troubles() == []


def test_a_table_of_many_rows_has_pages_and_sorts(browser, tmp_path):
    values = np.arange(120) * 7 % 120
    tab = browser.open(
        explore.write(
            tmp_path, Page("Many", np.random.default_rng(0).normal(size=(120, 2)), ("x", "y"), {"value": values})
        )
    )
    assert len(tab.texts("tbody tr")) == 50 and tab.text("#page") == "1\N{EN DASH}50 of 120"
    tab.click("#after")
    assert tab.texts("tbody th")[0] == "50"
    tab.click("thead th:last-child button")
    assert [int(text) for text in tab.texts("tbody td")] == list(range(50))
    tab.click("thead th:last-child button")
    assert [int(text) for text in tab.texts("tbody td")] == list(range(119, 69, -1))


def test_content_beside_the_page_is_loaded_from_a_disk(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(content, "ONE_FILE", 10)
    monkeypatch.setattr(content, "PIECE", 20)
    tab = browser.open(explore.write(tmp_path, page()))
    tab.wait("document.querySelectorAll('td.content')[4].textContent.startsWith('</script>')")
    tab.type("#search", "first")
    tab.wait("document.querySelector('#status').textContent === '1 of 5 points'")
    beside = {file.resolve().as_uri() for file in (tmp_path / writing.PIECES).iterdir()}
    assert len(beside) == 3 and set(tab.requests()) == beside
    assert tab.troubles() == []


def test_a_missing_folder_is_said(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(content, "ONE_FILE", 10)
    path = explore.write(tmp_path, page())
    (tmp_path / writing.PIECES / "0000.js").unlink()
    tab = browser.open(path)
    tab.wait("!document.querySelector('#loading').hidden")
    assert writing.PIECES in tab.text("#loading")


def test_images_and_sounds_are_shown(browser, tmp_path):
    images = [np.full((8, 8), value, np.uint8) for value in (0, 60, 120, 180, 240)]
    tab = browser.open(explore.write(tmp_path, page(content=images, kind="image")))
    tab.wait("[...document.querySelectorAll('td img')].filter((one) => one.naturalWidth === 8).length === 5")
    assert tab.run("document.querySelector('td img').className") == "pixels"
    sounds = [{"array": np.sin(np.arange(1600) / 5), "sampling_rate": 16_000}] * 5
    tab = browser.open(explore.write(tmp_path, page(content=sounds, kind="sound")))
    tab.click("tbody tr")  # comes as soon as it is loaded
    tab.wait("document.querySelector('audio')")
    tab.wait("Math.abs(document.querySelector('audio').duration - 0.1) < 0.01")
    assert tab.troubles() == [] == tab.requests()


@pytest.mark.parametrize(
    "odd",
    [
        {"points": POINTS[:1], "columns": {}, "content": None, "kind": None, "color_by": "", "groups": {}},
        {"points": np.zeros((5, 2)), "columns": {"all": ["one"] * 5}, "color_by": "all"},
        {"columns": {"none": [None] * 5, "nan": np.full(5, np.nan)}, "color_by": "nan"},
        {"content": [""] * 5, "columns": {"": [""] * 5}, "color_by": ""},
        {
            "points": np.array([[i * 1e-300, 1e300] for i in range(5)]),
            "columns": {"n": np.arange(5) * 1e9},
            "color_by": "n",
        },
    ],
)
def test_odd_data_are_drawn(browser, tmp_path, odd):
    made = page(**odd)
    tab = browser.open(explore.write(tmp_path, made))
    rows = len(made.points)
    assert tab.text("#status") == f"{rows} point{'s' * (rows > 1)}"
    picture = tab.picture()
    left, top, width, height = map(int, tab.box("#canvas"))
    inner = picture[top + 8 : top + height - 40, left + 8 : left + width - 60]
    assert (np.abs(inner - inner[0, 0]).max(axis=2) > 40).sum() > 20
    tab.run("document.querySelector('#canvas').focus()")
    tab.press("ArrowRight")
    tab.wait("!document.querySelector('#card').hidden")
    assert tab.troubles() == []


def test_many_points_and_categories_stay_quick(browser, tmp_path):
    rng = np.random.default_rng(0)
    rows = 30_000
    columns = {"topic": [f"topic {number}" for number in rng.integers(500, size=rows)]}
    path = explore.write(tmp_path, Page("Many", rng.normal(size=(rows, 2)), ("x", "y"), columns))
    assert path.stat().st_size < 1.2e6
    tab = browser.open(path)
    assert len(tab.texts("#legend .value")) == 500
    left, top, width, height = tab.box("#canvas")
    began = time.monotonic()
    for _ in range(5):
        tab.call(
            "Input.dispatchMouseEvent",
            type="mouseWheel",
            x=left + width / 2,
            y=top + height / 2,
            deltaX=0,
            deltaY=-100,
        )
        tab.run("new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)))")
    assert time.monotonic() - began < 5  # about 0.3 on two quiet cores
    assert json.loads(tab.run("JSON.stringify([...document.querySelectorAll('#canvas canvas')].length)")) >= 1
    assert tab.troubles() == []
