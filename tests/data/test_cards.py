"""The data's card in the report, and what its fingerprint sees."""

import json
import os
import shutil

import numpy as np
from datasets import Dataset, DatasetDict

from hftransfer.data.cards import describe, fingerprint
from hftransfer.data.load import labelled


def test_a_card_counts_labels_and_lengths():
    data = Dataset.from_dict({"text": ["a b", "a b c", "a"] * 10, "label": ["x", "y", "x"] * 10})
    part = labelled(data, key="source", seed=0)["train"]
    card = describe(part, name="mine", role="source")
    assert (card["role"], card["name"], card["rows"], card["labels"]) == ("source", "mine", 24, {"x": 16, "y": 8})
    assert card["lengths"]["unit"] == "words" and sum(card["lengths"]["counts"]) == 24 and card["median_length"] == 2
    json.dumps(card)


def test_a_card_of_texts_has_no_labels_and_shows_given_lengths():
    lengths = [*np.random.default_rng(0).integers(20, 180, 99).tolist(), 9000]
    card = describe(Dataset.from_dict({"text": ["a"] * 100}), name="mine", role="target", lengths=lengths)
    histogram = card["lengths"]
    assert card["labels"] is None and histogram["unit"] == "tokens"
    assert len(histogram["edges"]) == len(histogram["counts"]) + 1 == 13
    assert len(set(np.diff(histogram["edges"]))) == 1
    assert sum(histogram["counts"]) == 100 and histogram["longer"] == 1 and histogram["edges"][-1] < 300


def test_a_fingerprint_sees_content_and_neither_place_nor_date(tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "elsewhere" / "b.csv"
    first.write_text("text\ngood\n")
    second.parent.mkdir()
    shutil.copy(first, second)
    os.utime(second, (0, 0))
    assert fingerprint(str(first)) == fingerprint(str(second))
    assert fingerprint(str(first)) == fingerprint({"path": str(first), "cache_dir": "x"})
    assert fingerprint(str(first)) != fingerprint({"path": str(first), "columns": {"text": "text"}})
    second.write_text("text\nbad\n")
    assert fingerprint(str(first)) != fingerprint(str(second))


def test_a_fingerprint_of_rows_in_memory_sees_every_value(tmp_path):
    data = Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})
    data.save_to_disk(tmp_path / "saved")
    again = Dataset.load_from_disk(tmp_path / "saved")
    assert fingerprint(data) == fingerprint(again) == fingerprint(data.select([0, 1]))
    assert fingerprint(data) != fingerprint(Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}))
    assert fingerprint(data) != fingerprint(data.select([1, 0]))
    assert fingerprint(DatasetDict(train=data)) != fingerprint(DatasetDict(test=data))


def test_a_fingerprint_of_a_saved_folder_survives_a_move(tmp_path):
    data = Dataset.from_dict({"text": ["a", "b"]})
    data.save_to_disk(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert fingerprint(str(tmp_path / "one")) == fingerprint(str(tmp_path / "two"))
    Dataset.from_dict({"text": ["a", "c"]}).save_to_disk(tmp_path / "three")
    assert fingerprint(str(tmp_path / "one")) != fingerprint(str(tmp_path / "three"))


def test_a_fingerprint_of_a_demo_follows_its_packages(monkeypatch):
    before = fingerprint("demo/api_docs")
    assert before == fingerprint("demo/api_docs/scipy") != fingerprint("demo/api_docs/torch")
    monkeypatch.setattr("importlib.metadata.version", lambda package: "0.0")
    assert fingerprint("demo/api_docs") != before


def test_a_fingerprint_of_hub_data_follows_the_revision():
    asked = [fingerprint({"path": "owner/name", **more}) for more in ({}, {"revision": "a"}, {"name": "en"})]
    assert len(set(asked)) == 3
