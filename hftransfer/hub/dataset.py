"""A folder of vectors as parquet files that plain `datasets` reads, to be published as a data set.

data/train-00000-of-00002.parquet    row, the columns that were kept, embedding: a file for each shard
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Audio, Features, Image, List, Value
from datasets.table import table_cast
from numpy.typing import NDArray

from hftransfer.errors import HFTransferError
from hftransfer.vectors import Vectors, open_vectors
from hftransfer.vectors.store import MEDIA_AT_ONCE, ROW

DATA, SPLIT = "data", "train"
EMBEDDING = "embedding"  # the column that `Dataset.add_faiss_index` is told
AT_ONCE = 1000  # rows without images and sounds that are written together: whoever looks at one reads so many


def write_dataset(vectors: Path, folder: Path) -> None:
    """Writes what `embed` left as `data/train-*.parquet` into `folder`; parquet files of an earlier call go.

    `datasets.load_dataset(folder)` gives the rows and numbers of `open_vectors(vectors).dataset()`: images as images,
    sounds as Audio, numbers in the precision in which they are stored. The same vectors give the same bytes. Data sets
    of `datasets` before 4.0 know no lists of one length under the name that is written, and cannot read them.

    Args:
        vectors: a folder that `embed` left, with rows in it.
        folder: made where it is missing.

    Raises:
        HFTransferError: `vectors` is no such folder, a file of it is missing or cut off, it has no rows, or a column
            of its data is called embedding.
    """
    found = open_vectors(vectors)
    if not len(found):
        raise HFTransferError(f"vectors: {vectors.name} has no rows; there is nothing to publish")
    features, data = features_of(found), folder / DATA
    data.mkdir(parents=True, exist_ok=True)
    for stale in data.glob(f"{SPLIT}-*.parquet"):
        stale.unlink()
    for number, numbers in enumerate(found.shards):
        name = f"{SPLIT}-{number:05d}-of-{len(found.shards):05d}.parquet"
        _write(_rows(found, number, len(numbers)), numbers, features, data / name)


def features_of(vectors: Vectors) -> Features:
    """What the data set's columns are: `row`, those that were kept of the data, `embedding`.

    Raises:
        HFTransferError: a file is missing or cut off, or a column that was kept is called embedding.
    """
    kept = Features.from_arrow_schema(_rows(vectors, 0, len(vectors.shards[0])).schema_arrow)
    if EMBEDDING in kept:
        raise HFTransferError(
            f"columns: '{EMBEDDING}' of {vectors.folder.name} is what its vectors are called; rename it in the data"
        )
    # the rows hold them undecoded, for whom they are to be read as they were: who loads the data set wants to see them
    shown = {
        name: replace(feature, decode=True) if isinstance(feature, Image | Audio) else feature
        for name, feature in kept.items()
    }
    kind = str(vectors.shards[0].dtype)
    return Features({ROW: shown.pop(ROW), **shown, EMBEDDING: List(Value(kind), length=vectors.width)})


def _rows(vectors: Vectors, number: int, count: int) -> pq.ParquetFile:
    """The rows of a shard, unread."""
    name = vectors.info["shards"][number]["rows"]
    try:
        file = pq.ParquetFile(vectors.folder / name)
        if file.metadata.num_rows != count:
            raise ValueError("counts differ")
    except (OSError, ValueError) as error:  # pyarrow's are kinds of these
        raise HFTransferError(
            f"vectors: {name} in {vectors.folder.name} is not whole; remove the folder and run embed again"
        ) from error
    return file


def _write(rows: pq.ParquetFile, numbers: NDArray[Any], features: Features, file: Path) -> None:
    """A shard, slice by slice.

    Pages end where the content says, so that the Hub stores what two versions share once. No two numbers are the same:
    a dictionary of them would only be larger.
    """
    schema, start = features.arrow_schema, 0
    media = any(isinstance(feature, Image | Audio) for feature in features.values())
    repeated = [name for name in schema.names if name != EMBEDDING]
    options = {"use_content_defined_chunking": True, "write_page_index": True, "use_dictionary": repeated}
    with rows, pq.ParquetWriter(file, schema, **options) as writer:
        for batch in rows.iter_batches(batch_size=MEDIA_AT_ONCE if media else AT_ONCE):
            part = numbers[start : start + len(batch)]
            column = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), part.shape[1])
            table = pa.Table.from_batches([batch]).append_column(EMBEDDING, column).select(schema.names)
            writer.write_table(table_cast(table, schema))
            start += len(batch)
