"""Causal text: every token is predicted once, and packed documents do not see each other."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from hftransfer.data.causal_text import CausalTextCollator, encode_causal, predicted
from hftransfer.errors import HFTransferError
from hftransfer.lstm import LSTMConfig, LSTMForCausalLM

TEXTS = [
    "the lazy dog",
    "words are predicted from the left side of the sentence only, without labels. " * 5,
    "unbelievable understatements",
    "  café 日本 zzz spaces   inside  ",
    "the quick brown fox jumps over the lazy dog",
    "fox",
]
PACKING = pytest.mark.parametrize("pack", [False, True])


@pytest.fixture(scope="module")
def ended(byte_tokenizer):
    """A byte-level tokenizer with an end and no beginning."""
    return _with(byte_tokenizer, eos_token="[SEP]", pad_token="[PAD]")


@pytest.fixture(scope="module")
def begun(byte_tokenizer):
    """The same with a beginning."""
    return _with(byte_tokenizer, bos_token="[CLS]", eos_token="[SEP]", pad_token="[PAD]")


def _with(tokenizer, **special):
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, model_max_length=64, **special)


def transitions(tokenizer, rows):
    """How often a next token follows a token, over all places that have a label."""
    batch = CausalTextCollator(tokenizer, max_length=64)(list(rows))
    where = batch["shift_labels"] != -100
    return Counter(zip(batch["input_ids"][where].tolist(), batch["shift_labels"][where].tolist(), strict=True))


@PACKING
@pytest.mark.parametrize("kind", ["ended", "begun"])
@pytest.mark.parametrize("max_length", [2, 7, 24, 64])
def test_every_token_is_predicted_once_from_the_one_before_it(request, kind, pack, max_length):
    tokenizer = request.getfixturevalue(kind)
    rows = encode_causal(TEXTS, tokenizer, max_length=max_length, pack=pack)
    begin = [tokenizer.bos_token_id] if kind == "begun" else []
    expected = Counter()
    for text in TEXTS:
        whole = [*begin, *tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        expected.update(pairwise(whole))
    assert transitions(tokenizer, rows) == expected
    assert predicted(rows) == expected.total()
    assert max(rows["length"]) <= max_length and rows["length"][:] == [len(ids) for ids in rows["input_ids"]]
    assert rows["row"][:] == list(range(len(rows)))
    unpredicted = 0 if begin else sum(_first_bytes(tokenizer, text) for text in TEXTS)
    assert sum(rows["num_bytes"]) == sum(len(text.encode()) for text in TEXTS) - unpredicted


def _first_bytes(tokenizer, text):
    """Bytes before the second token."""
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return len(text[: offsets[1][0]].encode()) if len(offsets) > 1 else len(text.encode())


def test_a_further_part_begins_with_the_last_token_of_the_part_before(begun):
    rows = encode_causal([TEXTS[1]], begun, max_length=24, pack=False)
    parts = rows["input_ids"][:]
    assert len(parts) > 3 and parts[0][0] == begun.bos_token_id and parts[-1][-1] == begun.eos_token_id
    assert [part[0] for part in parts[1:]] == [part[-1] for part in parts[:-1]]
    whole = [*parts[0], *(token for part in parts[1:] for token in part[1:])]
    assert whole[1:-1] == begun(TEXTS[1], add_special_tokens=False)["input_ids"]


def test_packing_fills_rows_and_positions_restart(begun):
    alone = encode_causal(TEXTS, begun, max_length=48, pack=False)
    packed = encode_causal(TEXTS, begun, max_length=48, pack=True)
    assert len(packed) < len(alone) and max(max(segments) for segments in packed["segment_ids"]) > 0
    batch = CausalTextCollator(begun, max_length=64)(list(packed))
    documents = []
    for row, positions, labels in zip(packed, batch["position_ids"], batch["shift_labels"], strict=True):
        segments = np.asarray(row["segment_ids"])
        for number in range(segments[-1] + 1):
            places = np.flatnonzero(segments == number)
            documents.append([row["input_ids"][place] for place in places])
            assert positions[places].tolist() == list(range(len(places)))
            assert labels[places].tolist() == [*documents[-1][1:], -100]  # never a label of the next document
    assert sorted(documents) == sorted(alone["input_ids"])
    assert packed.to_list() == encode_causal(TEXTS, begun, max_length=48, pack=True).to_list()


def build(name, attention):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    common = {"vocab_size": 310, "attn_implementation": attention, "bos_token_id": 2, "eos_token_id": 3}
    models = {
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, **common)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**sizes, **common)),
        "mistral": lambda: MistralForCausalLM(  # looks back 4 tokens only
            MistralConfig(**sizes, **common, num_key_value_heads=1, sliding_window=4)
        ),
        "gpt_neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, **common)),
        "lstm": lambda: LSTMForCausalLM(LSTMConfig(vocab_size=310, hidden_size=16)),
    }
    model = models[name]()
    with torch.no_grad():
        for parameter in model.parameters():  # position tables are born small and would hide a wrong position
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "gpt_neox", "lstm"])
def test_packed_logits_are_those_of_the_document_alone(begun, name, attention):
    if name == "lstm" and attention == "sdpa":
        attention = None  # it has no attention
    model = build(name, attention)
    packed = encode_causal(TEXTS, begun, max_length=48, pack=True)
    collate = CausalTextCollator(begun, max_length=64)
    batch = collate(list(packed))
    assert len(set(packed["length"])) > 1  # some rows are padded
    labels = batch.pop("shift_labels")
    compared = 0
    with torch.no_grad():
        logits = model(**batch, use_cache=False).logits
        for number, row in enumerate(packed):
            segments = np.asarray(row["segment_ids"])
            for segment in range(segments[-1] + 1):
                places = torch.from_numpy(np.flatnonzero(segments == segment))
                ids = batch["input_ids"][number, places][None]
                alone = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
                torch.testing.assert_close(logits[number, places], alone, rtol=1e-4, atol=1e-4)
                compared += 1
    assert compared > len(packed) and (labels != -100).sum() == predicted(packed)


def test_the_test_above_can_fail(begun):
    """Without restarting positions a document sees its neighbours."""
    model = build("gpt2", "sdpa")
    rows = encode_causal(TEXTS, begun, max_length=48, pack=True)
    batch = CausalTextCollator(begun, max_length=64)([row for row in rows if max(row["segment_ids"]) > 0])
    with torch.no_grad():
        apart = model(batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        leaking = model(batch["input_ids"], use_cache=False).logits
        masked = model(
            **{k: batch[k] for k in ("input_ids", "position_ids")}, attention_mask=torch.ones_like(batch["input_ids"])
        ).logits
    assert not torch.allclose(apart, leaking, atol=1e-3)
    assert not torch.allclose(apart, masked, atol=1e-3)  # a mask switches the isolation off


def test_right_padding_without_a_mask_changes_nothing(begun):
    model = build("gpt2", "sdpa")
    rows = encode_causal(TEXTS, begun, max_length=48, pack=False)
    batch = CausalTextCollator(begun, max_length=64)(list(rows))
    assert set(batch) == {"input_ids", "shift_labels"}
    with torch.no_grad():
        logits = model(batch["input_ids"], use_cache=False).logits
        for number, row in enumerate(rows):
            ids = torch.tensor(row["input_ids"])[None]
            torch.testing.assert_close(logits[number, : ids.shape[1]], model(ids).logits[0], rtol=1e-4, atol=1e-4)


def test_widths_are_multiples_of_eight_within_the_longest_row_allowed(begun):
    rows = encode_causal(TEXTS, begun, max_length=62, pack=False)
    short, long = (pick(range(len(rows)), key=lambda number: rows[number]["length"]) for pick in (min, max))
    assert (rows[short]["length"], rows[long]["length"]) == (5, 62)
    for number, max_length, width in ((short, 64, 8), (long, 64, 64), (long, 62, 62)):
        batch = CausalTextCollator(begun, max_length=max_length)([rows[number]])
        assert batch["input_ids"].shape == batch["shift_labels"].shape == (1, width)


def test_beginnings_and_ends_have_berts_names_too(tokenizer):
    row = encode_causal(["the lazy dog"], tokenizer, max_length=32, pack=False)[0]
    assert (row["input_ids"][0], row["input_ids"][-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)


def test_texts_without_a_token_give_no_row(begun):
    assert len(encode_causal(["", "fox"], begun, max_length=8, pack=False)) == 1
    with pytest.raises(HFTransferError, match="no text has a token to predict"):
        encode_causal([""], begun, max_length=8, pack=True)


def test_what_cannot_serve_is_refused(begun, byte_tokenizer):
    with pytest.raises(HFTransferError, match="max_length 1"):
        encode_causal(TEXTS, begun, max_length=1, pack=False)
    with pytest.raises(HFTransferError, match="no end token"):
        encode_causal(TEXTS, _with(byte_tokenizer, pad_token="[PAD]"), max_length=8, pack=False)
    with pytest.raises(HFTransferError, match="not a fast tokenizer"):
        encode_causal(TEXTS, object(), max_length=8, pack=False)
