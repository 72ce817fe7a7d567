"""The run of `embed`: rows in, vectors out, a shard at a time."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from hftransfer import models, processes
from hftransfer.data.chunks import SPLIT, Chunk, Source, open_source
from hftransfer.data.spec import display_name
from hftransfer.errors import HFTransferError
from hftransfer.runs import StageFolder
from hftransfer.stages import embedding_record
from hftransfer.vectors import Writer
from hftransfer.vectors.embedder import Embedded, Embedder, Manner, settled
from hftransfer.vectors.store import ROW

OPTIONS = ("pooling", "layers", "normalize", "prompt", "truncate_dim", "max_length")


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
    work = folder.begin()
    writer = Writer(work) if processes.is_main() else None
    begun, started, tokens = processes.agree(writer.read if writer else 0), time.monotonic(), 0
    for chunk, made in _embedded(source, embedder, given["rows_per_shard"], begun):
        tokens += sum(made.lengths)
        if writer:
            facts = embedding_record.facts(chunk, made, source, manner)
            writer.add(_stored(made.vectors, given["dtype"]), _rows(chunk, made), read=chunk.end, facts=facts)
        del chunk, made  # before the next ones are made
    seconds = time.monotonic() - started
    if not processes.agree(writer.rows if writer else 0):
        raise HFTransferError(f"data: '{display_name(source.spec)}' has no row that can be embedded")
    record: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    if writer:
        found = embedding_record.summed(shard["facts"] for shard in writer.shards)
        writer.finish(embedding_record.info(given, manner, source))
        record = embedding_record.record(given, manner, source, embedder.bf16, found, tokens / seconds)
    folder.finish(*record)


def _embedded(source: Source, embedder: Embedder, size: int, start: int) -> Iterator[tuple[Chunk, Embedded]]:
    """Each chunk that is left, with its vectors; a bar counts the rows on the main process."""
    from tqdm.auto import tqdm

    processed = processes.state().num_processes
    bar = tqdm(total=source.rows, initial=start, desc="embed", unit="row", disable=not processes.is_main(), leave=True)
    with bar:
        for chunk in source.chunks(size, start):
            if chunk.numbers:
                made = embedder(
                    chunk.content, key="data", numbers=chunk.numbers, done=lambda rows: bar.update(rows * processed)
                )
            else:
                made = Embedded(np.zeros((0, embedder.manner.width), np.float32), [], [])
            bar.n = chunk.end
            bar.refresh()
            yield chunk, made
            del chunk, made


def _stored(vectors: NDArray[Any], dtype: str) -> NDArray[Any]:
    """The numbers as they are kept."""
    if len(vectors) and np.abs(vectors).max() > np.finfo(dtype).max:
        raise HFTransferError(f"dtype: {dtype} does not reach to {np.abs(vectors).max():.3g}; use float32")
    return vectors.astype(dtype)


def _rows(chunk: Chunk, made: Embedded) -> Dataset:
    """The rows that have a vector: their numbers, and what is kept of them."""
    kept = chunk.kept if len(made.places) == len(chunk.kept) else chunk.kept.select(made.places)
    kept = kept if kept._indices is None else kept.flatten_indices(keep_in_memory=True)
    return kept.add_column(ROW, np.array([chunk.numbers[place] for place in made.places], dtype=np.int64))
