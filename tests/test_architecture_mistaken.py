"""What would be carried over silently, and is another thing under the same name."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForTokenClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from hftransfer.architecture import changed
from hftransfer.errors import HFTransferError
from hftransfer.models import quiet_transformers

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
NAMES = ["calm", "loud", "odd"]
HEAD = {"num_labels": 3, "id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}


def saved(network, folder, tokenizer):
    with quiet_transformers():
        network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def tagger(tmp_path, word_tokenizer):
    config = BertConfig(vocab_size=len(word_tokenizer), **SIZES, **HEAD)
    return saved(BertForTokenClassification(config), tmp_path / "tagger", word_tokenizer)


def test_a_head_for_tokens_is_no_head_for_texts(tagger):
    """Both are called `classifier`, and have a row for each label."""
    made = changed(tagger, "text_classification", HEAD, {}, kind="text")
    assert {"classifier.weight", "classifier.bias"} <= set(made.new)
    with quiet_transformers():
        theirs = BertForTokenClassification.from_pretrained(tagger).classifier.weight
    assert not torch.equal(made.network.classifier.weight, theirs)
    with pytest.raises(HFTransferError, match=r"architecture\.head.*kept"):
        changed(tagger, "text_classification", HEAD, {"head": "kept"}, kind="text")


def test_a_block_that_scales_by_its_own_number_keeps_it(tmp_path, word_tokenizer):
    config = GPT2Config(
        vocab_size=len(word_tokenizer), n_embd=16, n_layer=4, n_head=2, n_positions=32, bos_token_id=2, eos_token_id=3
    )
    config.scale_attn_by_inverse_layer_idx = True
    folder = saved(GPT2LMHeadModel(config), tmp_path / "gpt", word_tokenizer)
    assert changed(folder, "causal_lm", {}, {"layers": [0, 1]}, kind="text").network.config.n_layer == 2
    with pytest.raises(HFTransferError, match=r"architecture\.layers.*scale_attn_by_inverse_layer_idx"):
        changed(folder, "causal_lm", {}, {"layers": "every_second"}, kind="text")


def test_the_padding_token_is_the_new_tokenizers(tmp_path, word_tokenizer):
    """A task names the old tokenizer's, by which a decoder would find the last token of a text."""
    config = GPT2Config(vocab_size=len(word_tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=32)
    config.bos_token_id, config.eos_token_id = 2, 3
    folder = saved(GPT2LMHeadModel(config), tmp_path / "gpt", word_tokenizer)
    plain = Tokenizer(models.WordLevel({"soup": 0, "a": 1, "[UNK]": 2, "[PAD]": 3}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    other = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="[PAD]", unk_token="[UNK]")
    new = saved(BertModel(BertConfig(vocab_size=4, **SIZES)), tmp_path / "new", other)
    head = {**HEAD, "pad_token_id": word_tokenizer.pad_token_id}
    made = changed(folder, "text_classification", head, {"tokenizer": new}, kind="text")
    assert made.network.config.pad_token_id == made.reader.pad_token_id == 3
