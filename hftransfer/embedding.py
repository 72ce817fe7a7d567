"""`hftransfer.embed`: vectors in Python, made once for the same checkpoint and data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from hftransfer.errors import HFTransferError, nearest
from hftransfer.runs import fingerprint
from hftransfer.signatures import validate


def embed(
    model: Any,
    data: Any,
    *,
    returns: Literal["dataset", "array"] = "dataset",
    output_dir: str | Path | None = None,
    **options: Any,
) -> Any:
    """A vector for each row of any data, by any checkpoint: the verb `embed`, with what it made opened.

        found = hftransfer.embed("sentence-transformers/all-MiniLM-L6-v2", "reviews.csv")
        found.add_faiss_index("embedding")

    Args:
        model: checkpoint: Hub id, folder or model object.
        data: as in a recipe (Hub id, file, folder, demo/NAME, mapping, `datasets.Dataset`), or a list of texts.
        returns: `dataset`, the kept columns with the column `embedding`; `array`, (rows, width) alone, mapped into
            memory where it lies in one file.
        output_dir: folder of the vectors; by default one in the Hugging Face cache that is found again by the
            checkpoint's weights, the data's content and the options.
        options: of the verb, as `python -m hftransfer.recipe embed_and_cluster --help` lists them.

    Raises:
        HFTransferError: in one line, for anything wrong with these, and for an array that lacks rows of the data.
    """
    from datasets import Dataset

    from hftransfer.stages.embed import embed as verb
    from hftransfer.stages.identity import identity
    from hftransfer.vectors import open_vectors

    if returns not in ("dataset", "array"):
        raise HFTransferError(f"embed: returns: there is no '{returns}'{nearest(returns, ('dataset', 'array'))}")
    if isinstance(data, Sequence) and not isinstance(data, str):
        wrong = next((place for place, one in enumerate(data) if not isinstance(one, str)), None)
        if wrong is not None:
            raise HFTransferError(f"embed: data: a list holds texts, and its item {wrong + 1} is {data[wrong]!r}")
        data = Dataset.from_dict({"text": list(data)})
    if output_dir is None:
        given = validate(verb, {"model": model, "data": data, **options}, "embed: ")
        output_dir = _cache(given["data"]) / fingerprint(identity(verb, given, models=["model"], data=["data"]))
    result = verb(model, data, output_dir=str(output_dir), **options)
    left_out = result.metrics["rows_left_out"]
    if returns == "array" and left_out:
        raise HFTransferError(
            f"embed: returns: {left_out} rows were left out (blank texts, or what cannot be read), so an array's rows "
            "are not the data's; use dataset, whose column row tells them, or remove those rows"
        )
    made = open_vectors(result.path)
    return made.dataset() if returns == "dataset" else made.array()


def _cache(data: Any) -> Path:
    from huggingface_hub.constants import HF_HOME

    from hftransfer.data.spec import parse

    spec = parse(data, "embed: data")
    if spec.kind == "memory" and spec.streaming:  # known by its first rows: others may begin alike
        raise HFTransferError("embed: output_dir: a stream in memory cannot be found again; name a folder")
    return Path(HF_HOME) / "hftransfer" / "vectors"
