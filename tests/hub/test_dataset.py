"""Vectors as a data set: plain `load_dataset` gives what `open_vectors` gives."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Audio, ClassLabel, Dataset, Features, Image, List, Value, load_dataset
from transformers import (
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from hftransfer.errors import HFTransferError
from hftransfer.hub.dataset import AT_ONCE, features_of, write_dataset
from hftransfer.stages.embed import embed
from hftransfer.vectors import Writer, open_vectors

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SPEECH = {"conv_dim": (16, 16, 16), "conv_stride": (5, 4, 4), "conv_kernel": (10, 8, 4)}
SPEECH |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}


def loaded(folder: Path, tmp_path: Path) -> Dataset:
    return load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))


def numbers(rows: Dataset) -> Any:
    return rows.with_format("numpy", dtype=np.float32)["embedding"][:]


def same(rows: Dataset, vectors: Path, stored: str = "float32") -> None:
    """Every row and number, in order."""
    expected = open_vectors(vectors)
    width = expected.width
    assert rows.column_names[0] == "row" and rows.column_names[-1] == "embedding"
    assert sorted(rows.column_names) == sorted(expected.dataset().column_names)
    assert rows.features["embedding"] == List(Value(stored), length=width)
    np.testing.assert_array_equal(numbers(rows), numbers(expected.dataset()))
    kept, told = rows.remove_columns(["embedding"]), expected.rows()
    for name in kept.column_names:
        if isinstance(kept.features[name], Audio):
            kept = kept.cast_column(name, Audio(decode=False))
        else:
            assert kept.features[name] == told.features[name]
    assert [{name: row[name] for name in told.column_names} for row in kept] == list(told)


def filled(folder: Path, sizes: list[int], dtype: str = "float32", width: int = 8) -> Path:
    """Vectors of no checkpoint in shards of these sizes."""
    folder.mkdir()
    writer, rng, row = Writer(folder), np.random.default_rng(0), 0
    features = Features({"text": Value("string"), "kind": ClassLabel(names=["a", "b"]), "row": Value("int64")})
    for size in sizes:
        columns = {
            "text": [f"text {n}" for n in range(size)],
            "kind": [n % 2 for n in range(size)],
            "row": list(range(row, row + size)),
        }
        vectors = rng.normal(size=(size, width)).astype(dtype)
        writer.add(vectors, Dataset.from_dict(columns, features=features), read=size, facts={})
        row += size
    writer.finish({"width": width, "dtype": dtype, "kind": "text", "content": "text", "label": "kind"})
    return folder


def test_texts_in_shards(tiny_bert, reviews, tmp_path):
    made = embed(str(tiny_bert), reviews("source", 20), rows_per_shard=7, output_dir=str(tmp_path / "made")).path
    write_dataset(made, tmp_path / "out")
    files = sorted(path.name for path in (tmp_path / "out" / "data").iterdir())
    assert files == [f"train-0000{n}-of-00003.parquet" for n in range(3)]
    rows = loaded(tmp_path / "out", tmp_path)
    same(rows, made)
    assert rows.features == features_of(open_vectors(made))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_numbers_are_as_they_are_stored(tmp_path, dtype):
    made = filled(tmp_path / "made", [AT_ONCE + 3, 5, 2 * AT_ONCE], dtype)
    write_dataset(made, tmp_path / "out")
    rows = loaded(tmp_path / "out", tmp_path)
    same(rows, made, dtype)
    exact = rows.with_format("numpy", dtype=getattr(np, dtype))["embedding"][:]
    assert exact.dtype == dtype
    np.testing.assert_array_equal(exact, open_vectors(made).array())
    groups = pq.ParquetFile(tmp_path / "out" / "data" / "train-00000-of-00003.parquet").metadata
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [AT_ONCE, 3]


def test_images_are_images(pictures, tmp_path):
    sizes = {"image_size": 8, "patch_size": 4, "num_channels": 3}
    ViTModel(ViTConfig(**sizes, **SMALL)).save_pretrained(tmp_path / "eyes")
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(tmp_path / "eyes")
    made = embed(str(tmp_path / "eyes"), pictures, rows_per_shard=16, output_dir=str(tmp_path / "made")).path
    write_dataset(made, tmp_path / "out")
    shutil.rmtree(pictures)  # they are in the files, and not told by where they lay
    rows = loaded(tmp_path / "out", tmp_path)
    same(rows, made)
    assert isinstance(rows.features["image"], Image) and rows[0]["image"].size == (18, 20)
    stored = rows.cast_column("image", Image(decode=False))
    assert all("/" not in row["image"]["path"] and row["image"]["bytes"] for row in stored)


def test_sounds_are_sounds(tones, tmp_path):
    Wav2Vec2Model(Wav2Vec2Config(**SMALL, **SPEECH)).save_pretrained(tmp_path / "ears")
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path / "ears")
    made = embed(str(tmp_path / "ears"), tones, output_dir=str(tmp_path / "made")).path
    write_dataset(made, tmp_path / "out")
    shutil.rmtree(tones)
    rows = loaded(tmp_path / "out", tmp_path)
    same(rows, made)
    assert rows.features["audio"] == Audio() and rows.features["audio"].decode


def test_the_same_vectors_give_the_same_bytes(tmp_path):
    made = filled(tmp_path / "made", [30, 30])
    write_dataset(made, tmp_path / "one")
    write_dataset(made, tmp_path / "two")
    for path in (tmp_path / "one" / "data").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / "data" / path.name).read_bytes()


def test_an_earlier_data_set_is_replaced(tmp_path):
    write_dataset(filled(tmp_path / "before", [3, 3, 3]), tmp_path / "out")
    (tmp_path / "out" / "README.md").write_text("kept")
    write_dataset(filled(tmp_path / "after", [4]), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "data").iterdir()] == ["train-00000-of-00001.parquet"]
    assert (tmp_path / "out" / "README.md").read_text() == "kept"


def test_memory_is_a_slices(tmp_path, monkeypatch):
    made = filled(tmp_path / "made", [5 * AT_ONCE])
    write, sizes = pq.ParquetWriter.write_table, []
    monkeypatch.setattr(
        pq.ParquetWriter, "write_table", lambda self, table: (sizes.append(len(table)), write(self, table))[1]
    )
    write_dataset(made, tmp_path / "out")
    assert sizes == [AT_ONCE] * 5


def test_what_is_not_whole_is_refused(tmp_path):
    def refused(folder: Path, words: str) -> None:
        with pytest.raises(HFTransferError, match=words) as caught:
            write_dataset(folder, tmp_path / "out")
        assert "\n" not in str(caught.value)

    refused(tmp_path, "vectors: .* holds none")
    refused(tmp_path / "nowhere", "vectors: .* holds none")
    made = filled(tmp_path / "made", [6, 6])
    for name in ("rows-00001.parquet", "embeddings-00001.safetensors"):
        whole = (made / name).read_bytes()
        (made / name).write_bytes(whole[:-20])
        refused(made, f"vectors: {name} in made is not whole; remove the folder and run embed again")
        (made / name).unlink()
        refused(made, f"vectors: {name} in made is not whole")
        (made / name).write_bytes(whole)
    shutil.copy(made / "rows-00000.parquet", tmp_path / "kept")
    Dataset.from_dict({"row": [1]}).to_parquet(made / "rows-00000.parquet")
    refused(made, "vectors: rows-00000.parquet in made is not whole")
    info = json.loads((made / "vectors.json").read_text())
    (made / "vectors.json").write_text(json.dumps(info | {"rows": 0, "shards": []}))
    refused(made, "vectors: made has no rows; there is nothing to publish")


def test_a_column_that_is_called_embedding(tmp_path):
    (tmp_path / "made").mkdir()
    writer = Writer(tmp_path / "made")
    writer.add(
        np.ones((2, 3), np.float32), Dataset.from_dict({"embedding": ["a", "b"], "row": [0, 1]}), read=2, facts={}
    )
    writer.finish({"width": 3})
    with pytest.raises(HFTransferError, match="columns: 'embedding' of made is what its vectors are called"):
        write_dataset(tmp_path / "made", tmp_path / "out")
