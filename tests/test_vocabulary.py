"""New words: of a WordPiece and a byte-level BPE; shorter texts, same texts back, old tokens where they were."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from hftransfer import scratch, vocabulary
from hftransfer.errors import HFTransferError

GENERAL = ["the cat sat on the mat and the dog ran to the door of the house", "a dog is not a cat"] * 20
DOMAIN = ["the tensor is a tensor, and tensors of eigenvalues have an eigenvector", "Tensor eigenvalues decompose"] * 5


def length(tokenizer, texts):
    return sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])


@pytest.fixture(params=["gpt", "bert-bytes", "bert-words"])
def pair(request, word_tokenizer):
    """A network and its tokenizer."""
    torch.manual_seed(0)
    if request.param == "gpt":
        tokenizer = scratch.learn_tokenizer(GENERAL, 300, masked=False, max_length=64)
        return GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=2)), tokenizer
    words = request.param == "bert-words"
    tokenizer = scratch.learn_tokenizer(GENERAL, 300, masked=True, max_length=64)
    if words:
        backend = Tokenizer.from_str(word_tokenizer.backend_tokenizer.to_str())
        special = word_tokenizer.special_tokens_map
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **special)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **sizes)), tokenizer


def test_texts_get_shorter_and_come_back_whole(pair):
    network, tokenizer = pair
    before, old = length(tokenizer, DOMAIN), tokenizer.get_vocab()
    told = vocabulary.extend(network, tokenizer, DOMAIN, 4)
    assert told["new_words"] == 4
    assert told["tokens_per_word.after"] < told["tokens_per_word.before"]
    assert length(tokenizer, DOMAIN) < before
    assert all(tokenizer.get_vocab()[token] == number for token, number in old.items())
    if tokenizer.backend_tokenizer.decoder is None:
        return  # a WordPiece of few words does not give back what it has no letters for
    text = DOMAIN[0].lower()
    back = tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert back.replace(" ", "") == text.replace(" ", "")


def test_a_word_in_running_text_becomes_one_token(pair):
    network, tokenizer = pair
    vocabulary.extend(network, tokenizer, DOMAIN, 6)
    alone = tokenizer("the the", add_special_tokens=False)["input_ids"]
    with_new = tokenizer("the eigenvalues the", add_special_tokens=False)["input_ids"]
    assert len(with_new) == len(alone) + 1


def test_new_rows_are_means_of_old_ones_and_old_ones_stay(pair):
    network, tokenizer = pair
    old_vocabulary = tokenizer.get_vocab()
    table = network.get_input_embeddings().weight.detach().clone()
    pieces = tokenizer(" eigenvalues", add_special_tokens=False)["input_ids"]
    vocabulary.extend(network, tokenizer, DOMAIN, 6)
    grown = network.get_input_embeddings().weight
    assert len(grown) == len(tokenizer) > len(old_vocabulary)
    assert torch.equal(grown[: len(table)], table)
    (new,) = tokenizer(" eigenvalues", add_special_tokens=False)["input_ids"]
    torch.testing.assert_close(grown[new], table[pieces].mean(0))
    logits = network(torch.tensor([[new, new]])).logits
    assert logits.shape[-1] == len(tokenizer) and logits.isfinite().all()


def test_it_is_saved_with_the_tokenizer(pair, tmp_path):
    network, tokenizer = pair
    vocabulary.extend(network, tokenizer, DOMAIN, 4)
    tokenizer.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert again(DOMAIN)["input_ids"] == tokenizer(DOMAIN)["input_ids"]


def test_a_tokenizer_that_cannot_is_refused():
    network = GPT2LMHeadModel(GPT2Config(vocab_size=10, n_embd=8, n_layer=1, n_head=2))
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=unigram, unk_token="<unk>")
    with pytest.raises(HFTransferError, match=r"extend_vocabulary: .*Unigram.* takes no new words"):
        vocabulary.extend(network, tokenizer, DOMAIN, 2)


def test_a_corpus_of_known_words_is_told(pair):
    network, tokenizer = pair
    with pytest.raises(HFTransferError, match="no word that the tokenizer cuts"):
        vocabulary.extend(network, tokenizer, ["the the the"], 2)
