"""What `embed` tells of itself: facts of each shard, summed up at the end, whoever made the shards."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from datasets import ClassLabel

from hftransfer import models
from hftransfer.data.cards import lengths_of
from hftransfer.data.chunks import Chunk, Source
from hftransfer.data.rows import column
from hftransfer.data.spec import display_name
from hftransfer.vectors.embedder import Embedded, Manner

MOST_LABELS = 50  # names whose rows are counted: more are no classes to look at
NAMED = 3  # rows that a note names
CITATION = "Reimers and Gurevych 2019, Sentence-BERT, arXiv:1908.10084"
Facts = dict[str, Any]


def facts(chunk: Chunk, made: Embedded, source: Source, manner: Manner) -> Facts:
    """Of one shard, in JSON."""
    kept = set(made.places)
    unread = [chunk.numbers[place] for place in range(len(chunk.numbers)) if place not in kept]
    return {
        "read": chunk.read,
        "kept": len(made.vectors),
        "unread": unread,
        "cut": sum(length >= manner.max_length for length in made.lengths),
        "zero": int((~made.vectors.any(axis=1)).sum()),
        "lengths": Counter(made.lengths),
        "labels": _labels(chunk, made, source),
    }


def _labels(chunk: Chunk, made: Embedded, source: Source) -> dict[str, int] | None:
    """Rows by label, or None where they are no classes or a row has none."""
    if source.label is None:
        return None
    values = column(chunk.kept, source.label)
    found = Counter(values[place] for place in made.places)
    feature = chunk.kept.features[source.label]
    if isinstance(feature, ClassLabel):
        known = all(value is not None and value >= 0 for value in found)
        return {feature.names[value]: count for value, count in sorted(found.items())} if known else None
    named = all(isinstance(value, str | int) for value in found)
    return {str(value): count for value, count in found.items()} if named and len(found) <= MOST_LABELS else None


def summed(shards: Iterable[Facts]) -> Facts:
    """Of all shards."""
    found: Facts = {"read": 0, "kept": 0, "unread": [], "cut": 0, "zero": 0}
    lengths: Counter[int] = Counter()
    labels: Counter[str] | None = Counter()
    for shard in shards:
        for name in found:
            found[name] = found[name] + shard[name]
        lengths.update({int(length): rows for length, rows in shard["lengths"].items()})
        labels = None if labels is None or shard["labels"] is None else labels + Counter(shard["labels"])
    many = labels is None or len(labels) > MOST_LABELS
    return {**found, "lengths": lengths, "labels": None if many else dict(labels or {})}


def info(given: Mapping[str, Any], manner: Manner, source: Source) -> dict[str, Any]:
    """What the folder says of itself in `vectors.json`."""
    return {
        "width": manner.width,
        "dtype": given["dtype"],
        "kind": manner.kind,
        "content": source.content,
        "label": source.label,
        "data": display_name(source.spec),
        "model": models.public_name(given["model"]),
        "pooling": manner.pooling,
        "layers": list(manner.layers),
        "normalized": manner.normalize,
        "prompt": manner.prompt,
        "max_length": manner.max_length or None,
    }


def record(
    given: Mapping[str, Any], manner: Manner, source: Source, bf16: bool, found: Facts, speed: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics and evidence; `speed` is in tokens a second."""
    blank = found["read"] - found["kept"] - len(found["unread"])
    metrics: dict[str, Any] = {
        "rows": found["kept"],
        "width": manner.width,
        "rows_left_out": found["read"] - found["kept"],
        "zero_vectors": found["zero"],
    }
    if manner.kind == "text":
        metrics |= {"tokens_per_second": round(speed), "texts_cut": found["cut"]}
    name = models.public_name(given["model"])
    computed = "bf16" if bf16 else "fp32"
    notes = [f"{found['kept']:,} {manner.kind}s by {name}: {manner.says}; computed in {computed}"]
    notes += [f"before each text: {manner.prompt!r}"] if manner.prompt else []
    notes += _doubts(manner, found, blank)
    card = {"role": "embedded", "name": display_name(source.spec), "rows": found["kept"], "labels": _ordered(found)}
    evidence = {
        "stage": "embed",
        "title": f"Embed by {name}",
        "settings": dict(given),
        "notes": notes,
        "citations": [CITATION] if models.sentences(given["model"]).pooling else [],
        "data": [card | (lengths_of(found["lengths"], "tokens") if found["lengths"] else {})],
    }
    return metrics, evidence


def _ordered(found: Facts) -> dict[str, int] | None:
    """Numbers by size, names by the alphabet."""
    labels = found["labels"]
    if not labels:
        return None
    numbers = all(name.removeprefix("-").isdigit() for name in labels)
    return {name: labels[name] for name in sorted(labels, key=int if numbers else str)}


def _doubts(manner: Manner, found: Facts, blank: int) -> list[str]:
    """What whoever uses the vectors should know."""
    notes = []
    if manner.missing:
        notes.append(
            f"its modules.json goes on with {', '.join(manner.missing)}, which these vectors do not go through: they "
            "are not those of sentence-transformers"
        )
    if found["cut"]:
        share = f"{found['cut'] / found['kept']:.1%}"
        notes.append(f"{found['cut']:,} texts ({share}) fill the longest row of {manner.max_length} tokens: cut there")
    if blank:
        notes.append(f"{blank:,} rows left out: blank texts")
    if found["unread"]:
        rows = ", ".join(str(number + 1) for number in found["unread"][:NAMED])
        more = ", ..." if len(found["unread"]) > NAMED else ""
        notes.append(f"{len(found['unread']):,} rows left out: {manner.kind}s that cannot be read (row {rows}{more})")
    if found["zero"]:
        notes.append(f"{found['zero']:,} vectors are all zeros: no angle can be told to them")
    return notes
