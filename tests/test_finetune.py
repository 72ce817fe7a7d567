"""`finetune`: every method on every kind of network, every task, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    ViTConfig,
    ViTModel,
)

import hftransfer
from hftransfer import models, scratch, tasks, tuning
from hftransfer.functional.few_labels import linear_model

QUICK = {"max_steps": 3, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "bf16": False}
NAMES = ["calm", "loud"]


@pytest.fixture(scope="session")
def made(tmp_path_factory, word_tokenizer, tiny_bert):
    """Folders of tiny networks by name."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    gpt = GPT2Config(
        n_layer=2, n_embd=16, n_head=2, n_positions=64, vocab_size=len(word_tokenizer), eos_token_id=3, bos_token_id=3
    )
    GPT2LMHeadModel(gpt).save_pretrained(folder / "gpt")
    PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer.backend_tokenizer, eos_token="[SEP]", unk_token="[UNK]"
    ).save_pretrained(folder / "gpt")
    vit = ViTConfig(
        image_size=16, patch_size=4, num_channels=1, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    ViTModel(vit, add_pooling_layer=False).save_pretrained(folder / "vit")
    scratch.image_processor(vit).save_pretrained(folder / "vit")
    roberta = RobertaConfig(
        vocab_size=len(word_tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=70, pad_token_id=0,
    )  # fmt: skip
    RobertaModel(roberta).save_pretrained(folder / "roberta")
    word_tokenizer.save_pretrained(folder / "roberta")
    return {"bert": tiny_bert, **{name: folder / name for name in ("gpt", "vit", "roberta")}}


@pytest.fixture
def data(reviews, pictures):
    """Labelled data for each network."""
    texts = reviews("source", 60)
    return {"bert": texts, "gpt": texts, "roberta": texts, "vit": pictures}


def finetune(model, data, folder, **options):
    given = {"training": QUICK, "max_length": 16, "seed": 1, "output_dir": str(folder), **options}
    return hftransfer.finetune(str(model), data, **given)


def opened(folder, kind):
    cls = AutoModelForImageClassification if kind == "vit" else AutoModelForSequenceClassification
    return cls.from_pretrained(folder).eval()


def read(model, data, network=None):
    """The test rows and the task, as the stage has them."""
    task, parts = tasks.read(data, str(model), key="data", seed=1)
    return task, {name: task.inputs(part, str(model), key="data", max_length=16) for name, part in parts.items()}


def accuracy(network, model, data):
    task, rows = read(model, data)
    return task.score(task.predict(network, rows["test"]), rows["test"].labels)["accuracy"]


def changed(folder, model, kind):
    """Names of parameters that differ from the checkpoint's, those it lacks included."""
    job = "image_classification" if kind == "vit" else "text_classification"
    before = dict(models.load(str(model), job, num_labels=2).named_parameters())
    after = dict(opened(folder, kind).named_parameters())
    return {name for name, value in after.items() if not torch.equal(value, before[name])}, set(after)


METHODS = {
    "full": {},
    "frozen": {},
    "frozen torch": {"head": "torch"},
    "partial": {"trainable": 1},
    "linear_then_full": {},
    "lora": {"lora": {"r": 2}},
    "few_shot": {},
    "scratch": {},
}


@pytest.mark.parametrize("kind", ["bert", "gpt", "vit"])
@pytest.mark.parametrize("way", METHODS)
def test_every_method_changes_what_it_should_and_the_folder_is_an_ordinary_checkpoint(way, kind, made, data, tmp_path):
    result = finetune(made[kind], data[kind], tmp_path / "out", method=way.split()[0], **METHODS[way])
    network = opened(result.path, kind)
    assert result.metrics["accuracy"] == accuracy(network, made[kind], data[kind])
    assert [network.config.id2label[k] for k in range(2)] == (["bright", "dark"] if kind == "vit" else NAMES)
    moved, names = changed(result.path, made[kind], kind)
    head = {name for name in names if name.startswith(("classifier", "score"))}
    blocks = {
        name
        for name, value in network.named_parameters()
        if any(value is p for p in tuning.blocks(network).parameters())
    }
    last = {
        name
        for name, value in network.named_parameters()
        if any(value is p for p in tuning.blocks(network)[-1].parameters())
    }
    assert head & moved
    if way in ("frozen", "frozen torch"):
        assert moved == head and result.metrics["trainable"] < result.metrics["parameters"] / 10
    if way == "partial":
        assert (
            blocks & moved <= last
            and last & moved
            and not [name for name in moved if "embed" in name or "wte" in name]
        )
    if way == "lora":
        assert moved - head <= blocks and all(".weight" in name for name in moved & blocks) and blocks & moved
    if way == "scratch":
        assert {
            name for name in names if "weight" in name and ("dense" in name or "attn.c" in name or "embed" in name)
        } <= moved


def test_a_frozen_head_is_scikit_learn_s_on_the_features(made, data, tmp_path):
    result = finetune(made["bert"], data["bert"], tmp_path / "out", method="frozen")
    network = opened(result.path, "bert")
    _, rows = read(made["bert"], data["bert"])
    batch = rows["train"].batch(rows["train"].rows)
    with torch.no_grad():
        seen, logits = models.classify(network, batch)
    expected = linear_model(seen.numpy(), rows["train"].labels, "single_label_classification")
    np.testing.assert_allclose(logits.numpy(), seen.numpy() @ expected.weight.T + expected.bias, atol=2e-3)
    assert (tmp_path / ".features").is_dir()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT reads it
@pytest.mark.parametrize(
    "kind, merge, lora",
    [
        ("bert", True, {"r": 2}),
        ("gpt", True, {"r": 2, "use_rslora": True}),
        ("vit", True, {"r": 2, "use_dora": True}),
        ("bert", False, {"r": 2, "init_lora_weights": "pissa"}),
        ("bert", True, {"r": 2, "init_lora_weights": "eva"}),
        ("bert", False, {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 2}),
    ],
)
def test_an_adapter_reloads_on_its_base_to_the_same_logits(kind, merge, lora, made, data, tmp_path):
    result = finetune(made[kind], data[kind], tmp_path / "out", method="lora", lora=lora, merge=merge)
    base = models.ready(opened_new(made[kind], kind))
    reloaded = PeftModel.from_pretrained(base, result.path / "adapter" if merge else result.path).eval()
    assert result.metrics["accuracy"] == accuracy(reloaded, made[kind], data[kind])
    if not merge:
        assert not (result.path / "model.safetensors").exists()
        return
    _, rows = read(made[kind], data[kind])
    batch = rows["test"].batch(rows["test"].rows)
    with torch.no_grad():
        whole = opened(result.path, kind)(**batch).logits
        torch.testing.assert_close(reloaded(**batch).logits, whole, atol=1e-5, rtol=1e-4)


def opened_new(model, kind):
    cls = AutoModelForImageClassification if kind == "vit" else AutoModelForSequenceClassification
    return cls.from_pretrained(model, num_labels=2)


@pytest.mark.parametrize("method", ["frozen", "linear_then_full", "few_shot"])
def test_a_head_of_several_layers(method, made, data, tmp_path):
    """RoBERTa's head has a dense layer: only gradients can train it, if pairs have not."""
    result = finetune(made["roberta"], data["roberta"], tmp_path / "out", method=method)
    told = [note for note in result.evidence["notes"] if "by gradients" in note]
    assert bool(told) == (method != "few_shot")
    if method == "frozen":
        moved, names = changed(result.path, made["roberta"], "roberta")
        assert moved == {name for name in names if name.startswith("classifier.")}


def test_a_head_before_other_phases_learns_at_its_own_rate(made, data, tmp_path):
    """The small rate is for what is pretrained."""
    training = {**QUICK, "learning_rate": 1e-12, "max_steps": 30}
    result = finetune(made["roberta"], data["roberta"], tmp_path / "out", method="linear_then_full", training=training)
    start = dict(models.load(str(made["roberta"]), "text_classification", num_labels=2).named_parameters())
    for name, value in opened(result.path, "roberta").named_parameters():
        if not name.startswith("classifier."):
            torch.testing.assert_close(value, start[name], atol=1e-6, rtol=0)
    points = result.evidence["curves"][0]["points"]
    assert points[-1][1] < points[0][1]


@pytest.mark.parametrize("kind", ["bert", "gpt", "vit"])
def test_a_cut_changes_no_weight(kind, made, data, tmp_path, monkeypatch):
    folder = still(made[kind], tmp_path / "still")
    options = {"method": "partial", "trainable": 1}
    cut = finetune(folder, data[kind], tmp_path / "cut", **options)
    monkeypatch.setattr("hftransfer.cut.Cut._tried", lambda self, _: setattr(self, "possible", False) or {})
    whole = finetune(folder, data[kind], tmp_path / "whole", **options)
    assert any("ran at every step" in note for note in whole.evidence["notes"])
    assert not any("ran at every step" in note for note in cut.evidence["notes"])
    weights = load_file(whole.path / "model.safetensors")
    for name, value in load_file(cut.path / "model.safetensors").items():
        torch.testing.assert_close(value, weights[name], atol=2e-5, rtol=1e-3)


def still(model, folder):
    """The same checkpoint without dropout."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {name: 0.0 for name in config if "dropout" in name or "pdrop" in name}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_parts_by_name(made, data, tmp_path):
    names = ["layer.0.attention", "pooler"]
    result = finetune(made["bert"], data["bert"], tmp_path / "out", method="partial", trainable=names)
    moved, names = changed(result.path, made["bert"], "bert")
    wanted = {n for n in names if n.startswith(("bert.encoder.layer.0.attention", "bert.pooler", "classifier"))}
    assert moved <= wanted and {name.split(".")[1] for name in moved} == {"encoder", "pooler", "weight", "bias"}
    embeddings = finetune(made["bert"], data["bert"], tmp_path / "low", method="partial", trainable=["embeddings"])
    assert not any("ran at every step" in note for note in embeddings.evidence["notes"])
    moved, _ = changed(embeddings.path, made["bert"], "bert")
    assert "bert.embeddings.word_embeddings.weight" in moved and not [n for n in moved if "encoder" in n]
