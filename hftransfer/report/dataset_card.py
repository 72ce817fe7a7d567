"""The card of vectors that are published as a data set: README.md, made of what `embed` recorded of them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hftransfer.errors import HFTransferError
from hftransfer.report import embedded, words
from hftransfer.report.card import NO_LICENCE, Ready, bibtex, code, made_with, model_name, rendered, write_card
from hftransfer.report.embedded import Embedded, literal
from hftransfer.report.limits import listed
from hftransfer.report.record import RunRecord, StageRecord

NEAREST = 5  # rows that the example looks for
MOST_LABELS = 20  # names that the table of columns tells
_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")  # the Hub's size categories
_TEXT = '["A text to look for."]'
_LOAD = """\
{first}from datasets import {names}

vectors = load_dataset({repository}, split="train"){where}
{cast}print(vectors)"""
_CAST = "vectors = vectors.cast_column({content}, Audio(decode=False))  # leave it out after pip install torchcodec\n"
_ONE = "wanted = vectors.select([0]).select_columns([{content}])  # or another data set with such a column\n"
_SEARCH = """\
import hftransfer  # pip install hftransfer faiss-cpu

{wanted}query = {call}
vectors.add_faiss_index("embedding")
distances, found = vectors.get_nearest_examples("embedding", query[0], k={nearest})
print(found[{shown}])"""


def dataset_card(
    record: RunRecord,
    stage: StageRecord,
    folder: Path,
    *,
    repo_id: str | None = None,
    licence: Mapping[str, str] = NO_LICENCE,
) -> Path:
    """Writes `folder/README.md` atomically and returns its path.

    The YAML block is a `huggingface_hub.DatasetCardData` by which `load_dataset` reads `data/train-*.parquet`, as
    `hub.dataset.write_dataset` writes it. No absolute path, no token and no unescaped text of the data or of a user
    enters the file.

    Args:
        record: the run.
        stage: one of its stages, an `embed`.
        folder: of the data set.
        repo_id: the data set's name on the Hub; None: the lines that load it name its folder.
        licence: `license`, the Hub's name of one; empty: none is told.

    Raises:
        HFTransferError: the stage left no vectors, or a file of them is missing or cut off.
    """
    made = embedded.read(stage.folder)
    if made is None:
        raise HFTransferError(f"vectors: {stage.folder.name} holds none; name a stage that ran embed")
    data = _metadata(made, stage, licence)
    return write_card(folder, data, _body(record, stage, made, repo_id))


def _metadata(made: Embedded, stage: StageRecord, licence: Mapping[str, str]) -> Any:
    from huggingface_hub import DatasetCardData

    named = (words.hub_id(item["name"]) for item in stage.evidence.get("data") or [])
    return DatasetCardData(
        tags=["hftransfer", "embeddings"],
        size_categories=[size_category(made.info["rows"])],
        source_datasets=list(dict.fromkeys(filter(None, named))) or None,
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
        **licence,
    )


def size_category(rows: int) -> str:
    """As the Hub calls it: `1K<n<10K`."""
    place = sum(rows >= 10 ** (power + 3) for power in range(len(_SIZES)))
    if place == 0:
        return f"n<{_SIZES[0]}"
    return f"n>{_SIZES[-1]}" if place == len(_SIZES) else f"{_SIZES[place - 1]}<n<{_SIZES[place]}"


def _body(record: RunRecord, stage: StageRecord, made: Embedded, repo_id: str | None) -> str:
    evidence, info = stage.evidence, made.info
    counts = [item.get("labels") or {} for item in evidence.get("data") or []]
    return rendered(
        "dataset_card.md.j2",
        name=repo_id.split("/")[-1] if repo_id else model_name(record),
        rows=info["rows"],
        width=info["width"],
        kind=made.kind,
        one=f"{'an' if made.kind == 'image' else 'a'} {made.kind}",
        data=words.public_name(info.get("data") or "data"),
        model=_checkpoint(made, record),
        content=info["content"],
        columns=list(_columns(stage, made)),
        left_out=_left_out(stage),
        labels=list(counts[0].items()) if counts else [],
        notes=evidence.get("notes") or [],
        manner=list(_manner(made)),
        limits=list(_limits(stage, made)),
        load=Ready(_load(made, repo_id)),
        search=Ready(_search(made)),
        environment=made_with(record),
        citations=evidence.get("citations") or [],
        bibtex=Ready(bibtex(evidence.get("citations") or [])),
    )


def _left_out(stage: StageRecord) -> str:
    count = stage.metrics.get("rows_left_out")
    if count is None:
        return ""
    if not count:
        return "Every row of the data is in it."
    return f"{count:,} rows of the data have no vector and are left out; the column row tells which the others are."


def _checkpoint(made: Embedded, record: RunRecord) -> str:
    """A Hub id, or the name of a folder, with the stage that left it where that is one of this run."""
    name = str(made.info.get("model") or "a checkpoint")
    if made.checkpoint:
        return name
    left = [stage.evidence["title"] for stage in record.stages if stage.folder.name == name]
    return f"{name} ({left[0]})" if left else name


def _columns(stage: StageRecord, made: Embedded) -> Iterator[dict[str, str]]:
    """Each column's name, type and what it holds."""
    from datasets import ClassLabel

    from hftransfer.hub.dataset import EMBEDDING, features_of
    from hftransfer.vectors import open_vectors
    from hftransfer.vectors.store import ROW

    for name, feature in features_of(open_vectors(stage.folder)).items():
        holds = {
            ROW: "the row's number in the data, from 0",
            EMBEDDING: f"the {made.kind}'s vector",
            made.info["content"]: f"the {made.kind} that the vector is of, as it is in the data",
        }.get(name, "as it is in the data")
        if isinstance(feature, ClassLabel):
            names = feature.names[:MOST_LABELS]
            more = f" and {feature.num_classes - len(names)} more" if len(names) < feature.num_classes else ""
            holds += f": one of {listed(names) if not more else ', '.join(names) + more}"
        yield {"name": name, "type": _type(feature), "holds": holds}


def _type(feature: Any) -> str:
    """`string`, `Image`, `384 float32`."""
    from datasets import List, Value

    if isinstance(feature, List):
        count = f"{feature.length:,} " if feature.length > 0 else "list of "
        return count + _type(feature.feature)
    return feature.dtype.removeprefix("large_") if isinstance(feature, Value) else type(feature).__name__


def _manner(made: Embedded) -> Iterator[tuple[str, str]]:
    """What is settled of how vectors are made, in words."""
    info, options = made.info, made.options()
    yield "checkpoint", code(info.get("model"))
    yield "states", f"layers {', '.join(map(str, info['layers']))}" if info.get("layers") else "the last layer"
    yield "pooling", "the features that its head reads" if info.get("pooling") == "own" else str(info.get("pooling"))
    yield "length", "1" if info.get("normalized") else "as they come"
    if "prompt" in options:
        yield "before each text", code(json.dumps(options["prompt"], ensure_ascii=False))
    if "max_length" in options:
        yield "longest text", f"{options['max_length']:,} tokens"
    if "truncate_dim" in options:
        yield "numbers of a vector that are kept", f"the first {options['truncate_dim']:,}"
    yield "precision", str(info.get("dtype"))


def _limits(stage: StageRecord, made: Embedded) -> Iterator[str]:
    kind, metrics = made.kind, stage.metrics
    yield (
        "Vectors compare only with vectors that the same checkpoint makes in the same way; no measurement of how well "
        "what is near fits together was recorded here."
    )
    if metrics.get("texts_cut"):
        yield (
            f"{metrics['texts_cut']:,} texts fill the {made.info['max_length']:,} tokens that are read of each: what "
            "follows there is in the text and not in its vector."
        )
    if metrics.get("zero_vectors"):
        yield f"{metrics['zero_vectors']:,} vectors are all zeros: no angle can be told to them."
    if made.info.get("dtype") == "float16":
        yield "Numbers are rounded to float16, about three digits."
    if made.prompt:
        yield "What was put before each text is for what is found: the checkpoint may want another before a question."
    if made.prompt and words.without_paths(made.prompt) != made.prompt:
        yield "What was put before each text is not told whole: a path or a token in it is not published."
    if kind == "text":
        yield (
            "Leaving the texts out would not hide them: much of a text can be told from its vector (Morris et al. "
            "2023, arXiv:2310.06816)."
        )
    yield (
        f"What is personal, wrong or one-sided in the {kind}s, and in what the checkpoint learnt from, is in here too."
    )


def _load(made: Embedded, repo_id: str | None) -> str:
    sound = made.kind == "sound"
    return _LOAD.format(
        first="" if repo_id else "from pathlib import Path\n\n",
        names="Audio, load_dataset" if sound else "load_dataset",
        repository=literal(repo_id) if repo_id else 'str(Path(".").resolve())',  # "." alone has no name for `datasets`
        where="" if repo_id else "  # this folder, or its id on the Hub",
        cast=_CAST.format(content=literal(made.info["content"])) if sound else "",
    )


def _search(made: Embedded) -> str:
    content, text = literal(made.info["content"]), made.kind == "text"
    return _SEARCH.format(
        wanted="" if text else _ONE.format(content=content),
        call=made.call(_TEXT if text else "wanted"),
        nearest=min(NEAREST, made.info["rows"]),
        shown=content if text else '"row"',
    )
