"""What trains of a network, by number, by name and one after another."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
)

from hftransfer import tuning
from hftransfer.errors import HFTransferError
from hftransfer.lstm import LSTMConfig, LSTMModel

BLOCKS = 3


def network(kind):
    sizes = {"hidden_size": 8, "num_hidden_layers": BLOCKS, "num_attention_heads": 2, "intermediate_size": 8}
    if kind == "bert":
        return BertForSequenceClassification(BertConfig(vocab_size=20, **sizes))
    if kind == "distilbert":
        config = DistilBertConfig(vocab_size=20, dim=8, n_layers=BLOCKS, n_heads=2, hidden_dim=8)
        return DistilBertForSequenceClassification(config)
    if kind == "gpt":
        return GPT2ForSequenceClassification(GPT2Config(vocab_size=20, n_embd=8, n_layer=BLOCKS, n_head=2))
    return ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, num_channels=1, **sizes))


KINDS = ["bert", "distilbert", "gpt", "vit"]
ABOVE = {  # what comes after the blocks
    "bert": {"bert.pooler", "classifier"},
    "distilbert": {"pre_classifier", "classifier"},
    "gpt": {"transformer.ln_f", "score"},
    "vit": {"vit.layernorm", "classifier"},
}


def parts(names, kind):
    found = {name.rpartition(".")[0] for name in names}
    return {name.removesuffix(".dense") for name in found}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", range(BLOCKS + 1))
def test_a_number_reaches_so_many_blocks_and_all_above(kind, count):
    one = network(kind)
    reach = tuning.reach(one, count)
    assert reach.blocks == count
    stack = tuning.blocks(one)
    names = {id(value): name for name, value in one.named_parameters()}
    inside = [{names[id(p)] for p in block.parameters()} for block in stack]
    assert [bool(block & reach.names) for block in inside] == [n >= BLOCKS - count for n in range(BLOCKS)]
    assert all(block <= reach.names or not block & reach.names for block in inside)
    assert parts(reach.names - set().union(*inside), kind) == ABOVE[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_more_blocks_than_there_are(kind):
    with pytest.raises(HFTransferError, match=r"^trainable: \w+ has 3 blocks, not 4; lower it$"):
        tuning.reach(network(kind), BLOCKS + 1)


def test_a_network_without_blocks():
    with pytest.raises(HFTransferError, match="has no list of blocks"):
        tuning.reach(LSTMModel(LSTMConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1)), 1)


def test_names_are_whole_parts_and_end_where_they_should():
    bert = network("bert")
    reach = tuning.reach(bert, ["layer.1"])
    assert reach.blocks == 2 and all(".layer.1." in name for name in reach.names) and len(reach.names) == 16
    assert tuning.reach(bert, ["layer.*.output.LayerNorm"]).blocks == BLOCKS
    assert tuning.reach(bert, ["classifier"]).blocks == 0
    assert tuning.reach(bert, ["embeddings"]).blocks is None
    assert tuning.reach(bert, ["bert"]).names == {n for n, _ in bert.named_parameters() if n.startswith("bert.")}
    assert tuning.reach(bert, ["layer.2.output.dense.bias"]).names == {"bert.encoder.layer.2.output.dense.bias"}
    vit = network("vit")
    assert tuning.reach(vit, ["cls_token"]) == (None, {"vit.embeddings.cls_token"})
    with pytest.raises(HFTransferError, match="no part of BertForSequenceClassification is named 'poler'"):
        tuning.reach(bert, ["poler"])


def test_what_is_new_trains_wherever_it_is():
    bert = network("bert")
    low = "bert.encoder.layer.0.output.dense.weight"
    assert tuning.reach(bert, 1, [low]) == (BLOCKS, tuning.reach(bert, 1).names | {low})
    below = "bert.embeddings.word_embeddings.weight"
    assert tuning.reach(bert, 1, [below]).blocks is None
    assert tuning.reach(bert, ["classifier"], [low]) == (BLOCKS, {low, "classifier.weight", "classifier.bias"})


@pytest.mark.parametrize("kind", KINDS)
def test_groups_go_down_from_the_head_and_hold_each_parameter_once(kind):
    one = network(kind)
    names = {name for name, _ in one.named_parameters()}
    groups = tuning.descending(one, names)
    places = {id(value): name for name, value in one.named_parameters()}
    named = [[places[id(value)] for value in group] for group in groups]
    assert sorted(name for group in named for name in group) == sorted(names)
    assert len(groups) == BLOCKS + 2 and parts(named[0], kind) == ABOVE[kind]
    stack = tuning.blocks(one)
    for group, block in zip(groups[1:-1], reversed(list(stack)), strict=True):
        assert {id(value) for value in group} == {id(value) for value in block.parameters()}
    some = tuning.descending(one, tuning.reach(one, 1).names)
    assert len(some) == 2


def test_only_what_is_named_trains_and_all_is_as_it_was_afterwards():
    bert = network("bert")
    bert.classifier.bias.requires_grad = False
    seen = []

    def fails():
        with tuning.only(bert, {"classifier.weight", "classifier.bias"}):
            seen.extend(name for name, value in bert.named_parameters() if value.requires_grad)
            seen.append(tuning.trainable(bert.parameters()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert seen == ["classifier.weight", "classifier.bias", 2 * 8 + 2]
    assert [name for name, p in bert.named_parameters() if not p.requires_grad] == ["classifier.bias"]


def test_what_is_held_still_has_no_gradient():
    gpt = network("gpt")
    with tuning.only(gpt, tuning.reach(gpt, 1).names):
        gpt.config.pad_token_id = 0
        gpt(input_ids=torch.arange(1, 7).reshape(1, 6)).logits.sum().backward()
        moved = {name for name, value in gpt.named_parameters() if value.grad is not None}
    assert moved == tuning.reach(gpt, 1).names
