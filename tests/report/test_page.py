import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from hftransfer import report
from hftransfer.errors import HFTransferError
from hftransfer.report.pictures import grid

SECTIONS = {
    "result",
    "plan",
    "data",
    "curves",
    "confusion",
    "classes",
    "embedding",
    "samples",
    "times",
    "environment",
    "citations",
    "reproduce",
}
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Collects elements, their attributes and the visible text; asserts that elements nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def sections(self) -> set[str]:
        return {attributes["id"] or "" for tag, attributes in self.elements if tag == "section"}


@pytest.fixture(scope="module")
def page(shared_run_folder: Path) -> Page:
    return Page(report.render(shared_run_folder).read_text(encoding="utf-8"))


def test_every_section_has_its_evidence(page: Page) -> None:
    assert page.sections() == SECTIONS
    links = {(a["href"] or "")[1:] for tag, a in page.elements if tag == "a" and (a["href"] or "").startswith("#")}
    assert links == SECTIONS


def test_the_verdict_and_the_numbers_are_told(page: Page) -> None:
    for told in ("Transfer helped", "No measurable difference", "0.833", "+0.080 to +0.160", "168", "held out"):
        assert told in page.text
    assert "transductive: the target texts that training saw, labels unseen" in page.text


def test_data_text_is_shown_and_never_runs(page: Page) -> None:
    assert "script" not in {tag for tag, _ in page.elements}
    assert "<script>alert(1)</script> | pipe" in page.text
    assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "image", "base"}
        assert "src" not in attributes
        href = attributes.get("href") or "#"
        assert href.startswith("#") or (tag == "a" and href.startswith("https://arxiv.org/abs/"))
        for value in attributes.values():
            assert "url(" not in (value or "").replace("url(#", "")


def test_ids_are_unique_and_references_resolve(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for key, value in attributes.items():
            found = re.findall(r"url\(#([^)]+)\)", value or "")
            found += [value[1:]] if key == "href" and value and value.startswith("#") else []
            assert set(found) <= set(ids)


def test_pictures_and_tables_can_be_heard(page: Page) -> None:
    pictures = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(pictures) == 12
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("caption") == tags.count("table") > 4
    assert all("scope" in attributes for tag, attributes in page.elements if tag == "th")


def test_secrets_stay_out(page: Page) -> None:
    assert "hf_abcdefgh" not in page.text and "hub_token" not in page.text


def test_the_same_record_gives_the_same_bytes(run_folder: Path) -> None:
    first = report.render(run_folder).read_bytes()
    code = "import sys, pathlib; from hftransfer import report; report.render(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(run_folder)], check=True, cwd=Path(__file__).parents[2])
    assert (run_folder / "report.html").read_bytes() == first
    assert [file.name for file in run_folder.glob(".*")] == []


def test_sections_without_evidence_are_left_out(bare_run_folder: Path) -> None:
    page = Page(report.render(bare_run_folder).read_text(encoding="utf-8"))
    assert page.sections() == {"plan"}
    assert "svg" not in {tag for tag, _ in page.elements}


@pytest.mark.parametrize("empty", [True, False])
def test_missing_and_empty_keys_take_only_their_sections(run_folder: Path, empty: bool) -> None:
    sections = {"curves": "curves", "confusion": "confusion", "per_class": "classes", "embedding": "embedding"}
    for file in run_folder.glob("*/evidence.json"):
        evidence = json.loads(file.read_text(encoding="utf-8"))
        for key in sections.keys() & evidence.keys():
            if empty:
                evidence[key] = type(evidence[key])()
            else:
                del evidence[key]
        file.write_text(json.dumps(evidence), encoding="utf-8")
    page = Page(report.render(run_folder).read_text(encoding="utf-8"))
    assert page.sections() == SECTIONS - set(sections.values())


def test_stages_come_in_the_order_of_their_numbers(bare_run_folder: Path) -> None:
    for number in (10, 2):
        folder = bare_run_folder / f"{number}-later"
        folder.mkdir()
        evidence = {"stage": "finetune", "id": f"id{number}", "title": f"Title {number}", "seconds": 1.0}
        (folder / "evidence.json").write_text(json.dumps(evidence), encoding="utf-8")
    (bare_run_folder / "3-unfinished").mkdir()
    text = Page(report.render(bare_run_folder).read_text(encoding="utf-8")).text
    assert text.index("1. Fine-tune") < text.index("2. Title 2") < text.index("3. Title 10")


def test_missing_or_broken_records_are_named(run_folder: Path) -> None:
    with pytest.raises(HFTransferError, match=r"nowhere: no such run folder"):
        report.render(run_folder / "nowhere")
    (run_folder / "2-adapt" / "evidence.json").write_text("{", encoding="utf-8")
    with pytest.raises(HFTransferError, match=r"evidence\.json: not valid JSON"):
        report.render(run_folder)
    (run_folder / "2-adapt" / "evidence.json").write_text('{"stage": "adapt"}', encoding="utf-8")
    with pytest.raises(HFTransferError, match=r"lacks 'id'"):
        report.render(run_folder)


def test_a_stored_picture_is_written_into_the_page_and_may_be_shown(run_folder):
    folder = next(path for path in sorted(run_folder.iterdir()) if (path / "evidence.json").exists())
    evidence = json.loads((folder / "evidence.json").read_text())
    evidence["pictures"] = [
        {"file": "a.png", "caption": "from <top> to bottom"},
        {"file": "../b.png", "caption": "of another folder"},
        {"file": "missing.png", "caption": "not there"},
    ]
    evidence["settings"]["model"] = "/somewhere/private/checkpoint"
    (folder / "evidence.json").write_text(json.dumps(evidence))
    picture = grid([[np.zeros((2, 2, 1), dtype=np.uint8)]])
    (folder / "a.png").write_bytes(picture)
    (run_folder / "b.png").write_bytes(b"other")
    report.render(run_folder)
    page = (run_folder / "report.html").read_text()
    assert page.count('src="data:image/png;base64,') == 1 and base64.b64encode(picture).decode() in page
    assert "img-src data:" in page and "from &lt;top&gt; to bottom" in page
    assert "/somewhere" not in page and "checkpoint" in page
