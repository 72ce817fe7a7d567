"""Masked text: nothing is lost, words stay whole, masks are keyed, and packed documents do not see each other."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizer

from hftransfer.data.masked_text import MaskedTextCollator, check_filled, encode_documents
from hftransfer.errors import HFTransferError

TEXTS = [
    "the lazy dog",
    "masked words are predicted from both sides of the sentence, without labels. " * 5,
    "unbelievable understatements",
    "  café 日本 zzz [MASK] [SEP] spaces   inside  ",
    "the quick brown fox jumps over the lazy dog",
    "fox",
]
PACKING = pytest.mark.parametrize("pack", [False, True])


def tokens_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def collator(tokenizer, **more):
    return MaskedTextCollator(tokenizer, **{"mask_rate": 0.3, "whole_word": True, "seed": 5, "fixed": False, **more})


@PACKING
@pytest.mark.parametrize("kind", ["tokenizer", "unsplit_tokenizer", "byte_tokenizer"])
def test_no_token_and_no_byte_is_dropped(request, kind, pack):
    tokenizer = request.getfixturevalue(kind)
    rows = encode_documents(TEXTS, tokenizer, max_length=24, pack=pack)
    assert max(rows["length"]) <= 24 and rows["length"][:] == [len(ids) for ids in rows["input_ids"]]
    assert sum(rows["num_bytes"]) == sum(len(text.encode()) for text in TEXTS)
    specials = {tokenizer.cls_token_id, tokenizer.sep_token_id} if kind == "tokenizer" else set()
    kept = sorted(token for ids in rows["input_ids"] for token in ids if token not in specials)
    assert kept == sorted(token for text in TEXTS for token in tokens_of(tokenizer, text) if token not in specials)
    assert rows["row"][:] == list(range(len(rows)))


def test_a_long_document_is_cut_in_order_between_words(tokenizer):
    rows = encode_documents([TEXTS[1]], tokenizer, max_length=24, pack=False)
    assert len(rows) > 3
    assert [token for ids in rows["input_ids"] for token in ids[1:-1]] == tokens_of(tokenizer, TEXTS[1])
    for ids, special, words in zip(rows["input_ids"], rows["special_tokens_mask"], rows["word_ids"], strict=True):
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert special == [1] + [0] * (len(ids) - 2) + [1]
        assert [word for word in words if word < 0] == [-1, -1] and words[1] == 0
        assert not tokenizer.convert_ids_to_tokens(ids[1]).startswith("##")


def test_a_word_longer_than_a_row_is_cut_inside(tokenizer):
    word = "understatementsunbelievablethemselves"
    rows = encode_documents([word], tokenizer, max_length=8, pack=False)
    assert len(rows) > 1 and [t for ids in rows["input_ids"] for t in ids[1:-1]] == tokens_of(tokenizer, word)


def test_packing_fills_rows_and_keeps_documents_apart(tokenizer):
    alone = encode_documents(TEXTS, tokenizer, max_length=32, pack=False)
    packed = encode_documents(TEXTS, tokenizer, max_length=32, pack=True)
    assert len(packed) < len(alone) and max(max(segments) for segments in packed["segment_ids"]) > 0
    chunks = []
    for row in packed:
        segments, ids = np.asarray(row["segment_ids"]), np.asarray(row["input_ids"])
        words = np.asarray(row["word_ids"])
        assert (np.diff(segments) >= 0).all() and segments[0] == 0
        assert sorted(set(words) - {-1}) == list(range(words.max() + 1))
        for number in range(segments[-1] + 1):
            chunks.append(ids[segments == number].tolist())
            others = set(words[segments != number]) - {-1}
            assert not others & set(words[segments == number])
    assert sorted(chunks) == sorted(alone["input_ids"])
    assert packed.to_list() == encode_documents(TEXTS, tokenizer, max_length=32, pack=True).to_list()


@pytest.mark.parametrize("kind", ["tokenizer", "unsplit_tokenizer", "byte_tokenizer"])
def test_words_are_those_between_spaces(request, kind):
    tokenizer = request.getfixturevalue(kind)
    text = "unbelievable understatements misunderstand themselves elsewhere"
    words = encode_documents([text], tokenizer, max_length=64, pack=False)[0]["word_ids"]
    assert sorted(set(words) - {-1}) == [0, 1, 2, 3, 4]


def test_special_tokens_spelled_in_a_text_are_never_masked(tokenizer):
    row = encode_documents(["fox [MASK] dog [SEP] zzz"], tokenizer, max_length=32, pack=False)[0]
    never = {tokenizer.mask_token_id, tokenizer.sep_token_id, tokenizer.cls_token_id}
    for token, special, word in zip(row["input_ids"], row["special_tokens_mask"], row["word_ids"], strict=True):
        assert (token in never) == bool(special) == (word == -1)


def test_texts_are_read_once_in_any_container(tokenizer):
    listed = encode_documents(TEXTS, tokenizer, max_length=24, pack=False).to_list()
    assert encode_documents(iter(TEXTS), tokenizer, max_length=24, pack=False).to_list() == listed
    column = Dataset.from_dict({"text": TEXTS})["text"]
    assert encode_documents(column, tokenizer, max_length=24, pack=False).to_list() == listed


def test_texts_without_a_token_give_no_row(tokenizer):
    assert len(encode_documents(["", "fox", "\u200b"], tokenizer, max_length=8, pack=False)) == 1
    with pytest.raises(HFTransferError, match="no text has a token"):
        encode_documents([""], tokenizer, max_length=8, pack=False)


def test_tokenizers_that_cannot_serve_are_refused(tokenizer, unsplit_tokenizer):
    with pytest.raises(HFTransferError, match="max_length 2"):
        encode_documents(TEXTS, tokenizer, max_length=2, pack=False)

    class Slow(PreTrainedTokenizer):
        vocab_size = 0

        def get_vocab(self):
            return {}

    with pytest.raises(HFTransferError, match="not a fast tokenizer"):
        encode_documents(TEXTS, Slow(), max_length=8, pack=False)
    marks = unsplit_tokenizer.backend_tokenizer.normalizer
    try:
        from tokenizers import normalizers

        unsplit_tokenizer.backend_tokenizer.normalizer = normalizers.Replace(" ", "")
        with pytest.raises(HFTransferError, match="where words begin"):
            encode_documents(["the lazy dog"], unsplit_tokenizer, max_length=8, pack=False)
    finally:
        unsplit_tokenizer.backend_tokenizer.normalizer = marks


def hidden_by_row(collate, rows, order, size):
    """{row: (inputs, labels)} without padding, from batches of `size` in `order`."""
    found = {}
    for start in range(0, len(order), size):
        numbers = order[start : start + size]
        batch = collate([rows[number] for number in numbers])
        for place, number in enumerate(numbers):
            length = rows[number]["length"]
            found[number] = (batch["input_ids"][place, :length].tolist(), batch["labels"][place, :length].tolist())
    return found


@PACKING
def test_masks_do_not_depend_on_the_batch_the_order_or_the_workers(tokenizer, pack):
    rows = encode_documents(TEXTS * 3, tokenizer, max_length=24, pack=pack)
    numbers = list(range(len(rows)))
    collate = collator(tokenizer)
    one = hidden_by_row(collate, rows, numbers, 1)
    assert one == hidden_by_row(collate, rows, numbers[::-1], 4)
    batches = list(DataLoader(rows, batch_size=2, collate_fn=collate, num_workers=2))
    labels = [row[: rows[n]["length"]].tolist() for n, row in enumerate(r for b in batches for r in b["labels"])]
    assert labels == [one[number][1] for number in numbers]


def test_masks_follow_the_seed_and_the_epoch_unless_fixed(tokenizer):
    rows = encode_documents(TEXTS, tokenizer, max_length=24, pack=False)
    numbers = list(range(len(rows)))

    def drawn(epoch, **more):
        collate = collator(tokenizer, **more)
        collate.set_epoch(epoch)
        return hidden_by_row(collate, rows, numbers, 3)

    assert drawn(1) == drawn(1) != drawn(0)
    assert drawn(1, seed=6) != drawn(1)
    assert drawn(0, fixed=True) == drawn(1, fixed=True)


def test_an_epoch_set_between_epochs_reaches_the_workers(tokenizer):
    rows = encode_documents(TEXTS, tokenizer, max_length=24, pack=False)
    collate = collator(tokenizer)
    loader = DataLoader(rows, batch_size=len(rows), collate_fn=collate, num_workers=1)
    first = next(iter(loader))["labels"]
    collate.set_epoch(1)
    second = next(iter(loader))["labels"]
    assert not torch.equal(first, second)
    assert torch.equal(second, collate([rows[n] for n in range(len(rows))])["labels"])


@PACKING
def test_whole_words_are_hidden_whole(tokenizer, pack):
    rows = encode_documents(
        ["unbelievable understatements misunderstand themselves"] * 8, tokenizer, max_length=64, pack=pack
    )
    batch = collator(tokenizer, mask_rate=0.5)([rows[number] for number in range(len(rows))])
    fates = set()
    for row, labels in zip(rows, batch["labels"], strict=True):
        for word in set(row["word_ids"]) - {-1}:
            pieces = [labels[n].item() != -100 for n, other in enumerate(row["word_ids"]) if other == word]
            assert all(pieces) or not any(pieces)
            fates.add(pieces[0])
    assert fates == {True, False}


def test_labels_are_the_hidden_tokens_and_special_tokens_never_are(tokenizer):
    rows = encode_documents(TEXTS * 20, tokenizer, max_length=24, pack=False)
    batch = collator(tokenizer, whole_word=False)([rows[number] for number in range(len(rows))])
    original = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in rows["input_ids"]], True, -1)
    hidden = batch["labels"][:, : original.shape[1]] != -100
    assert torch.equal(batch["labels"][:, : original.shape[1]][hidden], original[hidden])
    special = torch.nn.utils.rnn.pad_sequence([torch.tensor(m) for m in rows["special_tokens_mask"]], True, 1)
    assert not hidden[special.bool()].any()
    assert abs(hidden.sum() / (special == 0).sum() - 0.3) < 0.05


def test_padding_reaches_a_multiple_of_eight_that_the_model_can_take(tokenizer):
    rows = encode_documents(TEXTS, tokenizer, max_length=24, pack=False)
    length = rows[1]["length"] - 1
    row = {name: values[:length] if isinstance(values, list) else values for name, values in rows[1].items()}
    assert length % 8 and collator(tokenizer)([row])["input_ids"].shape == (1, length + 8 - length % 8)
    narrow = collator(tokenizer)
    narrow.longest = length
    assert narrow([row])["input_ids"].shape == (1, length)
    batch = collator(tokenizer)([rows[0], rows[1]])
    assert batch["attention_mask"].sum(1).tolist() == [rows[0]["length"], rows[1]["length"]]
    assert set(batch["input_ids"][0, rows[0]["length"] :].tolist()) == {tokenizer.pad_token_id}


def test_a_batch_without_neighbours_keeps_the_plain_mask(tokenizer):
    rows = encode_documents(TEXTS[:1], tokenizer, max_length=64, pack=True)
    batch = collator(tokenizer)([rows[0]])
    assert batch.keys() == {"input_ids", "labels", "attention_mask"} and batch["attention_mask"].dim() == 2


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_logits_equal_the_logits_of_each_document_alone(tokenizer, attention):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, initializer_range=0.5, **sizes)
    model = BertForMaskedLM._from_config(config, attn_implementation=attention).eval()
    rows = encode_documents([*TEXTS, *TEXTS[:3]], tokenizer, max_length=40, pack=True)
    batch = collator(tokenizer, fixed=True)([rows[number] for number in range(len(rows))])
    assert batch["attention_mask"].shape == (len(rows), 1, *batch["input_ids"].shape[1:] * 2)
    labels = batch.pop("labels")
    seen = 0
    with torch.no_grad():
        packed = model(**batch).logits
        assert packed.isfinite().all() and labels.shape == packed.shape[:2]
        leaking = model(input_ids=batch["input_ids"], attention_mask=(batch["input_ids"] != 0).long()).logits
        for place, row in enumerate(rows):
            segments = torch.tensor(row["segment_ids"])
            for number in range(segments[-1] + 1):
                where = (segments == number).nonzero()[:, 0]
                alone = model(input_ids=batch["input_ids"][place, where][None]).logits[0]
                torch.testing.assert_close(packed[place, where], alone, rtol=1e-4, atol=1e-4)
                seen += number
                if number:
                    assert not torch.allclose(leaking[place, where], alone, atol=1e-2)
    assert seen > 0


def test_positions_restart_where_the_model_begins_to_count(tokenizer):
    rows = encode_documents(["fox", "dog", "lazy"], tokenizer, max_length=60, pack=True)
    row = rows[0]
    batch = collator(tokenizer, first_position=2)([row])
    segments = np.asarray(row["segment_ids"])
    expected = np.concatenate([np.arange((segments == n).sum()) + 2 for n in range(segments[-1] + 1)])
    assert batch["position_ids"][0, : len(segments)].tolist() == expected.tolist()


def test_a_tokenizer_without_a_mask_and_a_rate_that_hides_nothing_are_refused(tokenizer):
    with pytest.raises(HFTransferError, match="mask_rate"):
        collator(tokenizer, mask_rate=0)
    maskless = type("Maskless", (), {"mask_token": None, "pad_token": "[PAD]"})()
    with pytest.raises(
        HFTransferError, match=r"model: the tokenizer has no mask_token, .*method: udalm or masked_lm_weight"
    ):
        collator(maskless)


def test_texts_that_fill_no_packed_row_are_refused_by_their_number_of_tokens(tokenizer):
    rows = encode_documents(["the quick fox", "the lazy dog"], tokenizer, max_length=64, pack=True)
    tokens = len(rows[0]["input_ids"])
    assert len(rows) == 1 and tokens < 64
    with pytest.raises(HFTransferError, match=rf"^data: all of it is {tokens} tokens, .* row of max_length 64; lower"):
        check_filled(rows, 64, key="data")
    check_filled(rows, tokens, key="data")
