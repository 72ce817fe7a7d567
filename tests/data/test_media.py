"""Images and sounds are found, labelled and divided like texts; nothing is decoded on the way."""

import io
import wave

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from hftransfer.data import labelled, unlabelled
from hftransfer.errors import HFTransferError


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def wav(value: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(np.full(80, value, np.int16).tobytes())
    return file.getvalue()


@pytest.fixture(params=[("image", "image", png, "png"), ("sound", "audio", wav, "wav")], ids=["image", "sound"])
def media(request, tmp_path):
    """Kind, column, and a folder of ten files in a folder for each of two classes."""
    kind, column, made, suffix = request.param
    for number in range(10):
        folder = tmp_path / ("cat" if number % 2 else "dog")
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.{suffix}").write_bytes(made(number))
    return kind, column, tmp_path


def test_a_folder_for_each_class_gives_the_labels(media):
    kind, column, folder = media
    parts = labelled(str(folder), key="data", seed=0, kind=kind)
    assert parts["train"].features["label"].names == ["cat", "dog"]
    assert sorted(parts["train"].column_names) == sorted([column, "label"])
    assert {name: len(part) for name, part in parts.items()} == {"train": 8, "test": 2}
    row = parts["train"][0]
    assert row[column]["bytes"] or row[column]["path"]
    name = parts["train"].features["label"].int2str(row["label"])
    assert row[column]["path"] is None or f"/{name}/" in row[column]["path"]


def test_without_labels_only_the_content_is_left(media):
    kind, column, folder = media
    parts = unlabelled(str(folder), key="data", seed=0, kind=kind)
    assert parts["train"].column_names == [column]
    assert len(parts["train"]) + len(parts["test"]) == 10


@pytest.mark.parametrize("kind, made, suffix", [("image", png, "png"), ("sound", wav, "wav")])
def test_a_metadata_file_beside_the_files_names_the_labels(tmp_path, kind, made, suffix):
    for number in range(6):
        (tmp_path / f"{number}.{suffix}").write_bytes(made(number))
    lines = [f"{number}.{suffix},{'odd' if number % 2 else 'even'}" for number in range(6)]
    (tmp_path / "metadata.csv").write_text("file_name,label\n" + "\n".join(lines))
    parts = labelled(str(tmp_path), key="data", seed=0, kind=kind)
    assert parts["train"].features["label"].names == ["even", "odd"]


def test_data_of_another_kind_is_refused(media):
    kind, _, folder = media
    other = "sound" if kind == "image" else "image"
    with pytest.raises(HFTransferError, match=r"^data: cannot tell which column .* write columns: \{"):
        unlabelled(str(folder), key="data", seed=0, kind=other)
    with pytest.raises(HFTransferError, match=r"demo/api_docs holds texts and this stage reads"):
        unlabelled("demo/api_docs", key="data", seed=0, kind=kind)


def test_a_dataset_in_memory_is_read_too():
    rows = Dataset.from_dict({"img": [Image.new("L", (4, 4), value) for value in range(6)], "label": list("aabbcc")})
    parts = labelled(rows, key="data", seed=0, kind="image")
    assert parts["train"].features["label"].names == ["a", "b", "c"]


@pytest.mark.parametrize(
    "table, told",
    [
        (b"sound,label\n0.wav,a\n", "has no column file_name, .*; known: sound, label"),
        (b"filename,label\n0.wav,a\n", "has no column file_name, .*; did you mean 'filename'"),
        (b"\n", "has no column file_name"),
        (b"file_name,label\n0.wav,a,b\n", "row 2 of .* has more values than columns; repair it"),
        (b"file_name,label\n0.wav,a\n,b\n", "row 3 of .* names no file; repair it"),
        (b"file_name,audio\n0.wav,a\n", "has a column audio"),
        (b"file_name,label,label\n0.wav,a,b\n", "has two columns of one name"),
        (b"file_name,label\n0.wav,\xff\xfe\n", "cannot read '.*metadata.csv': .*utf-8"),
        (b'file_name,label\n0.wav,"a\n', "cannot read '.*metadata.csv': unexpected end of data"),
    ],
)
def test_an_odd_metadata_file_beside_sounds_is_told_in_a_line(tmp_path, table, told):
    for number in range(4):
        (tmp_path / f"{number}.wav").write_bytes(wav(number))
    (tmp_path / "metadata.csv").write_bytes(table)
    with pytest.raises(HFTransferError, match=rf"^data: .*{told}") as caught:
        labelled(str(tmp_path), key="data", seed=0, kind="sound")
    assert "\n" not in str(caught.value)


def test_a_spreadsheets_mark_before_the_first_column_is_no_part_of_its_name(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.wav").write_bytes(wav(number))
    lines = ["file_name,label", *(f"{number}.wav,{'odd' if number % 2 else 'even'}" for number in range(4))]
    (tmp_path / "metadata.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    parts = labelled(str(tmp_path), key="data", seed=0, kind="sound")
    assert parts["train"].features["label"].names == ["even", "odd"]
