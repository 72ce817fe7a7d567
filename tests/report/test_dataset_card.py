"""The card of vectors as a data set: what it says is true of them, what it shows runs, and nothing is let through."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value, load_dataset
from huggingface_hub import DatasetCard
from transformers import (
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from hftransfer.errors import HFTransferError
from hftransfer.hub.dataset import write_dataset
from hftransfer.report.dataset_card import dataset_card, size_category
from hftransfer.report.embedded import Embedded, literal, read
from hftransfer.report.record import read_run
from hftransfer.stages.embed import embed
from hftransfer.vectors import open_vectors

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SPEECH = {"conv_dim": (16, 16, 16), "conv_stride": (5, 4, 4), "conv_kernel": (10, 8, 4)}
SPEECH |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
TOKEN = "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH"
HOSTILE = ["<script>alert(1)</script>", "`tick` ``` |", "[x](javascript:alert(1))", "/home/someone/secret/x", TOKEN]
RAW = ("<script", "`tick`", "](javascript", "/home/", "someone", TOKEN)


def made(run: Path, model: Any, data: Any, **options: Any) -> Path:
    """A run of one stage, and the data set's folder beside it."""
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"recipe": "embed_it", "seed": 1}))
    (run / "environment.json").write_text(json.dumps({"python": "3.11.9", "cpu": "/home/someone/cpu"}))
    embed(str(model), data, output_dir=str(run / "1-embed"), bf16=False, **options)
    return run


def written(run: Path, **options: Any) -> str:
    record = read_run(run)
    write_dataset(record.stages[0].folder, run / "set")
    file = dataset_card(record, record.stages[0], run / "set", **options)
    assert file == run / "set" / "README.md"
    return file.read_text(encoding="utf-8")


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)\n```", text, flags=re.DOTALL)


def searched(self: Dataset, name: str, query: Any, k: int) -> tuple[Any, Any]:
    """What faiss finds, without it."""
    assert query.ndim == 1
    far = np.square(self.with_format("numpy")[name][:] - query).sum(axis=1)
    nearest = np.argsort(far, kind="stable")[:k]
    return far[nearest], self[nearest.tolist()]


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """Runs the card's lines where the card lies; gives what they leave."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    if importlib.util.find_spec("faiss") is None:
        monkeypatch.setattr(Dataset, "add_faiss_index", lambda self, column: self.features[column])
        monkeypatch.setattr(Dataset, "get_nearest_examples", searched)

    def run(folder: Path, text: str, **changes: str) -> dict[str, Any]:
        monkeypatch.chdir(folder)
        code = "\n".join(blocks(text))
        for old, new in changes.items():
            assert old in code
            code = code.replace(old, new)
        found: dict[str, Any] = {}
        exec(compile(code, "card", "exec"), found)
        return found

    return run


def test_the_card_parses_and_load_dataset_reads_by_it(tiny_bert, reviews, tmp_path):
    run = made(tmp_path / "run", tiny_bert, reviews("source", 12), rows_per_shard=5)
    text = written(run, repo_id="me/kitchen-vectors", licence={"license": "cc-by-4.0"})
    card = DatasetCard.load(run / "set" / "README.md")
    assert card.data.license == "cc-by-4.0" and card.data.size_categories == ["n<1K"]
    assert card.data.tags == ["hftransfer", "embeddings"] and card.data.get("source_datasets") is None
    assert str(DatasetCard(str(card))) == str(card)
    rows = load_dataset(str(run / "set"), cache_dir=str(tmp_path / "cache"))
    assert list(rows) == ["train"] and len(rows["train"]) == 12  # not the card's text beside it
    assert text.startswith("---\n") and "# kitchen-vectors" in text
    assert 'load_dataset("me/kitchen-vectors", split="train")' in text
    for told in (
        "12 vectors of 32 numbers",
        "<code>text</code> | string |",
        "| 32 float32 |",
        "The texts themselves are in it",
        "Every row of the data is in it",
        "| pooling | mean |",
    ):
        assert told in text, told


def test_what_is_told_is_true_of_the_vectors(tiny_bert, tmp_path):
    columns = {"text": ["quiet pan " * 20, " ", "still oven"], "page": [1.5, 2.5, 3.5], "kind": [0, 1, 1]}
    features = Features(
        {"text": Value("string"), "page": Value("float64"), "kind": ClassLabel(names=["calm", "loud"])}
    )
    data = Dataset.from_dict(columns, features=features)
    run = made(
        tmp_path / "run",
        tiny_bert,
        data,
        columns=["page", "kind"],
        pooling="max",
        normalize=True,
        prompt="gentle soup: ",
        truncate_dim=8,
        max_length=16,
        layers=[0, 2],
        dtype="float16",
    )
    text = written(run)
    for told in (
        "2 vectors of 8 numbers",
        "| layers 0, 2 |",
        "| pooling | max |",
        "| length | 1 |",
        "16 tokens",
        '<code>"gentle soup: "</code>',
        "the first 8",
        "float16, about three digits",
        "1 rows of the data",
        "| <code>page</code> | float64 |",
        "one of calm and loud",
        "blank texts",
        "1 texts fill the 16 tokens",
    ):
        assert told in text, told
    (_, search) = blocks(text)
    for option in ("layers=[0, 2]", "normalize=True", 'prompt="gentle soup: "', "truncate_dim=8", "max_length=16"):
        assert option in search


def test_a_text_is_found_where_it_lies(tiny_bert, tmp_path, shown):
    texts = [f"{word} pan" for word in ("quiet", "noisy", "odd", "still", "weird", "loud")]
    run = made(tmp_path / "run", tiny_bert, Dataset.from_dict({"text": texts}), pooling="cls", prompt="the ")
    text = written(run)
    found = shown(run / "set", text, **{'"tiny_bert"': repr(str(tiny_bert)), "A text to look for.": "odd pan"})
    assert found["found"]["text"][0] == "odd pan" and len(found["found"]["text"]) == 5
    np.testing.assert_allclose(found["distances"][0], 0, atol=1e-6)
    np.testing.assert_allclose(found["query"][0], open_vectors(run / "1-embed").array()[2], atol=1e-5)


@pytest.mark.parametrize("kind", ["image", "sound"])
def test_an_image_and_a_sound_find_themselves(kind, request, tmp_path, shown):
    data = request.getfixturevalue({"image": "pictures", "sound": "tones"}[kind])
    if kind == "image":
        ViTModel(ViTConfig(image_size=8, patch_size=4, num_channels=3, **SMALL)).save_pretrained(tmp_path / "net")
        ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(tmp_path / "net")
    else:
        Wav2Vec2Model(Wav2Vec2Config(**SMALL, **SPEECH)).save_pretrained(tmp_path / "net")
        Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path / "net")
    run = made(tmp_path / "run", tmp_path / "net", data)
    text = written(run)
    assert f"The {kind}s themselves are in it" in text and f"near to a{'n' * (kind == 'image')} {kind}," in text
    found = shown(run / "set", text, **{'"net"': repr(str(tmp_path / "net"))})
    np.testing.assert_allclose(found["distances"][0], 0, atol=1e-6)
    assert 0 in found["found"]["row"]


def test_nothing_hostile_survives(tiny_bert, tmp_path):
    names = [*HOSTILE, "plain"]
    features = Features(
        {"te`xt|<b>": Value("string"), "label": ClassLabel(names=names), "[x](javascript:1)": Value("string")}
    )
    rows = {"te`xt|<b>": [f"{one} pan" for one in names], "label": list(range(6)), "[x](javascript:1)": names}
    data = {"path": Dataset.from_dict(rows, features=features), "columns": {"text": "te`xt|<b>", "label": "label"}}
    prompt = " ".join(HOSTILE) + " "
    run = made(tmp_path / "run", tiny_bert, data, columns=["label", "[x](javascript:1)"], prompt=prompt)
    stage = run / "1-embed"
    evidence = json.loads((stage / "evidence.json").read_text())
    evidence["notes"] += HOSTILE
    evidence["citations"] = [f"{one} 2020, {one}, arXiv:2020.1" for one in HOSTILE]
    evidence["data"][0]["name"] = HOSTILE[0]
    (stage / "evidence.json").write_text(json.dumps(evidence))
    info = json.loads((stage / "vectors.json").read_text())
    (stage / "vectors.json").write_text(json.dumps(info | {"data": " ".join(HOSTILE), "model": HOSTILE[1]}))
    (run / "run.json").write_text(json.dumps({"recipe": HOSTILE[0]}))
    for repo_id in (None, "me/" + " ".join(HOSTILE)):
        text = written(run, repo_id=repo_id)
        DatasetCard(text)
        for raw in RAW:
            assert raw not in text, raw
        assert "&lt;script&gt;" in text and "a path or a token in it is not published" in text
        for block in blocks(text):
            compile(block, "card", "exec")
        assert len(re.findall(r"^```", text, flags=re.MULTILINE)) % 2 == 0
        widths = [re.sub(r"[^|]", "", line) for line in text.splitlines() if line.startswith("|")]
        assert set(widths) == {"|||", "||||"}


def test_what_it_is_made_of(tiny_bert, reviews, tmp_path):
    run = made(tmp_path / "run", tiny_bert, reviews("source", 6))
    stage = run / "1-embed"
    evidence = json.loads((stage / "evidence.json").read_text())
    evidence["data"][0]["name"] = "fancyzhx/ag_news (default)"
    evidence["citations"] = ["Reimers and Gurevych 2019, Sentence-BERT, arXiv:1908.10084"]
    evidence["settings"]["model"] = "an/encoder"
    (stage / "evidence.json").write_text(json.dumps(evidence))
    info = json.loads((stage / "vectors.json").read_text())
    (stage / "vectors.json").write_text(json.dumps(info | {"model": "an/encoder"}))
    text = written(run)
    assert '"an/encoder",\n' in text
    assert DatasetCard(text).data.source_datasets == ["fancyzhx/ag_news"]
    assert "eprint = {1908.10084}" in text and "- Reimers and Gurevych 2019" in text
    first = (run / "set" / "README.md").read_bytes()
    written(run)
    assert (run / "set" / "README.md").read_bytes() == first
    (stage / "evidence.json").write_text(json.dumps(evidence | {"data": [], "citations": []}))
    assert "## Citations" not in written(run)


def test_refusals(tiny_bert, reviews, tmp_path):
    run = made(tmp_path / "run", tiny_bert, reviews("source", 6))
    (run / "1-embed" / "vectors.json").unlink()
    record = read_run(run)
    with pytest.raises(HFTransferError, match="vectors: 1-embed holds none; name a stage that ran embed"):
        dataset_card(record, record.stages[0], run / "set")


@pytest.mark.parametrize(
    "rows, told",
    [
        (1, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (123_456, "100K<n<1M"),
        (10**12 - 1, "100B<n<1T"),
        (10**12, "n>1T"),
    ],
)
def test_sizes_are_the_hubs(rows, told):
    assert size_category(rows) == told


@pytest.mark.parametrize("text", ["query: ", 'a "b" \\ `c` \\` <d> |[e]', "ä 中 \U0001f600\n\t", "\\x60"])
def test_a_literal_is_the_text(text):
    written = literal(text)
    assert eval(written) == text and not re.search(r"[`<>|\[\]\n]", written)


def test_a_folder_is_no_hub_id(tmp_path, monkeypatch):
    (tmp_path / "here" / "net").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def hub_id(asked: str, told: str) -> str | None:
        return Embedded({"model": told}, {"model": asked}).checkpoint

    assert hub_id("an/encoder", "an/encoder") == "an/encoder" and hub_id("bert", "bert") == "bert"
    assert hub_id("here/net", "net") is None and hub_id("here/net", "here/net") is None
    assert hub_id("out/1-pretrain", "1-pretrain") is None and hub_id("", "") is None
    assert read(tmp_path) is None
