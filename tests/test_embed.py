"""`embed`: the vectors are the checkpoint's own, whatever they are batched, stored or stopped with."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, load_dataset
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    AutoTokenizer,
    BertModel,
    GPT2Config,
    GPT2Model,
    ViTConfig,
    ViTImageProcessorPil,
    ViTMAEConfig,
    ViTMAEModel,
    ViTModel,
)

import hftransfer
from hftransfer import gans, models
from hftransfer.errors import HFTransferError
from hftransfer.stages.embed import embed
from hftransfer.vectors import Writer, open_vectors
from hftransfer.vectors.embedder import Embedder, settled

SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def texts(rows=30):
    """Of 1 to 9 words that the tokenizer knows."""
    rng = np.random.default_rng(0)
    words = ["kitchen", "pan", "oven", "the", "knife", "soup", "quiet", "noisy"]
    return [" ".join(rng.choice(words, rng.integers(1, 10))) for _ in range(rows)]


def vectors(model, data, folder, **options):
    return open_vectors(embed(str(model), data, output_dir=str(folder), **{"bf16": False, **options}).path)


def by_hand(folder, text, how):
    """One text alone, through plain transformers."""
    batch = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.no_grad():
        states = BertModel.from_pretrained(folder).eval()(**batch).last_hidden_state[0]
    return {"mean": states.mean(0), "cls": states[0], "last": states[-1], "max": states.amax(0)}[how].numpy()


@pytest.mark.parametrize("how", ["mean", "cls", "last", "max"])
def test_vectors_are_those_of_each_text_alone(tiny_bert, reviews, tmp_path, how):
    found = vectors(tiny_bert, reviews("source", 20), tmp_path / "out", pooling=how)
    rows = found.rows()
    assert rows.column_names == ["text", "label", "row"] and rows["row"][:] == list(range(20))
    for text, vector in zip(rows["text"], found.array(), strict=True):
        np.testing.assert_allclose(vector, by_hand(tiny_bert, text, how), atol=1e-5)
    assert found.info["pooling"] == how and found.info["label"] == "label" and found.info["kind"] == "text"


def test_neither_batches_nor_shards_change_a_vector(tiny_bert, reviews, tmp_path):
    data = reviews("source", 40)
    whole = vectors(tiny_bert, data, tmp_path / "whole")
    parts = vectors(tiny_bert, data, tmp_path / "parts", rows_per_shard=7, tokens_per_batch=16)
    assert [len(shard) for shard in parts.shards] == [7] * 5 + [5]
    assert isinstance(whole.array(), np.memmap) and whole.array().dtype == np.float32
    np.testing.assert_allclose(parts.array(), whole.array(), atol=1e-5)
    assert parts.rows()[:] == whole.rows()[:]
    ends = [(start, len(batch)) for start, batch in parts.batches(4)]
    assert ends[:3] == [(0, 4), (4, 3), (7, 4)] and sum(count for _, count in ends) == 40


def test_layers_length_and_width(tiny_bert, reviews, tmp_path):
    data = reviews("source", 10)
    last = vectors(tiny_bert, data, tmp_path / "last").array()
    named = vectors(tiny_bert, data, tmp_path / "named", layers=[-1]).array()
    np.testing.assert_allclose(named, last, atol=1e-6)
    first, both = (vectors(tiny_bert, data, tmp_path / str(n), layers=n).array() for n in ([0], [0, 2]))
    np.testing.assert_allclose(both, (first + last) / 2, atol=1e-6)
    short = vectors(tiny_bert, data, tmp_path / "short", truncate_dim=8, normalize=True).array()
    cut = last[:, :8]
    np.testing.assert_allclose(short, cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-6)
    half = vectors(tiny_bert, data, tmp_path / "half", dtype="float16").array()
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, last, atol=2e-3)


def test_a_prompt_stands_before_each_text(tiny_bert, tmp_path):
    data = Dataset.from_dict({"text": texts(6)})
    told = Dataset.from_dict({"text": ["quiet soup " + text for text in texts(6)]})
    prompted = vectors(tiny_bert, data, tmp_path / "a", prompt="quiet soup ")
    np.testing.assert_allclose(prompted.array(), vectors(tiny_bert, told, tmp_path / "b").array(), atol=1e-6)
    assert prompted.rows()["text"][:] == texts(6)


def test_a_checkpoint_says_how_it_is_meant(tiny_bert, word_tokenizer, reviews, tmp_path):
    folder = tmp_path / "meant"
    BertModel.from_pretrained(tiny_bert).save_pretrained(folder)
    word_tokenizer.save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in
               (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 5}))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "quiet "}}))
    found = vectors(folder, reviews("source", 8), tmp_path / "out", prompt="query")
    assert (found.info["pooling"], found.info["normalized"]) == ("max", True)
    assert (found.info["max_length"], found.info["prompt"]) == (5, "quiet ")
    np.testing.assert_allclose(np.linalg.norm(found.array(), axis=1), 1, atol=1e-6)
    other = vectors(folder, reviews("source", 8), tmp_path / "other", pooling="mean", normalize=False, max_length=64)
    assert other.info["pooling"] == "mean" and not np.allclose(np.linalg.norm(other.array(), axis=1), 1)


def gpt(folder, tokenizer, side):
    torch.manual_seed(1)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=32, n_embd=16, n_layer=1, n_head=2, pad_token_id=0)
    GPT2Model(config).save_pretrained(folder)
    tokenizer.padding_side = side
    tokenizer.save_pretrained(folder)
    tokenizer.padding_side = "right"
    return folder


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_decoder_gives_its_last_real_token(word_tokenizer, tmp_path, side):
    folder = gpt(tmp_path / "gpt", word_tokenizer, side)
    found = vectors(folder, Dataset.from_dict({"text": texts(9)}), tmp_path / "out").array()
    network, reader = GPT2Model.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    for text, vector in zip(texts(9), found, strict=True):
        with torch.no_grad():
            states = network(**reader(text, return_tensors="pt", return_token_type_ids=False)).last_hidden_state
        np.testing.assert_allclose(vector, states[0, -1].numpy(), atol=1e-5)


def eyes(folder, kind="vit"):
    sizes = {"image_size": 8, "patch_size": 4, "num_channels": 3, "hidden_size": 16, **SMALL}
    torch.manual_seed(2)
    network = ViTModel(ViTConfig(**sizes)) if kind == "vit" else ViTMAEModel(ViTMAEConfig(**sizes))
    network.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(folder)
    return folder


def test_images_have_their_bytes_and_broken_ones_are_left_out(painted, tmp_path):
    data = painted(60, (10, 9))
    folder = tmp_path / "pictures"
    (folder / "dark" / "3.png").write_bytes(b"no image")
    found = vectors(eyes(tmp_path / "eyes"), data, tmp_path / "out", rows_per_shard=50)
    rows = found.rows()
    assert len(found) == len(rows) == 119 and found.info["pooling"] == "cls"
    assert sorted(set(range(120)) - set(rows["row"])) != [] and rows[0]["image"].size == (9, 10)
    result = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert result["rows_left_out"] == 1


def test_an_mae_hides_nothing_and_is_the_same_each_time(painted, tmp_path):
    data = painted(5, (8, 8))
    folder = eyes(tmp_path / "mae", "mae")
    one, other = (vectors(folder, data, tmp_path / name).array() for name in ("a", "b"))
    np.testing.assert_array_equal(one, other)
    network = ViTMAEModel.from_pretrained(folder, mask_ratio=0.0).eval()
    whole = settled(str(folder))
    assert whole.pooling == "cls"
    rows = open_vectors(tmp_path / "a").rows()
    pixels = models.reader(str(folder), "image")(rows[0]["image"].convert("RGB"), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        np.testing.assert_allclose(one[0], network(pixels).last_hidden_state[0, 0].numpy(), atol=1e-5)


def test_sounds(tones, tmp_path):
    torch.manual_seed(3)
    config = ASTConfig(hidden_size=16, patch_size=4, max_length=24, num_mel_bins=16, **SMALL)
    ASTModel(config).save_pretrained(tmp_path / "ears")
    ASTFeatureExtractor(sampling_rate=8000, num_mel_bins=16, max_length=24).save_pretrained(tmp_path / "ears")
    found = vectors(tmp_path / "ears", tones, tmp_path / "out")
    assert found.info["kind"] == "sound" and found.width == 16 and len(found) == len(found.rows())
    assert found.rows().features["audio"].__class__.__name__ == "Audio"


def test_a_discriminator_gives_its_features(painted, tmp_path):
    _, judge = gans.new_pair("conv", [3, 8, 8], 0, {"base_channels": 4})
    judge.save_pretrained(tmp_path / "judge")
    found = vectors(tmp_path / "judge", painted(4, (8, 8)), tmp_path / "out")
    assert found.info["pooling"] == "own" and found.width == judge.config.hidden_size
    with pytest.raises(HFTransferError, match=r"pooling: a discriminator has one vector"):
        vectors(tmp_path / "judge", str(tmp_path / "pictures"), tmp_path / "no", pooling="mean")


def test_an_adapter_is_merged_into_its_base(tiny_bert, reviews, tmp_path):
    tiny_bert = shutil.copytree(tiny_bert, tmp_path / "tiny_bert")  # an adapter's base lies beside it
    given = {
        "method": "lora",
        "merge": False,
        "max_length": 64,
        "training": {"num_train_epochs": 6, "learning_rate": 1e-2},
    }
    tuned = hftransfer.finetune(str(tiny_bert), reviews("source", 30), output_dir=str(tmp_path / "lora"), **given)
    data = Dataset.from_dict({"text": texts(8)})
    found = vectors(tuned.path, data, tmp_path / "a").array()
    merged = models.load(str(tuned.path), "encoder")
    merged.save_pretrained(tmp_path / "merged")
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path / "merged")
    np.testing.assert_allclose(found, vectors(tmp_path / "merged", data, tmp_path / "b").array(), atol=1e-5)
    assert np.abs(found - vectors(tiny_bert, data, tmp_path / "c").array()).max() > 1e-3


class Stopped(Exception):
    pass


def test_a_stopped_run_goes_on_to_the_same_bytes(tiny_bert, reviews, tmp_path, monkeypatch):
    data, sizes = reviews("source", 40), {"rows_per_shard": 9}
    whole = vectors(tiny_bert, data, tmp_path / "whole", **sizes).folder
    add, embedded = Writer.add, []

    def stopping(self, *args, **kwargs):
        if len(self.shards) == 2:
            raise Stopped
        add(self, *args, **kwargs)

    call = Embedder.__call__

    def counting(self, content, **kwargs):
        embedded.append(len(content))
        return call(self, content, **kwargs)

    monkeypatch.setattr(Writer, "add", stopping)
    with pytest.raises(Stopped):
        vectors(tiny_bert, data, tmp_path / "again", **sizes)
    assert not (tmp_path / "again").exists()
    broken = tmp_path / ".again.partial" / "embeddings-00001.safetensors"
    broken.write_bytes(broken.read_bytes()[:-4])  # the second shard is cut off: it is made again
    monkeypatch.setattr(Writer, "add", add)
    monkeypatch.setattr(Embedder, "__call__", counting)
    again = vectors(tiny_bert, data, tmp_path / "again", **sizes).folder
    assert sum(embedded) == 31
    for file in whole.iterdir():
        if file.suffix in (".safetensors", ".parquet") or file.name == "vectors.json":
            assert file.read_bytes() == (again / file.name).read_bytes(), file.name
    assert {file.name for file in whole.iterdir()} == {file.name for file in again.iterdir()}


def test_a_stream_passes_through(tiny_bert, reviews, tmp_path):
    data = reviews("source", 25)
    whole = vectors(tiny_bert, data, tmp_path / "whole", rows_per_shard=10)
    spec = {"path": data, "streaming": True}
    stream = vectors(tiny_bert, spec, tmp_path / "stream", rows_per_shard=10)
    np.testing.assert_array_equal(stream.array(), whole.array())
    assert stream.rows()[:] == whole.rows()[:]
    object_ = load_dataset("csv", data_files=data, streaming=True)["train"]
    np.testing.assert_array_equal(vectors(tiny_bert, object_, tmp_path / "object").array(), whole.array())


def test_all_splits_are_embedded_and_named(tiny_bert, tmp_path):
    features = Features({"text": Value("string"), "kind": ClassLabel(names=["a", "b"]), "id": Value("int64")})
    parts = {
        name: Dataset.from_dict({"text": texts(n), "kind": [0] * n, "id": list(range(n))}, features=features)
        for name, n in (("train", 5), ("test", 3))
    }
    found = vectors(tiny_bert, DatasetDict(parts), tmp_path / "out", columns=["id", "kind"]).rows()
    assert found.column_names == ["text", "id", "kind", "split", "row"]
    assert found["split"][:] == ["train"] * 5 + ["test"] * 3 and found["row"][:] == list(range(8))
    assert found.features["kind"].names == ["a", "b"]


def test_blank_texts_are_left_out_and_told(tiny_bert, tmp_path):
    data = Dataset.from_dict({"text": ["the soup", "  ", "a pan", None, "the knife"]})
    result = embed(str(tiny_bert), data, output_dir=str(tmp_path / "out"), bf16=False, rows_per_shard=2)
    assert open_vectors(result.path).rows()["row"][:] == [0, 2, 4]
    assert result.metrics["rows_left_out"] == 2
    assert any("2 rows left out: blank texts" in note for note in result.evidence["notes"])
    one = vectors(tiny_bert, Dataset.from_dict({"text": ["soup"]}), tmp_path / "one")
    assert one.array().shape == (1, 32)


def test_in_python(tiny_bert, reviews, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    found = hftransfer.embed(str(tiny_bert), ["the soup", "a pan"], bf16=False)
    assert found["text"][:] == ["the soup", "a pan"]
    column = found.with_format("numpy")["embedding"][:]
    assert column.dtype == np.float32 and column.shape == (2, 32)
    array = hftransfer.embed(str(tiny_bert), ["the soup", "a pan"], bf16=False, returns="array")
    np.testing.assert_array_equal(array, column)
    made = list((tmp_path / "home" / "hftransfer" / "vectors").glob("[!.]*"))
    assert len(made) == 1  # the second call found it
    with pytest.raises(HFTransferError, match=r"embed: poolin: unknown key; did you mean 'pooling'\?"):
        hftransfer.embed(str(tiny_bert), ["the soup"], poolin="mean")
    with pytest.raises(HFTransferError, match="returns: there is no 'arrays'; did you mean 'array'"):
        hftransfer.embed(str(tiny_bert), ["the soup"], returns="arrays")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [3]}, r"layers: there is no layer 3; 0 is what the first one sees, 2 or -1"),
        ({"truncate_dim": 33}, r"truncate_dim: tiny_bert has vectors of 32 numbers, fewer than 33"),
        ({"max_length": 65}, r"max_length: .*64"),
        ({"columns": ["labl"]}, r"columns: .* has no column 'labl'; did you mean 'label'\?"),
        ({"pooling": "men"}, r"embed: pooling: there is no 'men'; did you mean 'mean'\?"),
    ],
)
def test_mistakes_are_told_in_a_line(tiny_bert, reviews, tmp_path, options, message):
    with pytest.raises(HFTransferError, match=message) as error:
        vectors(tiny_bert, reviews("source", 6), tmp_path / "out", **options)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_data_and_checkpoints_that_do_not_fit(tiny_bert, tmp_path):
    with pytest.raises(HFTransferError, match="no row that can be embedded"):
        vectors(tiny_bert, Dataset.from_dict({"text": [" ", ""]}), tmp_path / "b")
    with pytest.raises(HFTransferError, match="prompt: eyes reads images"):
        vectors(eyes(tmp_path / "eyes"), "demo/digits", tmp_path / "c", prompt="a ")
    network = BertModel.from_pretrained(tiny_bert)
    reader = AutoTokenizer.from_pretrained(tiny_bert)
    network.embeddings.word_embeddings.weight.data[reader.convert_tokens_to_ids("oven")] = torch.nan
    network.save_pretrained(tmp_path / "broken")
    reader.save_pretrained(tmp_path / "broken")
    data = Dataset.from_dict({"text": ["soup", "pan", " ", "soup pan", "pan oven"]})
    with pytest.raises(HFTransferError, match=r"broken gives numbers that are not finite for 1 rows \(row 5\)"):
        vectors(tmp_path / "broken", data, tmp_path / "d", rows_per_shard=2)
    with pytest.raises(HFTransferError, match=r"vectors: .* holds none; give a folder that `embed` left"):
        open_vectors(tmp_path)
    found = vectors(tiny_bert, Dataset.from_dict({"text": texts(3)}), tmp_path / "e")
    file = found.folder / "embeddings-00000.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(HFTransferError, match="is not whole; remove the folder and run embed again"):
        open_vectors(found.folder).array()
    with pytest.raises(HFTransferError, match="holds vectors, which `cluster` reads"):
        vectors(tiny_bert, str(found.folder), tmp_path / "f")


WORKER = """
import sys
from hftransfer.stages.embed import embed
embed(sys.argv[1], sys.argv[2], output_dir=sys.argv[3], bf16=False, rows_per_shard=11, tokens_per_batch=32)
"""


def test_two_processes_make_the_same(tiny_bert, reviews, tmp_path):
    data = reviews("source", 30)
    alone = vectors(tiny_bert, data, tmp_path / "one", rows_per_shard=11, tokens_per_batch=32)
    (tmp_path / "worker.py").write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    arguments = ["worker.py", str(tiny_bert), data, str(tmp_path / "two")]
    ran = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    np.testing.assert_array_equal(open_vectors(tmp_path / "two").array(), alone.array())


def test_equals_sentence_transformers():
    peer = pytest.importorskip("sentence_transformers")
    data = [*texts(40), "a longer text " * 100, "x"]
    found = Embedder(settled(MINILM), bf16=False).texts(data)
    theirs = peer.SentenceTransformer(str(models.resolve(MINILM).folder), device="cpu").encode(data)
    assert (found * theirs).sum(axis=1).min() > 0.99999
