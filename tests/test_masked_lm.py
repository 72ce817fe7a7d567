"""Projecting masked positions only: same loss, same gradients, for every head that works per position."""

import logging

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from hftransfer import models
from hftransfer.errors import HFTransferError
from hftransfer.trainers.masked_lm import MaskedPositions, check_packing, masked_nats

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def build(name):
    torch.manual_seed(0)
    if name == "distilbert":
        still = {"dropout": 0.0, "attention_dropout": 0.0}
        return DistilBertForMaskedLM(
            DistilBertConfig(vocab_size=60, dim=16, hidden_dim=32, n_layers=2, n_heads=2, **still)
        )
    if name == "modernbert":
        ids = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
        return ModernBertForMaskedLM(ModernBertConfig(vocab_size=60, **SIZES, **ids))
    cls, config = {
        "bert": (BertForMaskedLM, BertConfig),
        "roberta": (RobertaForMaskedLM, RobertaConfig),
        "electra": (ElectraForMaskedLM, ElectraConfig),
    }[name]
    return cls(config(vocab_size=60, **SIZES, **STILL))


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 60, (4, 10), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 6:] = 0
    labels = torch.where((torch.rand(4, 10, generator=generator) < 0.3) & mask.bool(), ids, -100)
    return {"input_ids": ids, "attention_mask": mask}, labels


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "electra", "modernbert"])
def test_loss_and_gradients_are_the_stock_models(name):
    model = build(name).train()
    inputs, labels = batch()
    stock = model(**inputs, labels=labels).loss
    stock.backward()
    expected = {key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    positions = MaskedPositions(model)
    assert positions.sparse
    where = labels != -100
    logits = positions.logits(model, inputs, where)
    assert logits.shape == (int(where.sum()), 60)
    ours = torch.nn.functional.cross_entropy(logits, labels[where])
    ours.backward()
    torch.testing.assert_close(ours, stock)
    found = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
    assert set(found) == set(expected)
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


def test_each_rows_cost_is_what_the_whole_projection_says():
    model = build("bert").eval()
    batches = [batch(0), batch(1)]
    given = [{**inputs, "labels": labels} for inputs, labels in batches]
    found = masked_nats(MaskedPositions(model), given)
    with torch.no_grad():
        dense = [
            torch.nn.functional.cross_entropy(model(**inputs).logits.transpose(1, 2), labels, reduction="none").sum(1)
            for inputs, labels in batches
        ]
    torch.testing.assert_close(found[:, 0], torch.cat(dense))
    assert found[:, 1].tolist() == [int((row != -100).sum()) for _, labels in batches for row in labels]


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "electra"])
def test_packed_documents_are_kept_apart(name):
    model = build(name)
    check_packing(model, models.first_position(model))


def test_a_model_that_would_leak_between_packed_documents_is_refused():
    with pytest.raises(HFTransferError, match="ModernBertForMaskedLM does not keep packed documents apart"):
        check_packing(build("modernbert"), 0)


def test_the_head_is_fitted_before_anything_is_called_before(tiny_bert, reviews, tmp_path):
    import hftransfer

    still = {"max_steps": 1, "learning_rate": 0.0, "per_device_train_batch_size": 8, "bf16": False}
    result = hftransfer.pretrain(
        str(tiny_bert), reviews("source"), head_steps=20, training=still, max_length=16, output_dir=str(tmp_path / "o")
    )
    before, after = models.load(str(tiny_bert), "encoder"), models.load(str(result.path), "encoder")
    for name, value in before.state_dict().items():
        assert torch.equal(value, after.state_dict()[name]), name  # the pooler too
    first, *_, last = [loss for _, loss in result.evidence["curves"][0]["points"]]
    assert last <= first
    assert result.metrics["loss.before"] == pytest.approx(result.metrics["loss.after"], rel=1e-6)
