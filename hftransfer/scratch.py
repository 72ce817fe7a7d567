"""Readers for new networks: a tokenizer learnt from the corpus, an image processor of the config's sizes."""

from collections.abc import Iterable
from typing import Any

from hftransfer.errors import HFTransferError

END = "<|endoftext|>"
MASKED_SPECIALS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
CAUSAL_SPECIALS = {"eos_token": END, "bos_token": END, "pad_token": END}
SMALLEST_VOCABULARY = 256 + len(MASKED_SPECIALS)  # every byte has a token, so no text is unknown


def learn_tokenizer(texts: Iterable[str], vocab_size: int, *, masked: bool, max_length: int) -> Any:
    """A byte-level BPE tokenizer (Sennrich et al. 2016, arXiv:1508.07909; bytes as in GPT-2) learnt from texts.

    Args:
        texts: the corpus.
        vocab_size: tokens at most; a small corpus teaches fewer.
        masked: BERT's special tokens around a text; else one token that ends it.
        max_length: `model_max_length` of the tokenizer.

    Raises:
        HFTransferError: when there is no room for the bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if vocab_size < SMALLEST_VOCABULARY:
        raise HFTransferError(
            f"config.vocab_size: {vocab_size} tokens do not hold the 256 bytes and the special tokens; give at least "
            f"{SMALLEST_VOCABULARY}"
        )
    specials = MASKED_SPECIALS if masked else CAUSAL_SPECIALS
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(dict.fromkeys(specials.values())),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    if masked:
        ends = [(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
        made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=max_length, **specials)


def fit_config(config: Any, tokenizer: Any) -> Any:
    """Makes a new network's config agree with its tokenizer: as many tokens, and which of them are special."""
    config.vocab_size = len(tokenizer)
    for name in ("pad", "eos", "bos", "cls", "sep"):
        if hasattr(config, f"{name}_token_id"):
            setattr(config, f"{name}_token_id", getattr(tokenizer, f"{name}_token_id"))
    return config


def image_processor(config: Any) -> Any:
    """Scales to the config's image size and to [-1, 1], in as many channels as the config has."""
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    half = [0.5] * config.num_channels
    size = {"height": config.image_size, "width": config.image_size}
    return ViTImageProcessorPil(size=size, image_mean=half, image_std=half)
