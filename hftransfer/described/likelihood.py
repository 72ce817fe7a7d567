"""Likelihood: how likely a causal language model finds the words of each label after the text.

The text is read once: its keys and values are kept, and each label's words are read on from there.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn

from hftransfer.described import cloze
from hftransfer.described.base import Array, Asking, Reading
from hftransfer.described.labels import LABEL, TEXT
from hftransfer.errors import HFTransferError
from hftransfer.functional.empty_prior import pointwise_information
from hftransfer.functional.label_likelihood import mean_log_likelihood


class Likelihood(Reading):
    """The mean log-likelihood of a label's tokens. A network that keeps no keys and values reads all each time."""

    name = "likelihood"

    def __init__(self, asking: Asking) -> None:
        super().__init__(asking)
        self.tails = [template[: -len(LABEL)] for template in self.prompts.templates]
        self.words = [self._tokens(tail) for tail in self.tails]
        self.keeps = keeps_keys(self.network)
        self.ending = added_behind(self.reader)

    def _tokens(self, tail: str) -> list[list[int]]:
        """The tokens of each of all descriptions, as they follow what stands between the text and them."""
        between = tail[tail.index(TEXT) + len(TEXT) :]
        before = between.rstrip(" ")
        head = list(self.reader(before, add_special_tokens=False)["input_ids"])
        found = []
        for word in self.prompts.words:
            whole = list(self.reader(between + word, add_special_tokens=False)["input_ids"])
            joined = whole[: len(head)] != head or not head  # the word's first piece takes in what is before it
            alone = self.reader(between[len(before) :] + word, add_special_tokens=False)["input_ids"]
            ids = list(alone) if joined else whole[len(head) :]
            if not ids or self.reader.unk_token_id in ids:
                raise HFTransferError(f"labels: '{word}' is no word of the model's vocabulary; describe it otherwise")
            found.append(ids)
        return found

    def logits(self, prepared: Any) -> Array:
        texts = list(prepared["text"])
        return np.stack([self._by(*asked, texts) for asked in zip(self.tails, self.words, strict=True)])

    def _by(self, tail: str, words: Sequence[Sequence[int]], texts: list[str]) -> Array:
        """(rows, labels)."""
        longest = max(len(word) for word in words)
        made = cloze.rows(self.reader, texts, tail.rstrip(" "), self.asking.max_length - longest)
        made = [ids[: len(ids) - self.ending] for ids in made]
        if min(map(len, made)) < 2:
            raise HFTransferError(f"templates: '{tail}{LABEL}' has too few words before the label; write some")
        rows = [{"input_ids": ids} for ids in made]
        costs = [len(words) * (len(ids) + longest) for ids in made]
        scorer = _Scorer(words, self.reader.pad_token_id, self.keeps)
        found = self.over(rows, costs, self.padded, self.network, scorer)
        return self.of_labels(np.stack([scores for (scores,) in found])) / self.temperature

    def empty(self) -> Array:
        """The prompt alone, with no text in it."""
        return self.ensemble(self.logits(Dataset.from_dict({"text": [""]})))

    def calibrated(self, logits: Array) -> Array:
        return pointwise_information(logits, self.empty()[0])

    def notes(self) -> list[str]:
        return [*super().notes(), "scores are mean log-likelihoods of a label's tokens"]


def keeps_keys(network: Any) -> bool:
    """Whether a network can go on from a text's keys and values, at positions that are told; a state is no such."""
    takes = inspect.signature(network.forward).parameters
    told = {"position_ids", "past_key_values"} <= set(takes)
    return told and not network._is_stateful and network.base_model is not network


def added_behind(tokenizer: Any) -> int:
    """How many tokens a tokenizer adds behind a text: a label has to come before them."""
    whole, plain = (list(tokenizer("a", add_special_tokens=added)["input_ids"]) for added in (True, False))
    starts = [start for start in range(len(whole)) if whole[start : start + len(plain)] == plain]
    return len(whole) - len(plain) - starts[0] if plain and starts else 0


class _Scorer:
    """Scores all labels of a batch of prompts: (batch, descriptions)."""

    def __init__(self, words: Sequence[Sequence[int]], pad: int, keeps: bool) -> None:
        self.keeps, self.count = keeps, len(words)
        longest = max(len(word) for word in words)
        self.tokens = torch.tensor([[*word, *[pad] * (longest - len(word))] for word in words])  # (words, longest)
        self.mask = torch.tensor([[1] * len(word) + [0] * (longest - len(word)) for word in words])

    def __call__(self, network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor]:
        ids, mask = batch["input_ids"], batch["attention_mask"]
        prompts, rows = mask.sum(1), len(ids)
        last = ids.gather(1, prompts[:, None] - 1)  # (batch, 1): predicts a label's first token
        tokens = self.tokens.to(ids.device).repeat(rows, 1)  # (batch x words, longest)
        counted = self.mask.to(ids.device).repeat(rows, 1)
        ends = torch.cat([last.repeat_interleave(self.count, 0), tokens[:, :-1]], dim=1)
        read = torch.cat([torch.ones_like(counted[:, :1]), counted[:, :-1]], dim=1)
        run = self._from_kept if self.keeps else self._whole
        logits = run(network, ids, mask, prompts, ends, read)
        return (mean_log_likelihood(logits, tokens, counted).reshape(rows, self.count),)

    def _from_kept(
        self, network: Any, ids: Tensor, mask: Tensor, prompts: Tensor, ends: Tensor, read: Tensor
    ) -> Tensor:
        """The prompts but for their last tokens are read once, and their keys and values shared by all labels."""
        places = torch.arange(ids.shape[1], device=ids.device)
        before = mask * (places < prompts[:, None] - 1)
        width = int(before.sum(1).max())
        past = network.base_model(
            input_ids=ids[:, :width], attention_mask=before[:, :width], use_cache=True
        ).past_key_values
        past.batch_repeat_interleave(self.count)
        steps = torch.arange(ends.shape[1], device=ids.device)
        seen = torch.cat([before[:, :width].repeat_interleave(self.count, 0), read], dim=1)
        positions = (prompts - 1).repeat_interleave(self.count)[:, None] + steps
        return network(
            input_ids=ends, attention_mask=seen, position_ids=positions, past_key_values=past, use_cache=True
        ).logits

    def _whole(self, network: Any, ids: Tensor, mask: Tensor, prompts: Tensor, ends: Tensor, read: Tensor) -> Tensor:
        """Each prompt with each label, from its beginning."""
        starts = (prompts - 1).repeat_interleave(self.count)
        length = int(starts.max()) + ends.shape[1]
        whole = torch.zeros(len(ends), length, dtype=ids.dtype, device=ids.device)
        shown = torch.zeros_like(whole)
        whole[:, : ids.shape[1]] = ids.repeat_interleave(self.count, 0)[:, :length]
        shown[:, : ids.shape[1]] = mask.repeat_interleave(self.count, 0)[:, :length]
        places = starts[:, None] + torch.arange(ends.shape[1], device=ids.device)
        whole.scatter_(1, places, ends)
        shown.scatter_(1, places, read)
        logits = network(input_ids=whole, attention_mask=shown).logits
        return logits.gather(1, places[..., None].expand(-1, -1, logits.shape[-1]))
