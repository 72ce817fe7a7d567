"""The run of `embed`: rows in, vectors out, a shard at a time."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from hftransfer import models, processes
from hftransfer.data.cards import describe
from hftransfer.data.chunks import SPLIT, Chunk, Source, open_source
from hftransfer.data.rows import column, has_labels, label_names_of
from hftransfer.data.spec import Spec, display_name
from hftransfer.errors import HFTransferError
from hftransfer.runs import StageFolder
from hftransfer.vectors import Writer
from hftransfer.vectors.embedder import Embedded, Embedder, Manner, settled
from hftransfer.vectors.store import ROW, open_vectors

OPTIONS = ("pooling", "layers", "normalize", "prompt", "truncate_dim", "max_length")
MOST_LABELS = 50  # names whose rows are counted in the record
CITATION = "Reimers and Gurevych 2019, Sentence-BERT, arXiv:1908.10084"


def plan(given: Mapping[str, Any]) -> dict[str, Any]:
    """What would be read, and how wide its vectors will be."""
    manner, source = _opened(given)
    rows = source.rows
    made = {"rows": rows or 0, "width": manner.width}
    read = {"to embed": "a stream" if rows is None else rows}
    return {"class": models.check(given["model"], "encoder"), "rows": read, "steps": 0, "vectors": made}


def _opened(given: Mapping[str, Any]) -> tuple[Manner, Source]:
    manner = settled(given["model"], **{name: given[name] for name in OPTIONS})
    source = open_source(given["data"], key="data", kind=manner.kind, columns=given["columns"])
    for taken in (ROW, *([SPLIT] if len(source.splits) > 1 else [])):
        if taken in source.kept:
            raise HFTransferError(f"columns: '{taken}' is what embed calls a column of its own; rename it in the data")
    return manner, source


def run(folder: StageFolder, given: Mapping[str, Any]) -> None:
    """Embeds what no whole shard holds yet."""
    manner, source = _opened(given)
    embedder = Embedder(manner, bf16=given["bf16"], tokens_per_batch=given["tokens_per_batch"])
    writer = Writer(folder.begin())
    started, read = time.monotonic(), processes.agree(writer.read)
    tokens = 0
    for chunk, made in _embedded(source, embedder, given["rows_per_shard"], read):
        tokens += made.tokens
        if processes.is_main():
            writer.add(_stored(made, given["dtype"]), _rows(chunk, made), read=chunk.end, facts=_facts(chunk, made))
    if not processes.agree(writer.rows):
        raise HFTransferError(f"data: '{display_name(source.spec)}' has no row that can be embedded")
    metrics, evidence = {}, {}
    if processes.is_main():
        counts = sum((Counter(shard["facts"]) for shard in writer.shards), Counter())
        writer.finish(_info(given, manner, source))
        seconds = time.monotonic() - started
        metrics = {
            "rows": writer.rows,
            "width": manner.width,
            **({"tokens_per_second": round(tokens / seconds)} if tokens else {}),
            "rows_left_out": counts["read"] - counts["kept"],
            **({"texts_cut": counts["cut"]} if manner.kind == "text" else {}),
        }
        evidence = _evidence(folder, given, manner, source, embedder, metrics)
    folder.finish(metrics, evidence)


def _embedded(source: Source, embedder: Embedder, size: int, start: int) -> Iterator[tuple[Chunk, Embedded]]:
    """Each chunk that is left, with its vectors; a bar counts the rows on the main process."""
    from tqdm.auto import tqdm

    processed = processes.state().num_processes
    bar = tqdm(total=source.rows, initial=start, desc="embed", unit="row", disable=not processes.is_main(), leave=True)
    with bar:
        for chunk in source.chunks(size, start):
            if chunk.numbers:
                made = embedder(chunk.content, key="data", done=lambda rows: bar.update(rows * processed))
            else:
                made = Embedded(np.zeros((0, embedder.manner.width), np.float32), [], 0, 0)
            bar.n = chunk.end
            bar.refresh()
            yield chunk, made


def _stored(made: Embedded, dtype: str) -> NDArray[Any]:
    return made.vectors.astype(dtype)


def _rows(chunk: Chunk, made: Embedded) -> Dataset:
    """The rows that have a vector: their numbers, and what is kept of them."""
    kept = chunk.kept if len(made.places) == len(chunk.kept) else chunk.kept.select(made.places)
    numbers = [chunk.numbers[place] for place in made.places]
    return (
        kept.flatten_indices().add_column(ROW, numbers) if kept._indices is not None else kept.add_column(ROW, numbers)
    )


def _facts(chunk: Chunk, made: Embedded) -> dict[str, int]:
    return {"read": chunk.read, "kept": len(made.vectors), "cut": made.cut}


def _info(given: Mapping[str, Any], manner: Manner, source: Source) -> dict[str, Any]:
    """What the folder says of itself."""
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


def _evidence(
    folder: StageFolder, given: Mapping[str, Any], manner: Manner, source: Source, embedder: Embedder, metrics: Any
) -> dict[str, Any]:
    name = models.public_name(given["model"])
    computed = f"computed in {'bf16' if embedder.bf16 else 'fp32'}"
    notes = [f"{metrics['rows']:,} {manner.kind}s by {name}: {manner.says}; {computed}"]
    if manner.prompt:
        notes.append(f"before each text: {manner.prompt!r}")
    if metrics.get("texts_cut"):
        notes.append(f"{metrics['texts_cut']:,} texts fill the longest row of {manner.max_length} tokens: cut there")
    if metrics["rows_left_out"]:
        what = "blank texts" if manner.kind == "text" else f"{manner.kind}s that cannot be read"
        notes.append(f"{metrics['rows_left_out']:,} rows left out: {what}")
    return {
        "stage": "embed",
        "title": f"Embed by {name}",
        "settings": dict(given),
        "notes": notes,
        "citations": [CITATION] if models.sentences(given["model"]).pooling else [],
        "data": [_card(folder, source)],
    }


def _card(folder: StageFolder, source: Source) -> dict[str, Any]:
    """The data in the record."""
    rows = open_vectors(folder.work).rows()
    card = describe(rows.select_columns([ROW]), name=display_name(source.spec), role="embedded")
    if source.label is None or not has_labels(rows, source.label):
        return card
    spec = Spec("data", "memory", data=rows)
    try:
        names = label_names_of(rows, source.label, spec)
    except HFTransferError:  # numbers that are no classes
        return card
    counts = Counter(column(rows, source.label))
    feature = rows.features[source.label]
    told = {(feature.names[key] if hasattr(feature, "names") else str(key)): count for key, count in counts.items()}
    return {**card, "labels": {name: told.get(name, 0) for name in names}} if len(names) <= MOST_LABELS else card
