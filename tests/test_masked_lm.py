"""Projecting masked positions only: same loss, same gradients, for every head that works per position."""

import functools
import logging
import math

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, pre_tokenizers, processors, trainers
from tokenizers import models as tokenizer_models
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

import hftransfer
from hftransfer import data, models
from hftransfer.errors import HFTransferError
from hftransfer.objectives.masked_lm import MaskedLM
from hftransfer.objectives.masked_positions import MaskedPositions, check_packing

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SPECIAL_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
OWN = {  # what differs from `SIZES` and `STILL`
    "DistilBert": {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2, "dropout": 0.0, "attention_dropout": 0.0},
    "ModernBert": {**SIZES, **dict.fromkeys(SPECIAL_IDS, 0)},
    "Albert": {**SIZES, **STILL, "embedding_size": 8},
    "DebertaV2": {**SIZES, **STILL, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "ConvBert": {**SIZES, **STILL, "embedding_size": 16},
}
EARLY = {  # whether what follows the last attention works on each position by itself, in a module of its own
    "Bert": True,
    "Roberta": True,
    "XLMRoberta": True,
    "Electra": True,
    "DebertaV2": True,
    "DistilBert": False,
    "Albert": False,
    "ModernBert": False,
}


def build(name):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(vocab_size=60, **OWN.get(name, {**SIZES, **STILL}))
    model = getattr(transformers, f"{name}ForMaskedLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():  # biases too, which are born 0 and would hide a swapped position
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 60, (4, 10), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 6:] = 0
    labels = torch.where((torch.rand(4, 10, generator=generator) < 0.3) & mask.bool(), ids, -100)
    return {"input_ids": ids, "attention_mask": mask}, labels


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("name", EARLY)
def test_loss_and_gradients_are_the_stock_models(name):
    model = build(name).double().train()
    inputs, labels = batch()
    stock = model(**inputs, labels=labels).loss
    expected = gradients(model, stock)
    positions = MaskedPositions(model)
    assert positions.sparse and positions.early is EARLY[name]
    where = labels != -100
    logits = positions.logits(model, inputs, where)
    assert logits.shape == (int(where.sum()), 60)
    ours = cross_entropy(logits, labels[where])
    torch.testing.assert_close(ours, stock, rtol=1e-6, atol=0, check_dtype=False)  # ModernBERT rounds to float32
    found = gradients(model, ours)
    assert set(found) == set(expected) and len(found) > 10
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-7)


def test_the_last_block_is_spared_in_its_feed_forward():
    model = build("Bert")
    positions = MaskedPositions(model)
    seen = []
    for layer in model.bert.encoder.layer:
        layer.intermediate.register_forward_hook(lambda module, given, output: seen.append(tuple(given[0].shape)))
    inputs, labels = batch()
    positions.logits(model, inputs, labels != -100)
    assert seen == [(4, 10, 16), (1, int((labels != -100).sum()), 16)]


def test_gradient_checkpointing_runs_blocks_again_and_changes_nothing():
    model = build("Bert").train()
    inputs, labels = batch()
    where = labels != -100
    expected = gradients(model, model(**inputs, labels=labels).loss)
    positions = MaskedPositions(model)
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = True
            module._gradient_checkpointing_func = functools.partial(checkpoint, use_reentrant=False)
    runs = []
    model.bert.encoder.layer[-1].intermediate.register_forward_hook(lambda *_: runs.append(1))
    found = gradients(model, cross_entropy(positions.logits(model, inputs, where), labels[where]))
    assert len(runs) == 2  # the block did run again
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6)


def test_a_head_that_mixes_positions_is_projected_whole(caplog):
    class Mixing(BertForMaskedLM):
        def forward(self, **inputs):
            found = super().forward(**inputs)
            found.logits = found.logits - found.logits.mean(1, keepdim=True)
            return found

    torch.manual_seed(0)
    model = Mixing(BertConfig(vocab_size=60, **SIZES, **STILL)).eval()
    with caplog.at_level(logging.INFO, logger="hftransfer"):
        positions = MaskedPositions(model)
    assert not positions.sparse
    assert [record.getMessage() for record in caplog.records] == [
        "Mixing: its head is not per position; all positions are projected"
    ]
    inputs, labels = batch()
    where = labels != -100
    torch.testing.assert_close(positions.logits(model, inputs, where), model(**inputs).logits[where])


def test_a_last_block_that_mixes_positions_after_attention_is_run_whole():
    model = build("Bert").eval()
    feed_forward = model.bert.encoder.layer[-1].intermediate
    feed_forward.register_forward_hook(lambda module, given, output: output - output.mean(1, keepdim=True))
    positions = MaskedPositions(model)
    assert positions.sparse and not positions.early
    inputs, labels = batch()
    where = labels != -100
    torch.testing.assert_close(positions.logits(model, inputs, where), model(**inputs).logits[where])


def test_each_rows_cost_is_what_the_whole_projection_says():
    model = build("Bert").eval()
    batches = [batch(0), batch(1)]
    objective = MaskedLM(model, None, MaskedLM.settings, seed=0)
    parts = [objective.losses(model, {**inputs, "labels": labels}) for inputs, labels in batches]
    sums, counts = torch.cat([part.sums for part in parts]).detach(), torch.cat([part.counts for part in parts])
    with torch.no_grad():
        dense = [
            cross_entropy(model(**inputs).logits.transpose(1, 2), labels, reduction="none").sum(1)
            for inputs, labels in batches
        ]
    torch.testing.assert_close(sums, torch.cat(dense))
    assert counts.tolist() == [int((row != -100).sum()) for _, labels in batches for row in labels]


@pytest.mark.parametrize("name", ["Bert", "Roberta", "XLMRoberta", "DistilBert", "Electra", "Albert"])
def test_packed_documents_are_kept_apart(name):
    model = build(name)
    check_packing(model, models.first_position(model))


@pytest.mark.parametrize("name", ["ModernBert", "ConvBert", "DebertaV2"])
def test_a_model_that_would_leak_between_packed_documents_is_refused(name):
    """ModernBERT keeps short documents apart, but a mask of pairs replaces its window; ConvBERT convolves across."""
    with pytest.raises(HFTransferError, match=f"{name}ForMaskedLM does not keep packed documents apart"):
        check_packing(build(name), 0)


def test_a_model_that_ignores_positions_is_refused_for_packing():
    class Unplaced(BertForMaskedLM):
        def forward(self, position_ids=None, **inputs):
            return super().forward(**inputs)

    torch.manual_seed(0)
    with pytest.raises(HFTransferError, match="Unplaced does not keep packed documents apart"):
        check_packing(Unplaced(BertConfig(vocab_size=60, **SIZES, **STILL)), 0)


@pytest.mark.parametrize("name", ["Bert", "Roberta"])
def test_a_packed_documents_loss_does_not_depend_on_its_neighbours(name, word_tokenizer):
    model = build(name).eval()
    model.resize_token_embeddings(len(word_tokenizer))
    texts = ["the kitchen knife a soup", "garden tree soil", "oven pan very quiet gentle"]
    rows = data.encode_documents(texts, word_tokenizer, max_length=40, pack=True)
    assert len(rows) == 1 and set(rows[0]["segment_ids"]) == {0, 1, 2}
    first = models.first_position(model)
    masks = {"mask_rate": 0.5, "whole_word": False, "seed": 1, "fixed": True, "first_position": first}
    packed = data.MaskedTextCollator(word_tokenizer, **masks)([rows[0]])
    objective = MaskedLM(model, None, {**MaskedLM.settings, "pack": True}, seed=0)
    summed = objective.losses(model, packed).sums[0]
    segments, alone = np.array(rows[0]["segment_ids"]), []
    for segment in range(3):
        places = torch.from_numpy(np.flatnonzero(segments == segment))
        ids, labels = packed["input_ids"][:, places], packed["labels"][:, places]
        alone.append({"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids)})
    torch.testing.assert_close(summed, sum(objective.losses(model, part).sums.sum() for part in alone))


FROZEN = {"max_steps": 1, "learning_rate": 0.0, "per_device_train_batch_size": 8, "bf16": False}


def test_the_head_is_fitted_before_anything_is_called_before(tiny_bert, reviews, tmp_path):
    """The encoder's phase has a learning rate of 0 here, so what changes is changed by the head's."""
    given = {"training": FROZEN, "max_length": 16}
    fitted, raw = (
        hftransfer.pretrain(
            str(tiny_bert), reviews("source"), **given, head_steps=n, output_dir=str(tmp_path / str(n))
        )
        for n in (40, 0)
    )
    names = {f"{name}.{when}" for name in ("loss", "perplexity", "bits_per_byte") for when in ("before", "after")}
    assert set(fitted.metrics) >= names
    assert fitted.metrics["loss.before"] < raw.metrics["loss.before"] - 0.1  # measured after the head's phase
    assert fitted.metrics["loss.before"] == pytest.approx(fitted.metrics["loss.after"], rel=1e-6)
    assert fitted.metrics["perplexity.after"] == pytest.approx(math.exp(fitted.metrics["loss.after"]))
    before, after = models.load(str(tiny_bert), "encoder"), models.load(str(fitted.path), "encoder")
    assert any("pooler" in name for name in before.state_dict())
    for name, value in before.state_dict().items():
        assert torch.equal(value, after.state_dict()[name]), name


def test_only_the_classifier_is_new_after_pretraining(tiny_bert, reviews, tmp_path):
    training = {**FROZEN, "learning_rate": 1e-3, "max_steps": 3}
    result = hftransfer.pretrain(
        str(tiny_bert),
        reviews("source"),
        training=training,
        head_steps=1,
        max_length=16,
        output_dir=str(tmp_path / "o"),
    )
    network, new = models.load_reported(str(result.path), "text_classification")
    assert new == ["classifier.bias", "classifier.weight"]
    moved = models.load(str(tiny_bert), "encoder").state_dict()["encoder.layer.0.output.dense.weight"]
    assert not torch.equal(moved, network.bert.encoder.layer[0].output.dense.weight)


def _letters():
    """A tokenizer that reads letters, where `word_tokenizer` reads words."""
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    special["mask_token"] = "[MASK]"
    made = Tokenizer(tokenizer_models.WordPiece(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    letters = [" ".join("abcdefghijklmnopqrstuvwxyz"), "abcdefghijklmnopqrstuvwxyz", "zyxwvutsrqponmlkjihgfedcba"]
    made.train_from_iterator(letters, trainers.WordPieceTrainer(vocab_size=57, special_tokens=[*special.values()]))
    ends = [(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **special)


def test_bits_per_byte_of_a_uniform_model_under_two_tokenizers(word_tokenizer, reviews, tmp_path):
    """Uniform over V, a token costs log2 V bits, so a text costs tokens * log2 V over its bytes, however it is cut."""
    path, costs = reviews("source"), {}
    for name, tokenizer in (("words", word_tokenizer), ("letters", _letters())):
        model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **SIZES, **STILL))
        with torch.no_grad():
            model.bert.embeddings.word_embeddings.weight.zero_()  # tied: every logit is 0
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        result = hftransfer.pretrain(
            str(tmp_path / name),
            path,
            training=FROZEN,
            max_length=64,
            seed=3,
            output_dir=str(tmp_path / f"{name}-out"),
        )
        texts = data.unlabelled(path, key="data", seed=3)["test"]["text"]
        tokens = sum(len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"])
        num_bytes = sum(len(text.encode()) for text in texts)
        costs[name] = tokens * math.log2(len(tokenizer)) / num_bytes
        assert result.metrics["loss.before"] == pytest.approx(math.log(len(tokenizer)), rel=1e-5)
        assert result.metrics["bits_per_byte.before"] == pytest.approx(costs[name], rel=1e-5)
    assert costs["letters"] > 1.5 * costs["words"]
