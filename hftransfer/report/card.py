"""The model card of a run, made of the same evidence as the report: README.md with a model-index.

`ModelCard` escapes nothing, so every value that reaches the text goes through `markdown` or `code` here.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hftransfer.evidence import Picture
from hftransfer.report import embedded, grouped, heads, snippets, words
from hftransfer.report.limits import limits, listed, makes_clusters, makes_samples, target_names
from hftransfer.report.record import (
    RunRecord,
    StageRecord,
    conclusion,
    distinct_citations,
    distinct_data,
    read_run,
    write_atomically,
)
from hftransfer.report.results import comparisons, eval_results
from hftransfer.report.snippets import TEXT, Use

SHEET = "samples.png"  # of a generator, in the final folder
NO_LICENCE: Mapping[str, str] = {}
_SCRATCH = "scratch/"  # before a model type: a new network of it, as in `models`
_CITATION = re.compile(
    r"(?P<author>[^,\d]+(?:,[^,\d]+)*?),?\s+(?P<year>\d{4}),\s*(?P<title>.+?)"
    r"(?:,\s*arXiv:\s*(?P<arxiv>[\w./-]+?))?\.?",
    flags=re.IGNORECASE,
)
_MARKUP = re.compile(r"[`*|~\[\]\\$]")  # also what the Hub reads as mathematics
_LOOSE_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")  # inside a word it marks nothing


class Ready(str):
    """Text that is already safe to stand in the card."""


def card(run_folder: Path, final_folder: Path) -> Path:
    """Writes `final_folder/README.md` of a run atomically and returns its path; raises as `read_run` does."""
    return model_card(read_run(Path(run_folder)), Path(final_folder))


def model_card(
    record: RunRecord,
    folder: Path,
    *,
    repo_id: str | None = None,
    licence: Mapping[str, str] = NO_LICENCE,
    pictures: Sequence[Picture] = (),
    carries_code: bool = False,
) -> Path:
    """Writes `folder/README.md` atomically and returns its path.

    The YAML block is a `huggingface_hub.ModelCardData` whose model-index holds the final checkpoint's comparisons;
    no absolute path, no token and no unescaped data text enters the file.

    Args:
        record: what is told.
        folder: of the checkpoint or the clusters.
        repo_id: their name on the Hub; None: the lines that load them name the folder.
        licence: `license`, and for one of its own `license_name` and `license_link`; empty: none is told.
        pictures: files in the folder that are shown.
        carries_code: the source of its architecture lies in the folder.
    """
    record = grouped.narrowed(record, folder)
    use = use_of(record, folder)
    if repo_id is not None:
        use = use._replace(snippet=use.snippet.replace(heads.MODEL, f'model = "{repo_id}"\n'))
    data = card_data(record, use, licence)
    return write_card(folder, data, _body(record, use, folder, pictures, carries_code))


def write_card(folder: Path, data: Any, body: str) -> Path:
    """Writes a card, its metadata before its text, and returns its path."""
    from huggingface_hub import RepoCard

    content = f"---\n{data.to_yaml()}\n---\n\n{body}"
    RepoCard(content)  # raises when the block does not parse back
    file = folder / "README.md"
    write_atomically(file, content)
    return file


def use_of(record: RunRecord, final_folder: Path) -> Use:
    """What the final checkpoint is for: by its own files, or else by what its last stages left as evidence."""
    stages = record.final_stages()
    if makes_clusters(record) and (final_folder / snippets.CLUSTERS).exists():
        return snippets.placing(final_folder, embedded.behind(stages[-1].folder))
    if found := snippets.use_of(final_folder):
        answers = found.task == "text-generation" and any(stage.evidence["stage"] == "finetune" for stage in stages)
        return snippets.answering(found, final_folder) if answers else found
    if any(stage.evidence.get("per_class") or stage.evidence.get("confusion") for stage in stages):
        return TEXT["text-classification"]
    if any(stage.evidence["stage"] == "pretrain" for stage in stages):
        return TEXT["fill-mask"]
    return TEXT["text-classification" if any(comparisons(stages)) else "feature-extraction"]


def card_data(record: RunRecord, use: Use, licence: Mapping[str, str] = NO_LICENCE) -> Any:
    """The card's metadata as `ModelCardData`; keys that the evidence does not support are left out."""
    from huggingface_hub import ModelCardData

    data = distinct_data(record.stages)
    results = eval_results(record, use.task)
    stages = [stage.evidence["stage"] for stage in record.stages]
    methods = [(stage.evidence.get("settings") or {}).get("method") for stage in record.stages]
    clusters = makes_clusters(record)  # grouped by a method of no weights: nothing of a checkpoint is in them
    tags = ["hftransfer", *([] if clusters else ["transfer-learning"]), *use.tags]
    tags += ["domain-adaptation"] if "adapt" in stages else []
    tags += [method for method in methods if isinstance(method, str) and re.fullmatch(r"[a-z0-9_-]+", method)]
    base_model = None if clusters else linked_base(record)
    return ModelCardData(
        model_name=model_name(record),
        library_name=use.library,
        pipeline_tag=use.task if use.task != "other" else None,
        base_model=base_model,
        datasets=list(dict.fromkeys(found for item in data if (found := words.hub_id(item["name"])))) or None,
        tags=tags,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        eval_results=results or None,
        **licence,
    )


def linked_base(record: RunRecord) -> str | None:
    """The Hub id of the checkpoint whose weights the final one goes on from; None where there is none."""
    start = starting_point(record)
    return start if start and not _begins_anew(record, start) and _is_hub_id(start) else None


def model_name(record: RunRecord) -> str:
    """The recipe's name as a repository could be called."""
    return re.sub(r"[^\w.-]+", "-", words.public_name(record.name)).strip("-.") or "model"


def starting_point(record: RunRecord) -> str | None:
    """The checkpoint the run started from, as it was given."""
    settings = [stage.evidence.get("settings") or {} for stage in record.stages]
    candidates = [record.recipe.get("model"), *(setting.get("model") for setting in settings)]
    return next((value.strip() for value in candidates if isinstance(value, str) and value.strip()), None)


def _begins_anew(record: RunRecord, start: str) -> bool:
    """Whether nothing of a starting point's weights is in the final checkpoint."""
    settings = [stage.evidence.get("settings") or {} for stage in record.stages]
    return start.startswith(_SCRATCH) or any(setting.get("from_scratch") for setting in settings)


def _is_hub_id(name: str) -> bool:
    """A folder's name, linked as `base_model`, would point at whatever the Hub has under that name."""
    return bool(re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name)) and not Path(name).is_dir()


def markdown(value: object) -> str:
    """One line of Markdown that shows `value` literally: no markup, no HTML, no table cell, no link, no path."""
    if isinstance(value, Ready):
        return str(value)
    line = _LOOSE_UNDERSCORE.sub(r"\\_", _MARKUP.sub(_entity, _without_html(value)))
    line = re.sub(r"^(#{1,6}(?=\s|$)|[-+](?=\s|$)|[-=]+$)", r"\\\1", line)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", line)


def code(value: object) -> Ready:
    """`value` in a code element whose content can end neither the element nor the table cell around it."""
    return Ready(f"<code>{_LOOSE_UNDERSCORE.sub('&#95;', _MARKUP.sub(_entity, _without_html(value)))}</code>")


def _without_html(value: object) -> str:
    return words.one_line(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _entity(mark: re.Match[str]) -> str:
    return f"&#{ord(mark.group())};"


def rendered(template: str, **values: Any) -> str:
    """A card's text; all values but those that are `Ready` are escaped."""
    environment = Environment(
        loader=PackageLoader("hftransfer.report"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=markdown,
    )
    environment.filters.update(number=words.number, duration=words.duration, code=code)
    text = environment.get_template(template).render(**values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _body(record: RunRecord, use: Use, folder: Path, pictures: Sequence[Picture], carries_code: bool) -> str:
    items = distinct_data(record.stages)
    base = "" if makes_clusters(record) else starting_point(record) or ""
    return rendered(
        "card.md.j2",
        name=model_name(record),
        description=record.run.get("description"),
        base=words.public_name(base.removeprefix(_SCRATCH)),
        new=base.startswith(_SCRATCH),
        stages=[_stage(stage) for stage in record.stages],
        data=[
            {**item, "name": words.public_name(item["name"]), "labels": len(item.get("labels") or {})}
            for item in items
        ],
        intended=_intended(record, use),
        limits=list(limits(record, use.reads)),
        snippet=Ready(use.snippet),
        sheet=SHEET if makes_samples(record) and (folder / SHEET).is_file() else None,
        pictures=pictures,
        carries_code=carries_code,
        settings=_training_settings(record),
        seed=record.run.get("seed"),
        citations=distinct_citations(record.stages),
        bibtex=Ready(bibtex(distinct_citations(record.stages))),
        environment=made_with(record),
    )


def _stage(stage: StageRecord) -> dict[str, Any]:
    evidence = stage.evidence
    rows = [
        {
            **item,
            "protocol": item.get("protocol"),
            "rows": item.get("rows"),
            "change": words.signed(words.difference(item)),
            "interval": words.interval(item),
        }
        for item in evidence.get("comparison") or []
    ]
    tables = [table for table in evidence.get("tables") or [] if table["rows"]] if evidence["stage"] == "gan" else []
    clusters = grouped.tables(stage) if evidence["stage"] == "cluster" else []
    return {
        "title": evidence["title"],
        "seconds": evidence["seconds"],
        "notes": evidence.get("notes") or [],
        "verdict": told["text"] if (told := conclusion(evidence)) else None,
        "before": evidence.get("before_name") or "before",
        "after": evidence.get("after_name") or "after",
        "rows": rows,
        "tables": tables or clusters,
        "metrics": sorted(stage.metrics.items()) if not rows and not tables else [],
    }


def _intended(record: RunRecord, use: Use) -> str:
    names = list(dict.fromkeys(target_names(record)))
    about = f" like those of {listed(names)}" if names else ""
    labels = _labels(record)
    if not use.labels or not labels:
        return f"{use.does}{about}."
    shown = listed(labels[:20]) + (f" and {len(labels) - 20} more" if len(labels) > 20 else "")
    return f"{use.does}{about}. {use.labels.format(count=len(labels), names=shown)}"


def _labels(record: RunRecord) -> list[str]:
    for stage in reversed(record.final_stages()):
        if confusion := stage.evidence.get("confusion"):
            return confusion["labels"]
        if per_class := stage.evidence.get("per_class"):
            return [row["label"] for row in per_class]
    return []


def _training_settings(record: RunRecord) -> list[dict[str, Any]]:
    tables = []
    for stage in record.stages:
        given = {key: value for key, value in (stage.evidence.get("settings") or {}).items() if key != "output_dir"}
        settings = words.flat_settings(given)
        if rows := [(key, ", ".join(map(words.public_name, text.split(", ")))) for key, text in settings]:
            tables.append({"title": stage.evidence["title"], "rows": rows})
    return tables


def made_with(record: RunRecord) -> list[str]:
    facts = record.environment
    lines = [f"Python {facts['python']}"] if facts.get("python") else []
    lines += [f"{package} {number}" for package, number in (facts.get("packages") or {}).items()]
    lines += [str(facts[key]) for key in ("platform", "cpu") if facts.get(key)]
    lines += [f"accelerator: {facts['accelerator']}"] if facts.get("accelerator") else []
    return lines


def bibtex(citations: list[str]) -> str:
    """The citations as BibTeX entries; one that is not `AUTHORS YEAR, TITLE[, arXiv:ID]` is left to the text."""
    entries: dict[str, str] = {}
    for citation in citations:
        if match := _CITATION.fullmatch(re.sub(r"[{}\\`]", "", words.one_line(citation))):
            author, year, title, arxiv = match.group("author", "year", "title", "arxiv")
            stem = re.sub(r"[^a-z]", "", author.split()[0].lower()) + year
            key = stem if stem not in entries else f"{stem}{chr(ord('a') + len(entries) % 26)}"
            fields = {"author": re.sub(r"\s+et al\.?$", " and others", author), "title": title, "year": year}
            fields |= {"eprint": arxiv, "archivePrefix": "arXiv"} if arxiv else {}
            lines = ",\n".join(f"  {field} = {{{value}}}" for field, value in fields.items())
            entries[key] = f"@misc{{{key},\n{lines}\n}}"
    return "\n\n".join(entries.values())
