import getpass
import io
import json
import math
import platform
from pathlib import Path

import pytest
from rich.console import Console

from hftransfer import report
from hftransfer.report import words


def test_summary_says_what_was_done_and_where_to_look(run_folder: Path) -> None:
    lines = report.summary(run_folder)
    assert len(lines) == 2 and "Transfer helped: accuracy on the target rose" in lines[1]
    report.render(run_folder)
    assert report.summary(run_folder)[-1] == f"Where to look: report {run_folder / 'report.html'}"


def test_summary_table_has_a_row_for_each_comparison(run_folder: Path, bare_run_folder: Path) -> None:
    table = report.summary_table(run_folder)
    assert table.row_count == 4
    printed = io.StringIO()
    Console(width=200, file=printed).print(table)
    text = printed.getvalue()
    for told in ("accuracy", "0.714", "0.833", "+0.119 (+0.080 to +0.160)", "helped", "no measurable difference"):
        assert told in text
    assert report.summary_table(bare_run_folder).row_count == 1


def test_environment_can_be_published() -> None:
    facts = report.environment()
    assert facts["python"] == platform.python_version()
    assert facts["cpu_count"] >= 1 and "torch" in facts["packages"]
    text = json.dumps(facts)
    assert platform.node() not in text and str(Path.home()) not in text.replace('"/', "")
    assert getpass.getuser() not in text.split()


def test_environment_knows_the_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert report.environment()["world_size"] == 2


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.8333, "0.833"), (-0.5, "-0.500"), (137.25, "137.2"), (12345, "12,345"), (math.nan, "not finite"), (None, "")],
)
def test_number(value: object, told: str) -> None:
    assert words.number(value) == told


@pytest.mark.parametrize(("seconds", "told"), [(8.44, "8.4 s"), (312.4, "5 min 12 s"), (7380, "2 h 03 min")])
def test_duration(seconds: float, told: str) -> None:
    assert words.duration(seconds) == told


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("fancyzhx/ag_news (train)", "fancyzhx/ag_news"),
        ("demo/api_docs (scipy)", None),
        ("reviews.csv", None),
        ("data/reviews.parquet", None),
        ("/srv/data", None),
        ("a/b/c", None),
    ],
)
def test_hub_id(name: str, found: str | None) -> None:
    assert words.hub_id(name) == found


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("https://data.example/rows.csv?X-Amz-Signature=0123abcd", "rows.csv"),
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased"),
        ("/srv/models/mine/", "mine"),
        ("~/mine", "mine"),
        ("x/" + "y" * 300, "x/" + "y" * 300),
        ("words with a/b and c/d", "words with a/b and c/d"),
        ("outputs/run/final", "final"),
        ("C:\\models\\mine", "mine"),
    ],
)
def test_public_name(name: str, told: str) -> None:
    assert words.public_name(name) == told
