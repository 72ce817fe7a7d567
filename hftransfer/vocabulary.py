"""New whole words for a tokenizer, learnt from a corpus, each beginning as the mean of its old pieces."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from hftransfer.errors import HFTransferError

FEWEST = 3  # occurrences of a word worth a token
SHORTEST = 3  # letters


def extend(network: nn.Module, tokenizer: Any, texts: Sequence[str], count: int) -> dict[str, Any]:
    """Adds up to `count` words of the corpus that the tokenizer cuts into pieces, in place.

    The words that save the most tokens are taken. A new word's embedding, and its row and bias in the output layer,
    are the means of its old pieces' (Yao et al. 2021, Adapt-and-Distill, arXiv:2106.13474).

    Returns:
        `new_words`, and `tokens_per_word` before and after on these texts.

    Raises:
        HFTransferError: when the tokenizer cannot take words, or the corpus has none to add.
    """
    if not getattr(tokenizer, "is_fast", False) or not hasattr(network, "resize_token_embeddings"):
        raise HFTransferError(f"extend_vocabulary: {type(tokenizer).__name__} takes no new words; remove it")
    words = _counted(tokenizer, texts)
    before = _tokens_per_word(tokenizer, words)
    chosen = _worth_most(tokenizer, words, count)
    if not chosen:
        raise HFTransferError("extend_vocabulary: the corpus has no word that the tokenizer cuts; remove the option")
    pieces = {word: tokenizer(word, add_special_tokens=False)["input_ids"] for word in chosen}
    add_words(network, tokenizer, pieces)
    return {
        "new_words": len(chosen),
        "tokens_per_word.before": before,
        "tokens_per_word.after": _tokens_per_word(tokenizer, words),
    }


def _counted(tokenizer: Any, texts: Iterable[str]) -> Counter[str]:
    """How often each word of letters occurs, as the tokenizer would read it (its case, its accents)."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    words: Counter[str] = Counter()
    for text in texts:
        read = normalizer.normalize_str(text) if normalizer is not None else text
        words.update(word for word in _letters(read) if len(word) >= SHORTEST)
    return words


def _letters(text: str) -> list[str]:
    return "".join(letter if letter.isalpha() else " " for letter in text).split()


def _worth_most(tokenizer: Any, words: Counter[str], count: int) -> list[str]:
    """The words whose pieces, times their occurrences, are the most; ties go by the alphabet."""
    frequent = sorted(word for word, times in words.items() if times >= FEWEST)
    if not frequent:
        return []
    lengths = [len(ids) for ids in tokenizer(frequent, add_special_tokens=False)["input_ids"]]
    saved = {word: (n - 1) * words[word] for word, n in zip(frequent, lengths, strict=True) if n > 1}
    return sorted(saved, key=lambda word: (-saved[word], word))[:count]


def _tokens_per_word(tokenizer: Any, words: Counter[str]) -> float:
    listed = list(words)
    lengths = [len(ids) for ids in tokenizer(listed, add_special_tokens=False)["input_ids"]]
    return sum(n * words[word] for word, n in zip(listed, lengths, strict=True)) / max(words.total(), 1)


@torch.no_grad()
def add_words(network: nn.Module, tokenizer: Any, pieces: dict[str, list[int]]) -> None:
    """Adds words to the tokenizer and their rows to the network; `pieces` are the token ids that each had."""
    from tokenizers import AddedToken

    old = len(tokenizer)
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in pieces])
    size = max(len(tokenizer), network.get_input_embeddings().num_embeddings)  # some tables are padded already
    network.resize_token_embeddings(size, mean_resizing=False)
    new = [tokenizer.convert_tokens_to_ids(word) for word in pieces]
    assert min(new) >= old
    output = network.get_output_embeddings()
    tables = [network.get_input_embeddings().weight]
    for name in ("weight", "bias"):
        value = getattr(output, name, None)
        if value is not None and all(value is not table for table in tables):
            tables.append(value)
    for table in tables:
        for token, ids in zip(new, pieces.values(), strict=True):
            table[token] = table[torch.tensor(ids, device=table.device)].mean(0)
