"""The few lines printed at the end of a run."""

from collections.abc import Iterator
from pathlib import Path

from rich.table import Table
from rich.text import Text

from hftransfer.report import words
from hftransfer.report.record import RunRecord, StageRecord, conclusion, read_run

_VERDICT_STYLE = {
    **dict.fromkeys(("helped", "converged"), "green"),
    **dict.fromkeys(("hurt", "collapsed", "diverged"), "red"),
    **dict.fromkeys(("no measurable difference", "undecided"), "yellow"),
}


def summary_table(run_folder: Path) -> Table:
    """One row for each comparison of each stage; a stage that compares nothing has one row that says what it did."""
    table = Table(title=Text(words.clean(read_run(run_folder).name)), title_justify="left")
    for heading in ("Stage", "Measure"):
        table.add_column(heading)
    for heading in ("Before", "After", "Difference (95 % interval)"):
        table.add_column(heading, justify="right")
    table.add_column("Verdict")
    for row in _rows(read_run(run_folder)):
        *cells, verdict = row
        table.add_row(*(Text(cell) for cell in cells), Text(verdict, style=_VERDICT_STYLE.get(verdict, "")))
    return table


def _rows(record: RunRecord) -> Iterator[tuple[str, ...]]:
    for stage in record.stages:
        evidence = stage.evidence
        own = "" if evidence["id"] == evidence["stage"] else f"{evidence['id']}: "
        title = words.clean(f"{own}{evidence['title']} ({words.duration(evidence['seconds'])})")
        told = conclusion(evidence)
        verdict: str = told["outcome"] if told else ""
        if told and verdict == "found":
            verdict = told["text"].partition(":")[0]  # what: "7 clusters"
        comparisons = evidence.get("comparison") or []
        if not comparisons:
            yield (title, "", "", "", "", verdict)
        for i, comparison in enumerate(comparisons):
            span = words.interval(comparison)
            change = words.signed(words.difference(comparison)) + (f" ({span})" if span else "")
            before, after = words.number(comparison["before"]), words.number(comparison["after"])
            first = i == 0
            protocol = comparison.get("protocol", "").partition(":")
            measure = comparison["name"] + (f" ({protocol[0]})" if protocol[1] else "")
            yield (title if first else "", measure, before, after, change, verdict if first else "")


def summary(run_folder: Path) -> list[str]:
    """The same as plain lines, one for each stage, and last where to look."""
    record = read_run(run_folder)
    lines = [_line(stage) for stage in record.stages]
    places = [("report", run_folder / "report.html"), ("checkpoint", run_folder / "final")]
    where = ", ".join(f"{name} {place}" for name, place in places if place.exists())
    return [*lines, f"Where to look: {where}"] if where else lines


def _line(stage: StageRecord) -> str:
    evidence = stage.evidence
    done = f"{evidence['title']} ({words.duration(evidence['seconds'])})"
    if told := conclusion(evidence):
        return words.clean(f"{done}: {told['text']}")
    comparisons = [
        f"{item['name']} {words.number(item['before'])} -> {words.number(item['after'])}"
        for item in evidence.get("comparison") or []
    ]
    return words.clean(": ".join([done, ", ".join(comparisons)] if comparisons else [done]))
