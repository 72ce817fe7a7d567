"""Vectors: every kind of checkpoint gives what a plain forward of one row gives; shards outlive whoever writes."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Audio, Dataset
from safetensors.numpy import load_file
from transformers import (
    ASTFeatureExtractor,
    BertModel,
    GPT2Config,
    GPT2Model,
    ImageGPTConfig,
    ImageGPTModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5Model,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

import hftransfer
from hftransfer import inputs, models
from hftransfer.data import palette
from hftransfer.data.chunks import open_source
from hftransfer.errors import HFTransferError
from hftransfer.lstm import LSTMConfig, LSTMModel
from hftransfer.stages.embed import embed
from hftransfer.vectors import Writer, is_vectors, open_vectors
from hftransfer.vectors.embedder import Embedder, settled

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
WORDS = ["kitchen", "pan", "oven", "the", "knife", "soup", "quiet", "noisy", "odd", "tree"]
TEXTS = [" ".join(np.random.default_rng(n).choice(WORDS, 1 + n % 9)) for n in range(24)]
SPEECH = {"conv_dim": (16, 16, 16), "conv_stride": (5, 4, 4), "conv_kernel": (10, 8, 4)}
SPEECH |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}


def saved(folder, network, reader):
    models.save(network.eval(), folder, reader)
    return str(folder)


def embedder(model, tokens_per_batch=48, **options):
    return Embedder(settled(model, **options), bf16=False, tokens_per_batch=tokens_per_batch)


def decoder(tokenizer, **fields):
    torch.manual_seed(1)
    sizes = {"n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2, "pad_token_id": 0}
    return GPT2Model(GPT2Config(vocab_size=len(tokenizer), **sizes, **fields))


@pytest.mark.parametrize("how", ["mean", "cls", "last", "max"])
def test_padding_on_either_side_pools_alike(how):
    states = torch.randn(3, 5, 4)
    lengths = [5, 2, 1]
    right, left = torch.zeros(3, 5, 4), torch.zeros(3, 5, 4)
    behind, before = torch.zeros(3, 5, dtype=torch.long), torch.zeros(3, 5, dtype=torch.long)
    for row, length in enumerate(lengths):
        right[row, :length], behind[row, :length] = states[row, :length], 1
        left[row, 5 - length :], before[row, 5 - length :] = states[row, :length], 1
    right[1:, 3:] = left[1:, :2] = 9.0  # what padding gives counts for nothing
    alone = torch.cat([models.pool(states[row : row + 1, :length], None, how) for row, length in enumerate(lengths)])
    torch.testing.assert_close(models.pool(right, behind, how), alone)
    torch.testing.assert_close(models.pool(left, before, how), alone)


@pytest.mark.parametrize("how", ["mean", "last", "max"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_decoder_whose_tokenizer_pads_on_either_side(how, side, word_tokenizer, tmp_path):
    reader = type(word_tokenizer).from_pretrained(
        saved(tmp_path / "m", decoder(word_tokenizer), word_tokenizer), padding_side=side
    )
    model = saved(tmp_path / side, decoder(word_tokenizer), reader)
    network = GPT2Model.from_pretrained(model).eval()
    found = embedder(model, pooling=how).texts(TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            states = network(torch.tensor([word_tokenizer(text)["input_ids"]])).last_hidden_state[0]
        expected = {"mean": states.mean(0), "last": states[-1], "max": states.amax(0)}[how]
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)


def test_an_lstm(word_tokenizer, tmp_path):
    torch.manual_seed(1)
    model = saved(tmp_path / "m", LSTMModel(LSTMConfig(vocab_size=len(word_tokenizer), hidden_size=8)), word_tokenizer)
    network = LSTMModel.from_pretrained(model).eval()
    found = embedder(model).texts(TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            states = network(torch.tensor([word_tokenizer(text)["input_ids"]])).last_hidden_state[0]
        np.testing.assert_allclose(vector, states[-1].numpy(), atol=1e-5)
    with pytest.raises(HFTransferError, match="layers: this lstm runs all its layers at once"):
        settled(model, layers=[1])


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_a_speech_network_hears_no_padding(norm, tones, tmp_path):
    torch.manual_seed(0)
    masked = norm == "layer"
    reader = Wav2Vec2FeatureExtractor(sampling_rate=8000, return_attention_mask=masked)
    network = Wav2Vec2Model(Wav2Vec2Config(feat_extract_norm=norm, **SMALL, **SPEECH))
    model = saved(tmp_path / "m", network, reader)
    rows = open_source(tones, key="data", kind="sound").splits["train"].select_columns(["audio"])
    speaker = embedder(model, tokens_per_batch=200)
    batches = []
    call = speaker.network.forward
    speaker.network.forward = lambda **given: (batches.append(len(given["input_values"])), call(**given))[1]
    found = speaker(rows, key="data").vectors
    assert (max(batches) > 1) == masked
    for row, vector in zip(inputs.sounds.readable(rows, key="data", sampling_rate=8000), found, strict=True):
        read = reader(row["waveform"], sampling_rate=8000, return_tensors="pt")
        with torch.no_grad():
            states = network(**read).last_hidden_state[0]
        np.testing.assert_allclose(vector, states.mean(0).numpy(), atol=1e-5)


def test_a_vit_that_hears_spectrograms(tones, tmp_path):
    torch.manual_seed(0)
    reader = ASTFeatureExtractor(sampling_rate=8000, num_mel_bins=16, max_length=16)
    network = ViTModel(ViTConfig(image_size=16, patch_size=4, num_channels=1, **SMALL))
    model = saved(tmp_path / "m", network, reader)
    result = embed(model, tones, output_dir=str(tmp_path / "out"), bf16=False)
    found = open_vectors(result.path)
    assert (found.info["kind"], found.info["pooling"]) == ("sound", "cls")
    assert isinstance(found.rows().features["audio"], Audio) and len(found) == 24
    rows = open_source(tones, key="data", kind="sound").splits["train"].select_columns(["audio"])
    sound = inputs.sounds.readable(rows, key="data", sampling_rate=8000)[0]["waveform"]
    energies = inputs.spectrograms.energies(sound, reader)
    pixels = inputs.spectrograms.SpectrogramBatch(reader)([{"energies": energies, "row": 0}], None)
    with torch.no_grad():
        np.testing.assert_allclose(found.array()[0], network(pixels).last_hidden_state[0, 0].numpy(), atol=1e-5)


def test_image_gpt(pictures, tmp_path):
    torch.manual_seed(0)
    network = ImageGPTModel(ImageGPTConfig(n_layer=2, n_embd=16, n_head=2, n_positions=64, vocab_size=17))
    reader = palette.processor(8, palette.scaled(torch.rand(16, 3).numpy()))
    model = saved(tmp_path / "m", network, reader)
    rows = open_source(pictures, key="data", kind="image").splits["train"].select_columns(["image"])
    found = embedder(model, layers=[1])(rows, key="data").vectors
    pixels = inputs.images.readable(rows.select([3]), key="data", channels=3)[0]["pixels"]
    with torch.no_grad():
        ids = torch.from_numpy(palette.tokens_of(pixels, reader)[None]).long()
        states = network(ids, output_hidden_states=True).hidden_states[1][0]
    np.testing.assert_allclose(found[3], states.mean(0).numpy(), atol=1e-5)


def test_the_order_of_rows_changes_no_vector(tiny_bert):
    order = np.random.default_rng(0).permutation(len(TEXTS))
    network = embedder(str(tiny_bert))
    shuffled = network.texts([TEXTS[place] for place in order])
    np.testing.assert_allclose(shuffled, network.texts(TEXTS)[order], atol=1e-5)


def test_bf16_is_near(tiny_bert):
    exact = embedder(str(tiny_bert), normalize=True).texts(TEXTS)
    near = Embedder(settled(str(tiny_bert), normalize=True), bf16=True).texts(TEXTS)
    assert near.dtype == np.float32 and not np.array_equal(near, exact)
    assert (near * exact).sum(1).min() > 0.995


def test_a_text_is_never_longer_than_the_positions(word_tokenizer, tmp_path):
    """RoBERTa's first position is the one after its padding token's; a tokenizer may name no limit."""
    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=len(word_tokenizer), max_position_embeddings=14, pad_token_id=1, **SMALL)
    model = saved(tmp_path / "m", RobertaModel(config), word_tokenizer)
    for told in (None, 400):
        if told:
            (tmp_path / "m" / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": told}))
        assert settled(model).max_length == 12
    assert np.isfinite(embedder(model).texts(["soup " * 50])).all()
    with pytest.raises(HFTransferError, match="max_length: 13 tokens are more than the 12 positions"):
        settled(model, max_length=13)
    free = type(word_tokenizer).from_pretrained(model, model_max_length=10**30)
    plain = LSTMModel(LSTMConfig(vocab_size=len(word_tokenizer), hidden_size=8))
    assert settled(saved(tmp_path / "n", plain, free)).max_length == 512


def test_an_adapter_is_pooled_as_its_base_is_meant_to_be(tiny_bert, reviews, tmp_path):
    base = shutil.copytree(tiny_bert, tmp_path / "base")
    (base / "modules.json").write_text(json.dumps([{"type": "a.Transformer"}, {"type": "a.Pooling", "path": "p"}]))
    (base / "p").mkdir()
    (base / "p" / "config.json").write_text(json.dumps({"pooling_mode": "max"}))
    given = {"training": {"max_steps": 2}, "max_length": 32, "output_dir": str(tmp_path / "lora")}
    tuned = hftransfer.finetune(str(base), reviews("source", 30), method="lora", merge=False, **given)
    assert settled(str(tuned.path)).pooling == "max"


def test_what_the_modules_of_a_checkpoint_leave_open_is_told(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "dense")
    modules = [{"type": "a.Transformer"}, {"type": "a.Pooling", "path": "p"}, {"type": "a.Dense", "path": "d"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    prompts = {"default_prompt_name": "query", "prompts": {"query": "quiet "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    data = Dataset.from_dict({"text": TEXTS})
    result = embed(str(folder), data, output_dir=str(tmp_path / "out"), bf16=False)
    notes = " ".join(result.evidence["notes"])
    assert "goes on with Dense" in notes and "before each text: 'quiet '" in notes
    bare = embedder(str(folder), prompt="").texts(TEXTS)
    expected = embedder(str(tiny_bert)).texts([f"quiet {text}" for text in TEXTS])
    np.testing.assert_allclose(open_vectors(result.path).array(), expected, atol=1e-5)
    assert np.abs(bare - expected).max() > 1e-3


def test_checkpoints_that_give_no_vector(tiny_bert, word_tokenizer, tmp_path):
    t5 = T5Model(T5Config(vocab_size=10, d_model=8, d_ff=8, d_kv=4, num_heads=2, num_layers=1))
    models.save(t5, tmp_path / "t5", word_tokenizer)
    with pytest.raises(HFTransferError, match=r"model: t5 \(t5\) has two parts and no one vector"):
        settled(str(tmp_path / "t5"))
    BertModel.from_pretrained(tiny_bert).save_pretrained(tmp_path / "silent")
    with pytest.raises(HFTransferError, match="model: silent has no tokenizer"):
        settled(str(tmp_path / "silent"))


def test_vectors_as_data_go_to_cluster(tiny_bert, tmp_path):
    (tmp_path / "points.csv").write_text("x,y,label\n0.5,1.5,a\n2.5,3.5,b\n")
    for data in (str(tmp_path / "points.csv"), "demo/blobs", Dataset.from_dict({"vector": [[0.5, 1.0]]})):
        with pytest.raises(HFTransferError, match=r"^data: .* holds vectors already, not texts; `cluster` takes them"):
            embed(str(tiny_bert), data, output_dir=str(tmp_path / "out"))
    both = Dataset.from_dict({"title": ["a"], "note": ["b"], "score": [0.5]})
    with pytest.raises(HFTransferError, match="cannot tell which column of"):
        embed(str(tiny_bert), both, output_dir=str(tmp_path / "out"))


def test_the_record_tells_lengths_labels_and_what_to_doubt(tiny_bert, word_tokenizer, tmp_path):
    network = BertModel.from_pretrained(tiny_bert)
    network.encoder.layer[-1].output.LayerNorm.weight.data[:] = 0
    network.encoder.layer[-1].output.LayerNorm.bias.data[:] = 0
    model = saved(tmp_path / "m", network, word_tokenizer)
    data = Dataset.from_dict({"text": ["soup", "the pan", " ", "soup " * 20], "label": [3, 11, 11, 3]})
    given = {"max_length": 8, "rows_per_shard": 2, "bf16": False}
    result = embed(model, data, output_dir=str(tmp_path / "out"), **given)
    assert (result.metrics["rows"], result.metrics["rows_left_out"]) == (3, 1)
    assert (result.metrics["texts_cut"], result.metrics["zero_vectors"]) == (1, 3)
    (card,) = result.evidence["data"]
    assert card["labels"] == {"3": 2, "11": 1} and card["rows"] == 3
    assert card["median_length"] == 4 and card["lengths"]["unit"] == "tokens" and sum(card["lengths"]["counts"]) == 3
    notes = result.evidence["notes"]
    assert any("1 texts (33.3%) fill the longest row of 8 tokens" in note for note in notes)
    assert any("3 vectors are all zeros" in note for note in notes)


def test_images_that_cannot_be_read_are_left_out_wherever_they_are(painted, tmp_path):
    """The last shard has nothing else: what may be left out does not depend on shards."""
    data = painted(3, (8, 8))
    for number in range(2):
        (tmp_path / "pictures" / "dark" / f"{number}.png").write_bytes(b"none")
    network = ViTModel(ViTConfig(image_size=8, patch_size=4, **SMALL))
    model = saved(tmp_path / "m", network, ViTImageProcessorPil(size={"height": 8, "width": 8}))
    result = embed(model, data, output_dir=str(tmp_path / "out"), rows_per_shard=2)
    found = open_vectors(result.path)
    assert len(found) == len(found.rows()) == 4 == sum(shard["count"] for shard in found.info["shards"])
    left = sorted(set(range(6)) - set(found.rows()["row"]))
    named = ", ".join(str(row + 1) for row in left)
    assert any(f"2 rows left out: images that cannot be read (row {named})" in n for n in result.evidence["notes"])
    for file in (tmp_path / "pictures").rglob("*.png"):
        file.write_bytes(b"none")
    with pytest.raises(HFTransferError, match="no row that can be embedded"):
        embed(model, data, output_dir=str(tmp_path / "none"))


@pytest.mark.parametrize("kind", ["image", "sound"])
def test_pictures_and_sounds_outlive_their_files(kind, pictures, tones, tmp_path, monkeypatch):
    """They are read in pieces, of which no vector knows."""
    torch.manual_seed(0)
    heard = kind == "sound"
    network = ViTModel(ViTConfig(image_size=16, patch_size=4, num_channels=1 if heard else 3, **SMALL))
    reader = ASTFeatureExtractor(sampling_rate=8000, num_mel_bins=16, max_length=16)
    reader = reader if heard else ViTImageProcessorPil(size={"height": 16, "width": 16})
    model, data = saved(tmp_path / "m", network, reader), tones if heard else pictures
    whole = embed(model, data, output_dir=str(tmp_path / "whole"), bf16=False)
    monkeypatch.setattr("hftransfer.vectors.embedder.PIECE", 7)
    parts = embed(model, data, output_dir=str(tmp_path / "parts"), bf16=False)
    files = [file for file in sorted(Path(data).rglob("*")) if file.is_file()]
    stored = {file.name: file.read_bytes() for file in files[: len(files) // 2]}
    shutil.rmtree(data)
    found = open_vectors(parts.path)
    np.testing.assert_allclose(found.array(), open_vectors(whole.path).array(), atol=1e-5)
    column = found.rows().with_format("arrow")[:][{"image": "image", "sound": "audio"}[kind]].to_pylist()
    assert not any("/" in row["path"] for row in column)  # nothing tells where they lay
    assert {row["path"]: row["bytes"] for row in column[: len(stored)]} == stored


def test_numbers_too_large_for_a_half_are_told(tiny_bert, word_tokenizer, tmp_path):
    network = BertModel.from_pretrained(tiny_bert)
    network.encoder.layer[-1].output.LayerNorm.bias.data[0] = 1e5
    model = saved(tmp_path / "m", network, word_tokenizer)
    with pytest.raises(HFTransferError, match=r"dtype: float16 does not reach to 1e\+05; use float32"):
        embed(model, Dataset.from_dict({"text": TEXTS}), dtype="float16", bf16=False, output_dir=str(tmp_path / "o"))


def test_an_array_has_the_rows_of_the_data(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    rows = hftransfer.embed(str(tiny_bert), ["soup", "pan", " "])
    assert rows["row"][:] == [0, 1]
    with pytest.raises(HFTransferError, match="returns: 1 rows were left out"):
        hftransfer.embed(str(tiny_bert), ["soup", "pan", " "], returns="array")
    with pytest.raises(HFTransferError, match="data: a list holds texts, and its item 2 is 3"):
        hftransfer.embed(str(tiny_bert), ["soup", 3])
    with pytest.raises(HFTransferError, match="has no rows"):
        hftransfer.embed(str(tiny_bert), [])
    stream = Dataset.from_dict({"text": TEXTS}).to_iterable_dataset()
    with pytest.raises(HFTransferError, match="output_dir: a stream in memory cannot be found again"):
        hftransfer.embed(str(tiny_bert), stream)
    found = hftransfer.embed(str(tiny_bert), stream, returns="array", output_dir=tmp_path / "out", bf16=False)
    np.testing.assert_allclose(found, embedder(str(tiny_bert)).texts(TEXTS), atol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss is not installed")
def test_faiss_finds_a_row_by_its_vector(tiny_bert, tmp_path):
    rows = hftransfer.embed(str(tiny_bert), TEXTS, output_dir=tmp_path / "out")
    rows.add_faiss_index("embedding")
    vector = np.asarray(rows[5]["embedding"], dtype=np.float32)
    assert TEXTS[5] in rows.get_nearest_examples("embedding", vector, k=1)[1]["text"]


def written(folder, counts, dtype=np.float32):
    """A folder of so many rows a shard, and all its vectors."""
    folder.mkdir()
    writer, first = Writer(folder), 0
    made = np.random.default_rng(0).normal(size=(sum(counts), 3)).astype(dtype)
    for count in counts:
        rows = Dataset.from_dict(
            {"row": np.arange(first, first + count), "text": [str(first + n) for n in range(count)]}
        )
        writer.add(made[first : first + count], rows, read=first + count, facts={})
        first += count
    writer.finish({"width": 3, "dtype": str(np.dtype(dtype)), "kind": "text"})
    return made


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_what_is_written_is_read_without_loading(dtype, tmp_path):
    made = written(tmp_path / "one", [5], dtype)
    found = open_vectors(tmp_path / "one")
    assert is_vectors(tmp_path / "one") and not is_vectors(tmp_path)
    array = found.array()
    assert isinstance(array, np.memmap) and array.dtype == dtype and not array.flags.writeable
    np.testing.assert_array_equal(array, made)
    np.testing.assert_array_equal(load_file(tmp_path / "one" / "embeddings-00000.safetensors")["embeddings"], made)
    column = found.dataset().with_format("numpy")["embedding"][:]
    assert column.dtype == np.float32
    np.testing.assert_array_equal(column, made.astype(np.float32))


def test_shards_follow_each_other_and_an_empty_one_is_none(tmp_path):
    made = written(tmp_path / "many", [4, 0, 3, 0])
    found = open_vectors(tmp_path / "many")
    assert [shard["count"] for shard in found.info["shards"]] == [4, 3] and len(found) == 7
    np.testing.assert_array_equal(found.array(), made)
    batches = list(found.batches(3))
    assert [(start, len(batch)) for start, batch in batches] == [(0, 3), (3, 1), (4, 3)]
    np.testing.assert_array_equal(np.concatenate([batch for _, batch in batches]), made)
    rows = found.dataset()
    assert rows["row"][:] == list(range(7)) and rows["text"][:] == [str(n) for n in range(7)]
    np.testing.assert_array_equal(rows.with_format("numpy")["embedding"][:], made)
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == [
        "embeddings-00000.safetensors", "embeddings-00002.safetensors", "rows-00000.parquet", "rows-00002.parquet",
        "vectors.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "broken", ["embeddings-00001.safetensors", "rows-00001.parquet", "checkpoints/shard-00001.json"]
)
def test_a_shard_counts_only_when_all_of_it_is_whole(broken, tmp_path):
    writer = Writer(tmp_path)
    for number in range(3):
        rows = Dataset.from_dict({"row": [number]})
        writer.add(np.full((1, 2), number, np.float32), rows, read=number + 1, facts={"number": number})
    assert (Writer(tmp_path).rows, Writer(tmp_path).read) == (3, 3)
    content = (tmp_path / broken).read_bytes()
    (tmp_path / broken).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # as long as before
    again = Writer(tmp_path)
    assert (again.rows, again.read) == (1, 1) and again.shards[0]["facts"] == {"number": 0}


KILLED = """
import os, signal, sys
from hftransfer.stages.embed import embed
from hftransfer.vectors import store

def save(*args, **kwargs):
    saving(*args, **kwargs)
    if "00002" in str(args[1]):
        os.kill(os.getpid(), signal.SIGKILL)

saving, store.save_file = store.save_file, save
embed(sys.argv[1], sys.argv[2], output_dir=sys.argv[3], bf16=False, rows_per_shard=9)
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_killed_run_goes_on_to_the_same_bytes(tiny_bert, reviews, tmp_path, monkeypatch):
    data, given = reviews("source", 40), {"bf16": False, "rows_per_shard": 9}
    (tmp_path / "killed.py").write_text(KILLED)
    command = [sys.executable, "killed.py", str(tiny_bert), data, str(tmp_path / "again")]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert not (tmp_path / "again").exists()
    whole = embed(str(tiny_bert), data, output_dir=str(tmp_path / "whole"), **given)
    call, seen = Embedder.__call__, []
    monkeypatch.setattr(
        Embedder, "__call__", lambda self, rows, **more: (seen.append(len(rows)), call(self, rows, **more))[1]
    )
    again = embed(str(tiny_bert), data, output_dir=str(tmp_path / "again"), **given)
    assert seen == [9, 9, 4]  # two shards were whole, the third had lost its rows
    for path in whole.path.iterdir():
        if path.suffix in (".safetensors", ".parquet") or path.name == "vectors.json":
            assert path.read_bytes() == (again.path / path.name).read_bytes(), path.name
    assert {"rows": 40, "width": 32}.items() <= again.metrics.items()
    assert again.evidence["data"] == whole.evidence["data"]
