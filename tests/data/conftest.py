"""Tokenizers of several kinds, small and made on the spot."""

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SENTENCES = [
    "the quick brown fox jumps over the lazy dog",
    "a transferable representation, learned without labels, helps elsewhere",
    "masked words are predicted from both sides of the sentence",
    "unbelievable understatements misunderstand themselves",
]
SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


@pytest.fixture(scope="session")
def tokenizer():
    """A BERT-like WordPiece tokenizer: [CLS] text [SEP], words in several pieces."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(SENTENCES, trainers.WordPieceTrainer(vocab_size=90, special_tokens=[*SPECIAL.values()]))
    ends = [(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **SPECIAL)


@pytest.fixture(scope="session")
def unsplit_tokenizer():
    """A SentencePiece-like tokenizer without pre-tokenizer: it calls a whole text one word."""
    made = Tokenizer(models.BPE(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=120, special_tokens=[*SPECIAL.values()]))
    # trained on single words, so that no piece spans two; then the splitting goes and the marks stay
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.pre_tokenizer = pre_tokenizers.Split("\0", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=made, **SPECIAL)


@pytest.fixture(scope="session")
def byte_tokenizer():
    """A byte-level BPE tokenizer with `trim_offsets=False`, whose offsets leave no gap between words."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=[*SPECIAL.values()], initial_alphabet=alphabet)
    made.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, **SPECIAL)
