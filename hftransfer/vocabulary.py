"""New whole words for a tokenizer, learnt from a corpus, each beginning as the mean of its old pieces."""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from hftransfer.errors import HFTransferError

FEWEST = 3  # occurrences of a word worth a token
SHORTEST = 3  # letters
MARKS = "Ġ▁"  # of a space before a word


def extend(network: nn.Module, tokenizer: Any, texts: Sequence[str], count: int) -> dict[str, Any]:
    """Adds up to `count` words of the corpus that the tokenizer cuts into pieces, in place.

    The words that save the most tokens are taken. They become part of the tokenizer's own model: whole words of a
    WordPiece, further merges of a BPE (with the longer pieces on the way). A new token's embedding, and its row and
    bias in the output layer, are the means of its old pieces' (Yao et al. 2021, Adapt-and-Distill, arXiv:2106.13474).

    Returns:
        `new_words`, and `tokens_per_word` before and after on these texts.

    Raises:
        HFTransferError: when the tokenizer cannot take words, or the corpus has none to add.
    """
    _check(network, tokenizer)
    words = _counted(tokenizer, texts)
    before = _tokens_per_word(tokenizer, words)
    chosen = _worth_most(tokenizer, words, count)
    if not chosen:
        raise HFTransferError("extend_vocabulary: the corpus has no word that the tokenizer cuts; remove the option")
    old = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=True)
    stored = json.loads(tokenizer.backend_tokenizer.to_str())
    pieces = {word: _pieces(tokenizer, word) for word in chosen}
    new = _whole_words(pieces) if stored["model"]["type"] == "WordPiece" else _merged(pieces, stored["model"])
    for number, token in enumerate(new):
        stored["model"]["vocab"][token] = len(tokenizer) + number
    _rebuild(tokenizer, stored, old)
    _grow(network, tokenizer, {token: [old[piece] for piece in made_of] for token, made_of in new.items()})
    after = _tokens_per_word(tokenizer, words)
    return {"new_words": len(chosen), "tokens_per_word.before": before, "tokens_per_word.after": after}


def _check(network: nn.Module, tokenizer: Any) -> None:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    kind = type(backend.model).__name__ if backend is not None else ""
    if backend is None or kind not in ("WordPiece", "BPE") or backend.pre_tokenizer is None:
        raise HFTransferError(
            f"extend_vocabulary: {type(tokenizer).__name__} ({kind or 'no fast tokenizer'}) takes no new words, only "
            "WordPiece and BPE ones that cut at words do; remove it"
        )
    if network.get_input_embeddings() is None:
        raise HFTransferError(f"extend_vocabulary: {type(network).__name__} has no word embeddings; remove it")


def _counted(tokenizer: Any, texts: Iterable[str]) -> Counter[str]:
    """How often each word of letters occurs, as the tokenizer's model is given it (case, accents, space mark)."""
    backend = tokenizer.backend_tokenizer
    words: Counter[str] = Counter()
    for text in texts:
        read = backend.normalizer.normalize_str(text) if backend.normalizer is not None else text
        words.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(read))
    return Counter({word: times for word, times in words.items() if _is_word(word)})


def _is_word(word: str) -> bool:
    letters = word.lstrip(MARKS)
    return len(letters) >= SHORTEST and letters.isalpha()


def _pieces(tokenizer: Any, word: str) -> list[str]:
    return [token.value for token in tokenizer.backend_tokenizer.model.tokenize(word)]


def _worth_most(tokenizer: Any, words: Counter[str], count: int) -> list[str]:
    """The words whose pieces, times their occurrences, are the most; ties go by the alphabet."""
    frequent = sorted(word for word, times in words.items() if times >= FEWEST)
    saved = {word: (len(_pieces(tokenizer, word)) - 1) * words[word] for word in frequent}
    return sorted((word for word in saved if saved[word]), key=lambda word: (-saved[word], word))[:count]


def _tokens_per_word(tokenizer: Any, words: Counter[str]) -> float:
    return sum(len(_pieces(tokenizer, word)) * times for word, times in words.items()) / max(words.total(), 1)


def _whole_words(pieces: dict[str, list[str]]) -> dict[str, list[str]]:
    """A WordPiece takes the longest piece that fits, so a word in its vocabulary is never cut."""
    return dict(pieces)


def _merged(pieces: dict[str, list[str]], model: dict[str, Any]) -> dict[str, list[str]]:
    """Appends to a BPE's merges what joins each word's pieces from the left; the tokens this makes, with old pieces.

    New merges come after all old ones. What earlier new merges have joined already is taken into account.
    """
    made: dict[str, list[str]] = {}
    ranks: dict[tuple[str, str], int] = {}
    for old_pieces in pieces.values():
        parts = _joined(old_pieces, ranks)
        while len(parts) > 1:
            left, right = parts[:2]
            ranks[left, right] = len(ranks)
            if left + right not in model["vocab"]:
                made.setdefault(left + right, [*made.get(left, [left]), *made.get(right, [right])])
            parts = _joined([left + right, *parts[2:]], ranks)
    model["merges"] += [list(pair) for pair in ranks]
    return made


def _joined(parts: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """The parts after every new merge that applies, the first made first."""
    while True:
        found = [(ranks[pair], place) for place, pair in enumerate(itertools.pairwise(parts)) if pair in ranks]
        if not found:
            return parts
        place = min(found)[1]
        parts = [*parts[:place], parts[place] + parts[place + 1], *parts[place + 2 :]]


def _rebuild(tokenizer: Any, stored: dict[str, Any], old: dict[str, int]) -> None:
    """Puts the longer vocabulary in; every old token must have kept its number."""
    from tokenizers import Tokenizer

    rebuilt = Tokenizer.from_str(json.dumps(stored))
    now = rebuilt.get_vocab(with_added_tokens=True)
    if any(now.get(token) != number for token, number in old.items()):
        raise HFTransferError(
            f"extend_vocabulary: {type(tokenizer).__name__} keeps special tokens behind its vocabulary, where new "
            "words would go; remove it"
        )
    tokenizer._tokenizer = rebuilt


@torch.no_grad()
def _grow(network: nn.Module, tokenizer: Any, pieces: dict[str, list[int]]) -> None:
    """New rows of the network's tables: the means of the rows that `pieces` name."""
    size = max(len(tokenizer), network.get_input_embeddings().num_embeddings)  # some tables are padded already
    network.resize_token_embeddings(size, mean_resizing=False)
    output = network.get_output_embeddings()
    tables = [network.get_input_embeddings().weight]
    for name in ("weight", "bias"):
        value = getattr(output, name, None)
        if value is not None and all(value is not table for table in tables):
            tables.append(value)
    for table in tables:
        for token, ids in pieces.items():
            table[tokenizer.convert_tokens_to_ids(token)] = table[torch.tensor(ids, device=table.device)].mean(0)
