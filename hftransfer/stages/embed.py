"""`embed`: one vector for each row of any data, by any checkpoint."""

from typing import Annotated, Any

from pydantic import Field

from hftransfer.runs import Result, open_stage
from hftransfer.signatures import OneOf, validate
from hftransfer.stages.identity import identity
from hftransfer.stages.options import Data, Model, OutputDir

POOLINGS = ("auto", "mean", "cls", "last", "max")
DTYPES = ("float32", "float16")


def embed(
    model: Model,
    data: Data,
    *,
    pooling: Annotated[
        str, OneOf(POOLINGS), Field(description="states to one vector; auto: as the checkpoint is meant to be used")
    ] = "auto",
    layers: Annotated[
        Annotated[list[Annotated[int, Field(strict=True)]], Field(min_length=1)] | None,
        Field(description="the mean of these layers' states, 0 what the first one sees, -1 the last; null: the last"),
    ] = None,
    normalize: Annotated[
        bool | None, Field(description="vectors of length 1; null: as the checkpoint is meant to be used")
    ] = None,
    prompt: Annotated[
        str | None,
        Field(description="put before each text, or the name of a prompt that the checkpoint carries; null: its own"),
    ] = None,
    truncate_dim: Annotated[
        int | None, Field(gt=0, description="keep the first numbers of each vector (Matryoshka checkpoints)")
    ] = None,
    max_length: Annotated[
        int | None, Field(ge=4, description="longest text, in tokens; null: the checkpoint's own")
    ] = None,
    columns: Annotated[
        list[str] | None, Field(description="columns that are kept beside the content; null: the label's")
    ] = None,
    bf16: Annotated[bool | None, Field(description="compute in bf16; null: where the hardware does")] = None,
    dtype: Annotated[str, OneOf(DTYPES), Field(description="of the stored numbers")] = "float32",
    tokens_per_batch: Annotated[
        int | None, Field(ge=16, description="of texts, padding included; null: 2048 on a CPU, 32768 elsewhere")
    ] = None,
    rows_per_shard: Annotated[
        int, Field(gt=0, description="rows that are read, sorted by length and written together")
    ] = 20_000,
    output_dir: OutputDir = "outputs/embed",
) -> Result:
    """Writes a vector for each text, image or sound, in the order of the data; all splits, one after another.

    Reads and writes `rows_per_shard` rows at a time, so that data which do not fit into memory pass through it; a
    stream (`streaming: true`) does, too. Whoever stops it goes on from the last whole shard.

    Returns:
        A folder that `hftransfer.vectors.open_vectors` opens and `cluster` takes as its data: `embeddings-*.
        safetensors`, `rows-*.parquet` with each row's number and columns, `vectors.json`.

    Raises:
        HFTransferError: in one line, for anything wrong with the options, the data or the checkpoint.
    """
    given = validate(embed, locals(), "embed: ")
    with open_stage(output_dir, identity(embed, given, models=["model"], data=["data"])) as folder:
        if not folder.finished:
            from hftransfer.stages.embedding import run

            run(folder, given)
    return folder.result()


def plan(**given: Any) -> dict[str, Any]:
    """Checks the data's columns and what the checkpoint can do, and counts rows."""
    from hftransfer.stages import embedding

    return embedding.plan(given)
