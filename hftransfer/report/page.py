"""One page that says what was done and whether transfer helped: report.html."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from hftransfer.evidence import Embedding, Outcome, Projection, Table, Verdict
from hftransfer.report import figures, words
from hftransfer.report.record import (
    RunRecord,
    StageRecord,
    conclusion,
    distinct_citations,
    distinct_data,
    read_run,
    recall_changes,
    write_atomically,
)

MAIN_SETTINGS = 10  # shown at once; the rest is folded away
LONGEST_HEADING = 60
SMALL = 400  # pixels wide: a picture below is enlarged, by whole pixels; one above is shown in its own size at most
_OUTCOME_CLASSES = {
    "helped": "helped", "converged": "helped", "hurt": "hurt", "collapsed": "hurt", "diverged": "hurt"
}  # fmt: skip
_PICTURES = {".png": "image/png", ".gif": "image/gif"}


def render_page(run_folder: Path) -> Path:
    """Reads a run folder, writes its `report.html` atomically and returns the path."""
    record = read_run(Path(run_folder))
    page = record.folder / "report.html"
    write_atomically(page, page_text(record))
    return page


def page_text(record: RunRecord) -> str:
    """The page as text; the same record gives the same bytes."""
    environment = Environment(
        loader=PackageLoader("hftransfer.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else words.clean(value),
    )
    environment.filters.update(number=words.number, duration=words.duration)
    return environment.get_template("report.html.j2").render(page_context(record))


def page_context(record: RunRecord) -> dict[str, Any]:
    """What the template prints, section by section; a section without evidence is an empty list."""
    stages = list(enumerate(record.stages, start=1))
    return {
        "name": record.name,
        "description": record.run.get("description"),
        "facts": _facts(record),
        "question": _question(record),
        "results": [_result(i, stage) for i, stage in stages if _has_result(stage)],
        "plan": [_plan(stage) for _, stage in stages],
        "recipe": record.recipe_text.strip(),
        "data": _data(record),
        "curves": _with_figures((stage, _curve_figures(i, stage)) for i, stage in stages),
        "confusions": _with_figures((stage, _confusion_figures(i, stage)) for i, stage in stages),
        "classes": [_classes(stage) for _, stage in stages if stage.evidence.get("per_class")],
        "embeddings": [_embedding(i, stage) for i, stage in stages if _projections(stage)],
        "pictures_of_stages": _with_figures((stage, _stage_pictures(stage)) for _, stage in stages),
        "tables": [table for _, stage in stages if not stage.evidence.get("outcome") for table in _tables(stage)],
        "samples": [stage.evidence["samples"] for _, stage in stages if _has_samples(stage)],
        "times": _times(record),
        "environment": _environment(record.environment),
        "citations": [_citation(text) for text in distinct_citations(record.stages)],
        "command": record.run.get("command"),
    }


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    facts = [("Stages", ", ".join(stage.evidence["id"] for stage in record.stages))]
    if (seconds := record.run.get("seconds")) is not None:
        facts.append(("Time", words.duration(seconds)))
    if record.run.get("seed") is not None:
        facts.append(("Seed", str(record.run["seed"])))
    if record.recipe.get("model"):
        facts.append(("Starting from", str(record.recipe["model"])))
    return [(name, value) for name, value in facts if value]


def _question(record: RunRecord) -> str:
    """What the page answers first: of a training that is compared with nothing, not whether it helped."""
    told = [stage.evidence for stage in record.stages if _has_result(stage)]
    outcomes = {one["outcome"]["outcome"] for one in told if one.get("outcome")}
    if not outcomes or any(one.get("verdict") or one.get("comparison") for one in told):
        return "did transfer help?"
    return "what was found?" if "found" in outcomes else "did it converge?"


def _has_result(stage: StageRecord) -> bool:
    evidence = stage.evidence
    return bool(conclusion(evidence) or evidence.get("comparison") or stage.metrics)


def _result(i: int, stage: StageRecord) -> dict[str, Any]:
    evidence = stage.evidence
    comparisons = evidence.get("comparison") or []
    before, after = evidence.get("before_name") or "before", evidence.get("after_name") or "after"
    verdict = conclusion(evidence)
    return {
        "title": evidence["title"],
        "outcome": _heading(verdict) if verdict else None,
        "outcome_class": _OUTCOME_CLASSES.get(verdict["outcome"], "level") if verdict else None,
        "text": _verdict_text(verdict) if verdict else None,
        "tables": _tables(stage) if evidence.get("outcome") else [],  # they stand for the missing comparison
        "before": before,
        "after": after,
        "rows": [
            {
                **item,
                "protocol": item.get("protocol"),
                "rows": item.get("rows"),
                "change": words.signed(words.difference(item)),
                "interval": words.interval(item),
            }
            for item in comparisons
        ],
        "figure": Markup(figures.before_after(comparisons, before, after, f"change-{i}")),
        "metrics": sorted(stage.metrics.items()),
        "pages": [
            (f"{stage.folder.name}/{Path(page['file']).name}", page["caption"])
            for page in evidence.get("pages") or []
            if (stage.folder / Path(page["file"]).name).is_file()
        ],
    }


def _tables(stage: StageRecord) -> list[Table]:
    return [table for table in stage.evidence.get("tables") or [] if table["rows"]]


def _heading(verdict: Verdict | Outcome) -> str:
    """What the verdict's sentence says before its colon: `Transfer helped`, `Pretraining hurt`."""
    start, colon, _ = verdict["text"].partition(": ")
    if verdict["outcome"] == "no measurable difference":
        return "No measurable difference"
    return start if colon and len(start) < LONGEST_HEADING else verdict["outcome"].capitalize()


def _verdict_text(verdict: Verdict | Outcome) -> str:
    """The verdict's sentence without the outcome, where that stands above it."""
    start, colon, rest = verdict["text"].partition(": ")
    return _first_upper(rest) if colon and start == _heading(verdict) else verdict["text"]


def _plan(stage: StageRecord) -> dict[str, Any]:
    evidence = stage.evidence
    settings = list(words.flat_settings(evidence.get("settings") or {}))
    return {
        "id": evidence["id"],
        "stage": evidence["stage"],
        "title": evidence["title"],
        "seconds": evidence["seconds"],
        "notes": evidence.get("notes") or [],
        "settings": settings[:MAIN_SETTINGS],
        "more_settings": settings[MAIN_SETTINGS:],
        "log": evidence.get("log") or [],
    }


def _data(record: RunRecord) -> dict[str, Any]:
    items = distinct_data(record.stages)
    return {
        "items": [
            {
                "role": item["role"],
                "name": item["name"],
                "rows": item["rows"],
                "split": item.get("split"),
                "median": item.get("median_length"),
                "unit": item["lengths"]["unit"] if item.get("lengths") else "",
                "labels": len(item.get("labels") or {}),
            }
            for item in items
        ],
        "has_median": any(item.get("median_length") is not None for item in items),
        "figures": [
            {"svg": Markup(svg), "caption": caption}
            for svg, caption in (
                (figures.label_shares(items, "labels"), "Labels"),
                (figures.lengths(items, "lengths"), "Lengths"),
            )
            if svg
        ],
    }


def _with_figures(pairs: Iterator[tuple[StageRecord, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    return [{"title": stage.evidence["title"], "figures": pictures} for stage, pictures in pairs if pictures]


def _curve_figures(i: int, stage: StageRecord) -> list[dict[str, Any]]:
    pictures = figures.loss_curves(stage.evidence.get("curves") or [], f"curve-{i}")
    return [{"svg": Markup(svg), "caption": ""} for svg in pictures]


def _confusion_figures(i: int, stage: StageRecord) -> list[dict[str, Any]]:
    confusion = stage.evidence.get("confusion")
    if not confusion:
        return []
    before, after = confusion.get("before"), confusion.get("after")
    names = stage.evidence.get("before_name") or "before", stage.evidence.get("after_name") or "after"
    pictures = []
    for key, title, counts in (("before", names[0], before), ("after", names[1], after)):
        if counts:
            svg = figures.confusion_matrix(confusion["labels"], counts, title, f"confusion-{i}-{key}")
            right = sum(counts[j][j] for j in range(len(counts)))
            caption = f"{_first_upper(title)}: {right} of {sum(map(sum, counts))} right"
            pictures.append({"svg": Markup(svg), "caption": caption})
    return pictures


def _classes(stage: StageRecord) -> dict[str, Any]:
    before = {change.label: change.before for change in recall_changes(stage.evidence)}
    rows = []
    for row in stage.evidence["per_class"]:
        recall_before = before.get(row["label"])
        fell = recall_before is not None and row["recall"] < recall_before
        rows.append({**row, "recall_before": recall_before, "fell": fell})
    return {
        "title": stage.evidence["title"],
        "rows": rows,
        "has_before": bool(before),
        "before": stage.evidence.get("before_name") or "before",
    }


def _projections(stage: StageRecord) -> list[tuple[str, str, Projection]]:
    """Key, title and points of the pictures before and after, where there are points."""
    embedding = stage.evidence.get("embedding") or Embedding()
    candidates = [
        ("before", stage.evidence.get("before_name") or "before", embedding.get("before")),
        ("after", stage.evidence.get("after_name") or "after", embedding.get("after")),
    ]
    return [
        (key, title, points) for key, title, points in candidates if points and points["source"] + points["target"]
    ]


def _embedding(i: int, stage: StageRecord) -> dict[str, Any]:
    labels = stage.evidence["embedding"].get("labels") or []
    pictures = []
    for key, title, projection in _projections(stage):
        svg = figures.scatter(projection, labels, title, f"embedding-{i}-{key}")
        pictures.append({"svg": Markup(svg), "caption": _first_upper(title)})
    return {
        "title": stage.evidence["title"],
        "figures": pictures,
        "legend": list(zip(labels, figures.label_colors(labels), strict=False)),
        "domain_colors": figures.PALETTE[:2],
    }


def _stage_pictures(stage: StageRecord) -> list[dict[str, Any]]:
    """The pictures in the stage folder, written into the page."""
    found = []
    for picture in stage.evidence.get("pictures") or []:
        file = stage.folder / Path(picture["file"]).name
        if file.suffix in _PICTURES and file.is_file():
            data = base64.b64encode(file.read_bytes()).decode()
            with Image.open(file) as opened:
                width = opened.width
            look = 'class="stored small"' if width < SMALL else f'class="stored" style="max-width:{width}px"'
            image = f'<img {look} alt="" src="data:{_PICTURES[file.suffix]};base64,{data}">'
            found.append({"svg": Markup(image), "caption": picture["caption"]})
    return found


def _has_samples(stage: StageRecord) -> bool:
    samples = stage.evidence.get("samples")
    return bool(samples and samples["rows"])


def _times(record: RunRecord) -> dict[str, Any] | None:
    steps = [{"title": stage.evidence["title"], "seconds": stage.evidence["seconds"]} for stage in record.stages]
    rest = (record.run.get("seconds") or 0) - sum(stage.evidence["seconds"] for stage in record.stages)
    if rest >= 1:
        steps.append({"title": "Everything between the stages", "seconds": rest})
    return {"svg": Markup(figures.stage_seconds(steps, "times")), "caption": ""} if len(steps) > 1 else None


def _environment(environment: dict[str, Any]) -> dict[str, Any]:
    names = {
        "python": "Python",
        "cpu": "Processor",
        "cpu_count": "Processors usable",
        "memory_gib": "Memory (GiB)",
        "world_size": "Processes",
    }
    facts = [
        (names.get(key, key.replace("_", " ").capitalize()), value)
        for key, value in environment.items()
        if not isinstance(value, dict) and value is not None
    ]
    return {"facts": facts, "packages": list((environment.get("packages") or {}).items())}


def _citation(text: str) -> dict[str, str]:
    match = re.search(r"arXiv:\s*(\d{4}\.\d{4,5}|[a-z-]+/\d{7})", text, flags=re.IGNORECASE)
    return {"text": text, "link": f"https://arxiv.org/abs/{match.group(1)}" if match else ""}


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]
