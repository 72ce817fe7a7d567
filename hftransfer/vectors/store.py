"""A folder of vectors: safetensors shards that are mapped into memory, and a parquet file beside each for its rows.

    vectors.json                    how many, how wide, of what, how made; and the shards
    embeddings-00000.safetensors    one tensor, embeddings (rows, width)
    rows-00000.parquet              row, the number in the data, and the columns that were kept

A shard is there when its record is, which is written last: what a kill leaves is made again. Records lie among the
checkpoints of the stage folder, which go when it is finished.
"""

import glob
import json
import shutil
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Audio, Dataset, Features, Image, List, Value
from datasets.table import embed_table_storage
from numpy.typing import NDArray
from safetensors.numpy import save_file

from hftransfer import runs
from hftransfer.data.read import quiet
from hftransfer.data.spec import VECTORS
from hftransfer.errors import HFTransferError

TENSOR = "embeddings"
ROW = "row"
MEDIA_AT_ONCE = 100  # images or sounds of a parquet file that are read and written together
_DTYPES = {"F32": np.float32, "F16": np.float16}
Array = NDArray[Any]


class Writer:
    """Fills a folder shard by shard, and goes on after those that are whole."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.records = folder, folder / runs.CHECKPOINTS
        self.records.mkdir(exist_ok=True)
        self.shards: list[dict[str, Any]] = []
        while shard := self._stored(len(self.shards)):
            self.shards.append(shard)

    @property
    def rows(self) -> int:
        """Rows of the whole shards."""
        return sum(int(shard["count"]) for shard in self.shards)

    @property
    def read(self) -> int:
        """Rows of the data that the whole shards were made of: some may have been left out."""
        return int(self.shards[-1]["read"]) if self.shards else 0

    def add(self, vectors: Array, rows: Dataset, *, read: int, facts: Mapping[str, Any]) -> None:
        """Writes a shard.

        Args:
            vectors: (n, width) float32 or float16.
            rows: n rows: column `row`, and what is kept of the data.
            read: rows of the data up to the end of this shard.
            facts: JSON-able, for whoever finishes the work.
        """
        number = len(self.shards)
        names = {"embeddings": f"{TENSOR}-{number:05d}.safetensors", "rows": f"rows-{number:05d}.parquet"}
        save_file({TENSOR: np.ascontiguousarray(vectors)}, self.folder / names["embeddings"])
        _write(rows, self.folder / names["rows"])
        files = {part: {"file": name, **_facts(self.folder / name)} for part, name in names.items()}
        self.shards.append({**files, "count": len(vectors), "read": read, "facts": dict(facts)})
        runs.write_json(self._record(number), self.shards[-1])

    def finish(self, info: Mapping[str, Any]) -> None:
        """Writes what the folder is; from now on it is one."""
        shards = [
            {"embeddings": shard["embeddings"]["file"], "rows": shard["rows"]["file"], "count": shard["count"]}
            for shard in self.shards
            if shard["count"]
        ]
        runs.write_json(self.folder / VECTORS, {**info, "rows": self.rows, "shards": shards})
        keep = {name for shard in shards for name in (shard["embeddings"], shard["rows"])}
        for stale in [*self.folder.glob(f"{TENSOR}-*.safetensors"), *self.folder.glob("rows-*.parquet")]:
            if stale.name not in keep:
                stale.unlink()
        shutil.rmtree(self.records)

    def _record(self, number: int) -> Path:
        return self.records / f"shard-{number:05d}.json"

    def _stored(self, number: int) -> dict[str, Any]:
        """The record of a shard whose files are what it says, else nothing."""
        shard = runs.read_json(self._record(number))
        parts = [shard[part] for part in ("embeddings", "rows")] if shard else []
        return shard if all(_whole(self.folder / part["file"], part) for part in parts) else {}


def _write(rows: Dataset, file: Path) -> None:
    """A parquet file of rows; images and sounds in it are files no more, but bytes."""
    schema, arrow = rows.features.arrow_schema, rows.with_format("arrow")
    media = any(isinstance(feature, Image | Audio) for feature in rows.features.values())
    size = MEDIA_AT_ONCE if media else max(len(rows), 1)
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, len(rows), size):
            writer.write_table(embed_table_storage(arrow[start : start + size].cast(schema)))


def _facts(file: Path) -> dict[str, Any]:
    return {"size": file.stat().st_size, "sha256": runs.sha256(file)}


def _whole(file: Path, facts: Mapping[str, Any]) -> bool:
    return file.is_file() and file.stat().st_size == facts["size"] and runs.sha256(file) == facts["sha256"]


def is_vectors(folder: str | Path) -> bool:
    """Whether a folder holds vectors."""
    return (Path(folder) / VECTORS).is_file()


def open_vectors(folder: str | Path) -> "Vectors":
    """Opens a folder that `embed` left.

    Raises:
        HFTransferError: it is no such folder, or a file of it is missing or cut off.
    """
    return Vectors(Path(folder))


class Vectors:
    """The vectors of a folder, in the order of the data."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.info = folder, runs.read_json(folder / VECTORS)
        if "shards" not in self.info:
            raise HFTransferError(f"vectors: {folder} holds none; give a folder that `embed` left")

    def __len__(self) -> int:
        return int(self.info["rows"])

    @property
    def width(self) -> int:
        return int(self.info["width"])

    @cached_property
    def shards(self) -> list[Array]:
        """Each shard's vectors (n, width), mapped into memory: only what is looked at is read."""
        return [self._mapped(shard["embeddings"], shard["count"]) for shard in self.info["shards"]]

    def array(self) -> Array:
        """(rows, width): a memory map where there is one shard, else a copy of all."""
        return self.shards[0] if len(self.shards) == 1 else np.concatenate(self.shards)

    def batches(self, size: int) -> Iterator[tuple[int, Array]]:
        """(first row, its vectors and the following ones), at most `size` at a time."""
        first = 0
        for shard in self.shards:
            for start in range(0, len(shard), size):
                yield first + start, shard[start : start + size]
            first += len(shard)

    def rows(self) -> Dataset:
        """Column `row`, and what was kept of the data; sounds as they are stored, images as images."""
        files = [glob.escape(str(self.folder / shard["rows"])) for shard in self.info["shards"]]
        with quiet():
            found = Dataset.from_parquet(files)
            for name, feature in found.features.items():
                found = found.cast_column(name, Image()) if isinstance(feature, Image) else found
        return found

    def dataset(self) -> Dataset:
        """The same with the column `embedding`, as `Dataset.add_faiss_index` takes it."""
        feature = List(Value("float32"), length=self.width)
        parts = [
            pa.FixedSizeListArray.from_arrays(pa.array(shard.astype(np.float32, copy=False).ravel()), self.width)
            for shard in self.shards
        ]
        features = Features({"embedding": feature})
        column = pa.table({"embedding": pa.chunked_array(parts)})
        return datasets.concatenate_datasets([self.rows(), Dataset(column.cast(features.arrow_schema))], axis=1)

    def _mapped(self, name: str, count: int) -> Array:
        """A tensor as safetensors stores it: behind a header of JSON, whose length is the first eight bytes."""
        file = self.folder / name
        try:
            with file.open("rb") as opened:
                length = int.from_bytes(opened.read(8), "little")
                entry = json.loads(opened.read(length))[TENSOR]
            start, end = entry["data_offsets"]
            mapped = np.memmap(file, _DTYPES[entry["dtype"]], "r", 8 + length + start, (count, self.width))
            if mapped.nbytes != end - start:
                raise ValueError("sizes differ")
        except (OSError, ValueError, KeyError) as error:
            raise HFTransferError(
                f"vectors: {name} in {self.folder.name} is not whole; remove the folder and run embed again"
            ) from error
        return mapped
