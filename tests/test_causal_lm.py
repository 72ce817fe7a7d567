"""Next tokens: transformers' own loss and gradients, packed or not, at the price of what has a label."""

import functools
import logging
import math

import pytest
import torch
import transformers
from datasets import Dataset
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import BertConfig, BertLMHeadModel, GPT2Config, GPT2LMHeadModel

import hftransfer
from hftransfer import models
from hftransfer.errors import HFTransferError
from hftransfer.lstm import LSTMConfig, LSTMForCausalLM
from hftransfer.objectives.causal_lm import CausalLM
from hftransfer.objectives.next_tokens import NextTokens
from hftransfer.scratch import learn_tokenizer

TEXTS = ["a quiet oven", "the knife and the soup, the pan and the spade. " * 3, "tree", "one leaf in the soil", "loud"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
STILL = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, **STILL}


@pytest.fixture(scope="module")
def reader():
    return learn_tokenizer(TEXTS, 270, masked=False, max_length=64)


def build(name, reader, **more):
    torch.manual_seed(0)
    tokens = {"vocab_size": len(reader), "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    made = {
        "GPT2": lambda: GPT2LMHeadModel(GPT2Config(**{**GPT2, **tokens, **more})),
        "LSTM": lambda: LSTMForCausalLM(LSTMConfig(hidden_size=16, dropout=0.0, **tokens, **more)),
        "Bert": lambda: BertLMHeadModel(BertConfig(is_decoder=True, **SIZES, **tokens, **more)),
    }
    if name in made:
        model = made[name]()
    else:
        heads = {"num_key_value_heads": 2} if name.startswith("Qwen") else {}
        config = getattr(transformers, f"{name}Config")(**{**SIZES, **tokens, **heads, **more})
        model = getattr(transformers, f"{name}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and position tables too, which are born 0 or small
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def objective(model, reader, **settings):
    return CausalLM(model, reader, {**CausalLM.settings, "max_length": 48, **settings}, seed=0)


def rows_of(made):
    return made.rows(Dataset.from_dict({"text": TEXTS}), key="data")


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def stock(model, made):
    """Summed loss and gradients of transformers' own `labels=`, a document a row, no padding."""
    total, alone = 0.0, objective(model, made.reader, pack=False, max_length=made.options["max_length"])
    for row in rows_of(alone):
        ids = torch.tensor(row["input_ids"])[None]
        total = total + model(ids, attention_mask=torch.ones_like(ids), labels=ids).loss * (ids.shape[1] - 1)
    return total


PACKED = [("GPT2", True), ("Llama", True), ("GPTNeoX", True), ("Qwen2", True), ("LSTM", True)]


@pytest.mark.parametrize("name, pack", [*PACKED, ("GPT2", False), ("OPT", False), ("LSTM", False)])
def test_loss_and_gradients_are_transformers_own(name, reader, pack):
    model = build(name, reader).double()
    made = objective(model, reader, pack=pack)
    assert made.predictions.chunked
    batch = made.collator(fixed=True)(list(rows_of(made)))
    assert ("position_ids" in batch) is pack
    found = made.losses(model, batch)
    expected = stock(model, made)
    torch.testing.assert_close(found.sums.sum(), expected, rtol=1e-5, atol=0, check_dtype=False)
    assert found.counts.sum() == made.count(batch) == (batch["shift_labels"] != -100).sum()
    ours, theirs = (gradients(model, loss) for loss in (found.sums.sum(), expected))
    assert set(ours) == set(theirs) and len(ours) > 4
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["GPT2", "Llama", "LSTM"])
def test_a_documents_cost_does_not_depend_on_its_neighbour(name, reader):
    model = build(name, reader)
    made = objective(model, reader)
    row = next(row for row in rows_of(made) if max(row["segment_ids"]) > 0)
    first = row["segment_ids"].count(0)
    costs = []
    for shift in (0, 1):
        changed = [*row["input_ids"][:first], *((i + shift) % len(reader) for i in row["input_ids"][first:])]
        batch = made.collator(fixed=True)([{**row, "input_ids": changed}])
        labels = batch.pop("shift_labels")
        costs.append(made.predictions.nats(model, batch, labels)[0])
    torch.testing.assert_close(costs[0][:first], costs[1][:first], rtol=1e-6, atol=1e-7)
    assert not torch.allclose(costs[0][first:], costs[1][first:])


def test_only_places_with_a_label_are_projected(reader, monkeypatch):
    model = build("GPT2", reader)
    made = objective(model, reader, pack=False)
    seen = []
    real = hftransfer.objectives.next_tokens.chunked_cross_entropy
    monkeypatch.setattr(
        "hftransfer.objectives.next_tokens.chunked_cross_entropy",
        lambda states, *rest: seen.append(len(states)) or real(states, *rest),
    )
    batch = made.collator(fixed=True)(list(rows_of(made)))
    made.losses(model, batch)
    assert seen == [int(made.count(batch))] and seen[0] < batch["input_ids"].numel()
    assert "forward" not in vars(model.lm_head)  # put back
    assert model(batch["input_ids"]).logits.shape[-1] == len(reader)


@pytest.mark.parametrize("cap", [{"final_logit_softcapping": 5.0}, {}])
def test_logits_that_are_not_the_output_layers_are_made_whole(reader, caplog, cap):
    """Gemma 2 caps its logits; small ones look uncapped, so the trial must use large ones."""
    with caplog.at_level(logging.INFO, logger="hftransfer"):
        name = "Gemma2" if cap else "Scaled"
        if cap:
            model = build(name, reader, num_key_value_heads=1, head_dim=8, **cap)
        else:
            model = build("GPT2", reader)
            model.lm_head.register_forward_hook(lambda *given: given[-1] * 0.5)
        made = objective(model, reader, pack=False)
    assert not made.predictions.chunked
    assert [r.getMessage() for r in caplog.records if "all logits are made" in r.getMessage()]
    batch = made.collator(fixed=True)(list(rows_of(made)))
    torch.testing.assert_close(made.losses(model, batch).sums.sum(), stock(model, made), rtol=1e-5, atol=0)


def test_an_adapter_on_the_output_layer_is_heard(reader):
    """LoRA replaces the layer after the trial; its part must not be lost."""
    model = build("GPT2", reader)
    made = objective(model, reader, pack=False)

    class Adapted(nn.Linear):
        def forward(self, states):
            return super().forward(states) + 1.5 * states.sum(-1, keepdim=True) * torch.arange(self.out_features)

    adapted = Adapted(16, len(reader), bias=False)
    adapted.weight = model.lm_head.weight
    model.lm_head = adapted
    batch = made.collator(fixed=True)(list(rows_of(made)))
    torch.testing.assert_close(made.losses(model, batch).sums.sum(), stock(model, made), rtol=1e-5, atol=0)


def test_gradient_checkpointing_changes_nothing(reader):
    model = build("GPT2", reader).train()
    made = objective(model, reader)
    batch = made.collator(fixed=True)(list(rows_of(made)))
    expected = gradients(model, made.losses(model, batch).sums.sum())
    runs = []
    model.transformer.h[0].mlp.register_forward_pre_hook(lambda *_: runs.append(1))
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = True
            module._gradient_checkpointing_func = functools.partial(checkpoint, use_reentrant=False)
    found = gradients(model, made.losses(model, batch).sums.sum())
    assert len(runs) == 2  # the block did run again
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6)


def test_under_autocast_the_loss_stays_in_float32(reader):
    model = build("GPT2", reader)
    made = objective(model, reader)
    batch = made.collator(fixed=True)(list(rows_of(made)))
    exact = made.losses(model, batch).sums
    with torch.autocast("cpu", torch.bfloat16):
        found = made.losses(model, batch).sums
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=2e-2, atol=0)


@pytest.mark.parametrize("name", ["Bloom", "OPT"])
def test_networks_that_leak_between_packed_documents_are_refused(name, reader):
    """Bloom has no positions to restart; OPT restarts them, and makes its mask without a look at them."""
    model = build(name, reader, **({"n_layer": 2, "n_head": 2} if name == "Bloom" else {}))
    with pytest.raises(HFTransferError, match=rf"^pack: {name}ForCausalLM does not keep packed documents apart; set"):
        objective(model, reader)
    assert objective(model, reader, pack=False).predictions.chunked


def test_an_encoder_is_refused(reader):
    with pytest.raises(HFTransferError, match=r"^model: bert is an encoder.*choose one .*masked_lm"):
        CausalLM.check(BertConfig(), reader, CausalLM.settings)
    with pytest.raises(HFTransferError, match=r"^model: t5 is an encoder"):
        CausalLM.check(transformers.T5Config(), reader, CausalLM.settings)
    for config in (BertConfig(is_decoder=True), GPT2Config(), LSTMConfig(), transformers.LlamaConfig()):
        CausalLM.check(config, reader, CausalLM.settings)
    sees_both = build("Bert", reader)
    for layer in sees_both.bert.encoder.layer:
        layer.attention.self.is_causal = False
    sees_both.config.is_decoder = sees_both.bert.config.is_decoder = False
    with pytest.raises(HFTransferError, match="BertLMHeadModel sees the tokens that causal_lm lets it tell"):
        objective(sees_both, reader, pack=False)


def test_a_row_longer_than_the_positions_is_refused(reader):
    with pytest.raises(HFTransferError, match=r"^max_length: 65 tokens are more than the 64 positions"):
        CausalLM.check(GPT2Config(**GPT2), reader, {**CausalLM.settings, "max_length": 65})
    with pytest.raises(HFTransferError, match=r"^max_length: a row needs"):
        CausalLM.check(GPT2Config(**GPT2), reader, {**CausalLM.settings, "max_length": [1, 32]})
    CausalLM.check(LSTMConfig(), reader, {**CausalLM.settings, "max_length": 100_000})


def test_a_corpus_of_nothing_is_named(reader):
    made = objective(build("GPT2", reader), reader)
    with pytest.raises(HFTransferError, match=r"^general: no text has a token"):
        made.rows(Dataset.from_dict({"text": [""]}), key="general")


def test_bits_per_byte_of_a_uniform_network(reader):
    """log2 V bits for each token and each end, over the texts' bytes, packed or not."""
    model = build("GPT2", reader)
    with torch.no_grad():
        model.transformer.wte.weight.zero_()  # tied: every logit is 0
    tokens = sum(len(reader(text)["input_ids"]) + 1 for text in TEXTS)
    num_bytes = sum(len(text.encode()) for text in TEXTS)
    for pack in (True, False):
        made = objective(model, reader, pack=pack)
        rows = rows_of(made)
        found = made.losses(model, made.collator(fixed=True)(list(rows)))
        mean = float(found.sums.detach().sum() / found.counts.sum())
        assert mean == pytest.approx(math.log(len(reader)), rel=1e-5)
        measures = made.measures(mean, rows)
        assert measures["perplexity"] == pytest.approx(len(reader), rel=1e-4)
        assert measures["bits_per_byte"] == pytest.approx(tokens * math.log2(len(reader)) / num_bytes, rel=1e-5)


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("name", ["GPT2", "LSTM"])
def test_what_is_shown_is_what_the_network_would_write(name, reader, pack):
    model = build(name, reader)
    made = objective(model, reader, pack=pack)
    rows = rows_of(made)
    before = made.show(rows)
    assert before == made.show(rows) and 0 < len(before) <= 4
    given = reader(before[0][0], return_tensors="pt")["input_ids"]
    given = torch.cat([torch.tensor([[reader.bos_token_id]]), given], dim=1)
    for _ in range(24):
        best = model(given).logits[:, -1].argmax(-1, keepdim=True)
        given = torch.cat([given, best], dim=1)
        if best.item() == reader.eos_token_id:
            break
    assert before[0][1] == reader.decode(given[0, 12:], skip_special_tokens=True).strip()
    told = made.picture(before, [(beginning, "new") for beginning, _ in before])["samples"]
    assert told["columns"] == ["held-out beginning", "written on before", "written on after"]
    assert told["rows"][0] == [*before[0], "new"]
    assert made.picture(None, before)["samples"]["rows"] == [list(pair) for pair in before]


def test_texts_shorter_than_a_beginning_are_continued_too(reader):
    made = objective(build("GPT2", reader, n_positions=8), reader, max_length=8)
    rows = made.rows(Dataset.from_dict({"text": ["a", "loud"]}), key="data")
    assert len(made.show(rows)) == len(rows)


def test_a_curriculum_cuts_rows_and_not_their_labels(reader):
    made = objective(build("GPT2", reader), reader, max_length=[8, 48])
    assert made.scheduled
    rows = list(rows_of(made))
    early = made.collator(fixed=False)([made.at(row, 0.0) for row in rows])
    assert early["input_ids"].shape[1] == 8 and early["shift_labels"][:, -1].eq(-100).all()
    late = made.collator(fixed=False)([made.at(row, 1.0) for row in rows])
    assert late["input_ids"].shape[1] == 48


SMALL = {"training": {"max_steps": 30, "per_device_train_batch_size": 8, "learning_rate": 1e-2}, "max_length": 32}


@pytest.mark.parametrize(
    "model, config",
    [
        ("scratch/gpt2", {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32, "vocab_size": 300}),
        ("scratch/lstm", {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 300}),
    ],
)
def test_it_learns_from_nothing_and_goes_on_from_what_it_learnt(reviews, tmp_path, model, config):
    given = {"objective": "causal_lm", **SMALL, "seed": 1}
    first = hftransfer.pretrain(model, reviews("source"), config=config, **given, output_dir=str(tmp_path / "first"))
    assert first.metrics["loss.after"] < first.metrics["loss.before"] - 0.3
    assert first.metrics["bits_per_byte.after"] < first.metrics["bits_per_byte.before"]
    again = hftransfer.pretrain(
        str(first.path),
        reviews("target"),
        general=reviews("source", name="general"),
        replay=0.2,
        **given,
        output_dir=str(tmp_path / "again"),
    )
    assert again.metrics["loss.after"] < again.metrics["loss.before"]
    assert type(models.reopen(again.path)).__name__ in ("GPT2LMHeadModel", "LSTMForCausalLM")


def test_whole_and_chunked_agree_on_a_network_of_many_tokens(reader):
    """Several chunks in one row, against one projection."""
    model = build("GPT2", reader, vocab_size=5000)
    predictions = NextTokens(model)
    ids = torch.randint(0, 5000, (2, 60), generator=torch.Generator().manual_seed(0))
    labels = ids.roll(-1, dims=1)
    found = predictions.nats(model, {"input_ids": ids}, labels)
    expected = cross_entropy(model(ids).logits.transpose(1, 2), labels, reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
