"""Checkpoints from anywhere, and features that do not depend on padding."""

import json
import logging

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2Model,
    RobertaConfig,
    RobertaForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from hftransfer import models, runs
from hftransfer.errors import HFTransferError

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(autouse=True)
def nothing_located_yet():
    models.located.cache_clear()
    yield
    models.located.cache_clear()


def gpt2(**options):
    return GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32, pad_token_id=0, **options)


def padded(side: str):
    """One text of four tokens alone, and the same with three padding tokens beside it."""
    ids = torch.tensor([[5, 6, 7, 8]])
    padding = torch.zeros(1, 3, dtype=torch.long)
    parts = [ids, padding] if side == "right" else [padding, ids]
    mask = [torch.ones_like(ids), padding] if side == "right" else [padding, torch.ones_like(ids)]
    alone = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return alone, {"input_ids": torch.cat(parts, 1), "attention_mask": torch.cat(mask, 1)}


def test_features_of_an_encoder_and_a_decoder_do_not_depend_on_padding(tiny_bert):
    encoder = models.load(str(tiny_bert), "encoder").eval()
    decoder = GPT2Model(gpt2()).eval()
    for backbone, how in ((encoder, "mean"), (decoder, "last")):
        assert models.pooling(backbone.config) == how
        alone, beside = padded("right")
        with torch.no_grad():
            torch.testing.assert_close(models.features(backbone, alone), models.features(backbone, beside))


def test_the_last_real_token_is_found_on_either_side():
    states = torch.arange(14.0).reshape(1, 7, 2)
    for side in ("left", "right"):
        alone, beside = padded(side)
        expected = states[:, 6] if side == "left" else states[:, 3]
        torch.testing.assert_close(models.pool(states, beside["attention_mask"], "last"), expected)
        assert len(alone["input_ids"]) == 1


def test_a_vit_gives_its_class_token():
    vit = ViTModel(ViTConfig(image_size=8, patch_size=4, **SMALL)).eval()
    images = {"pixel_values": torch.rand(2, 3, 8, 8)}
    with torch.no_grad():
        torch.testing.assert_close(models.features(vit, images), vit(**images).last_hidden_state[:, 0])


@pytest.mark.parametrize(
    "model",
    [
        RobertaForSequenceClassification(RobertaConfig(vocab_size=50, num_labels=3, pad_token_id=1, **SMALL)),
        DistilBertForSequenceClassification(
            DistilBertConfig(vocab_size=50, dim=16, hidden_dim=32, n_layers=2, n_heads=2, num_labels=3)
        ),
        GPT2ForSequenceClassification(gpt2(num_labels=3)),
        ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, num_labels=3, **SMALL)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_what_the_last_layer_saw_gives_the_logits(model):
    model.eval()
    text = {"input_ids": torch.tensor([[5, 6, 7, 8], [9, 8, 7, 6]])}
    text["attention_mask"] = torch.ones_like(text["input_ids"])
    inputs = {"pixel_values": torch.rand(2, 3, 8, 8)} if "ViT" in type(model).__name__ else text
    with torch.no_grad():
        features, logits = models.classify(model, inputs)
        torch.testing.assert_close(models.last_linear(model)(features), logits)
        torch.testing.assert_close(model(**inputs).logits, logits)


def test_a_masked_language_model_keeps_the_pooler(tiny_bert, tmp_path):
    network, new = models.load_reported(str(tiny_bert), "masked_lm")
    assert any("predictions" in name for name in new)
    models.save(network, tmp_path / "mlm")
    assert isinstance(models.reopen(tmp_path / "mlm"), BertForMaskedLM)
    _, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "mlm", output_loading_info=True)
    assert {name.split(".")[0] for name in report["missing_keys"]} == {"classifier"}


def test_new_weights_are_told_in_one_line(tiny_bert, caplog):
    with caplog.at_level(logging.INFO, logger="hftransfer"):
        models.load(str(tiny_bert), "text_classification", num_labels=2)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["model tiny_bert as BertForSequenceClassification: new weights: classifier"]


def test_a_head_of_another_size_is_made_new_and_told(tiny_bert, tmp_path, caplog):
    three = models.load(str(tiny_bert), "text_classification", num_labels=3)
    models.save(three, tmp_path / "three")
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="hftransfer"):
        two, new = models.load_reported(str(tmp_path / "three"), "text_classification", num_labels=2)
    assert new == ["classifier.bias", "classifier.weight"]
    assert two.classifier.weight.shape == (2, 32)
    torch.testing.assert_close(two.base_model.state_dict(), three.base_model.state_dict())
    (line,) = [record.getMessage() for record in caplog.records]
    named = "new weights: classifier (of another size in the checkpoint)"
    assert line == f"model three as BertForSequenceClassification: {named}"


def test_a_regression_or_multi_label_checkpoint_becomes_a_classifier(tiny_bert, tmp_path):
    models.save(models.load(str(tiny_bert), "text_classification", num_labels=1), tmp_path / "score")
    config = json.loads((tmp_path / "score/config.json").read_text())
    (tmp_path / "score/config.json").write_text(json.dumps({**config, "problem_type": "regression"}))
    network = models.load(str(tmp_path / "score"), "text_classification", num_labels=2)
    outputs = network(input_ids=torch.tensor([[2, 5, 3]]), labels=torch.tensor([1]))
    torch.testing.assert_close(outputs.loss, torch.nn.functional.cross_entropy(outputs.logits, torch.tensor([1])))


@pytest.mark.parametrize("labels", [{"num_labels": 2}, {}], ids=["new labels", "its own"])
@pytest.mark.parametrize("field, part", [("intermediate_size", "bert.encoder"), ("num_labels", "classifier")])
def test_weights_that_contradict_the_config_are_refused(tiny_bert, tmp_path, field, part, labels):
    models.save(models.load(str(tiny_bert), "text_classification", num_labels=4), tmp_path / "mixed")
    config = json.loads((tmp_path / "mixed/config.json").read_text())
    other = {"num_labels": 8, "id2label": {}, "label2id": {}} if field == "num_labels" else {field: 8}
    (tmp_path / "mixed/config.json").write_text(json.dumps({**config, **other}))
    if field == "num_labels" and labels:
        assert models.load(str(tmp_path / "mixed"), "text_classification", **labels).config.num_labels == 2
        return
    with pytest.raises(HFTransferError, match=rf"model: mixed: {part}\S* is \(\S.*\) in its weights and \(8.* by its"):
        models.load(str(tmp_path / "mixed"), "text_classification", **labels)


def test_masked_language_modelling_needs_a_mask_token(tiny_bert, word_tokenizer, tmp_path):
    models.save(models.load(str(tiny_bert), "masked_lm"), tmp_path / "maskless")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    (tmp_path / "maskless/tokenizer_config.json").write_text(json.dumps(config))
    word_tokenizer.backend_tokenizer.save(str(tmp_path / "maskless/tokenizer.json"))
    assert models.check(str(tmp_path / "maskless"), "text_classification") == "BertForSequenceClassification"
    with pytest.raises(HFTransferError, match=r"model: maskless: its tokenizer has no mask_token, .*masked_lm_weight"):
        models.check(str(tmp_path / "maskless"), "masked_lm")


def test_a_hub_id_is_taken_from_the_cache_before_a_carried_copy(tiny_bert, tmp_path, monkeypatch):
    name = "sentence-transformers/all-MiniLM-L6-v2"
    assert models.resolve(name).origin == "copy carried by a package"
    models.located.cache_clear()
    snapshot = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs/main").write_text("0" * 40)
    for path in tiny_bert.iterdir():
        (snapshot / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    found = models.resolve(name)
    assert (found.origin, found.folder) == ("local Hub cache", snapshot)


def test_a_carried_copy_with_other_weights_is_refused(monkeypatch):
    name = "sentence-transformers/all-MiniLM-L6-v2"
    monkeypatch.setitem(models.CARRIED, name, models.CARRIED[name]._replace(sha256="0" * 64))
    with pytest.raises(HFTransferError, match="carries other weights"):
        models.resolve(name)


def test_a_classifier_is_recognised_by_its_labels(tiny_bert, tmp_path):
    labels = {"num_labels": 2, "id2label": {0: "calm", 1: "loud"}, "label2id": {"calm": 0, "loud": 1}}
    network = models.load(str(tiny_bert), "text_classification", **labels)
    models.save(network, tmp_path / "classifier")
    assert models.classifies(str(tmp_path / "classifier"), ["calm", "loud"])
    assert not models.classifies(str(tmp_path / "classifier"), ["loud", "calm"])
    assert not models.classifies(str(tiny_bert), ["calm", "loud"])


def test_identity_follows_the_weights_not_the_place(tiny_bert, tmp_path):
    network = models.load(str(tiny_bert), "encoder")
    models.save(network, tmp_path / "a")
    models.save(network, tmp_path / "b")
    assert models.identity(str(tmp_path / "a")) == models.identity(str(tmp_path / "b"))
    with torch.no_grad():
        next(network.parameters())[0, 0] += 1
    models.save(network, tmp_path / "b")
    assert models.identity(str(tmp_path / "a")) != models.identity(str(tmp_path / "b"))


def test_a_saved_config_holds_no_local_path(tiny_bert, tmp_path):
    network = models.load(str(tiny_bert), "text_classification", num_labels=2)
    models.save(network, tmp_path / "saved", models.tokenizer(str(tiny_bert)))
    for path in (tmp_path / "saved").glob("*.json"):
        assert str(tiny_bert.parent) not in path.read_text()
    assert "num_hidden_layers" in json.loads((tmp_path / "saved/config.json").read_text())
    assert runs.read_json(tmp_path / "saved/config.json")["architectures"] == ["BertForSequenceClassification"]
