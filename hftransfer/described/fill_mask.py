"""Filling a blank: which label's word a masked language model would put beside the text.

Only the rows of the output layer that label words need are kept: no place has logits of the whole vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hftransfer.described import cloze
from hftransfer.described.base import NOTHING, Array, Asking, Reading
from hftransfer.described.labels import LABEL
from hftransfer.errors import HFTransferError
from hftransfer.functional.label_likelihood import mean_log_share


class FillMask(Reading):
    """A word of several pieces is asked for with as many masks: the mean of the pieces' log shares at their masks."""

    name = "fill_mask"

    def __init__(self, asking: Asking) -> None:
        super().__init__(asking)
        self.pieces = [self._pieces(template) for template in self.prompts.templates]
        self.candidates = sorted({piece for words in self.pieces for word in words for piece in word})
        self.places = {piece: place for place, piece in enumerate(self.candidates)}
        narrow(self.network, self.candidates)

    def _pieces(self, template: str) -> list[list[int]]:
        """The tokens of each of all descriptions, as they stand in a template."""
        before = template[: template.index(LABEL)]
        space = " " if before.endswith(" ") else ""
        found = []
        for word in self.prompts.words:
            ids = list(self.reader(space + word, add_special_tokens=False)["input_ids"])
            if not ids or self.reader.unk_token_id in ids:
                why = "is no word of" if ids else "has no token in"
                raise HFTransferError(f"labels: '{word}' {why} the model's vocabulary; describe it otherwise")
            found.append(ids)
        return found

    def logits(self, prepared: Any) -> Array:
        mask = self.reader.mask_token
        texts = [text.replace(mask, "") for text in prepared["text"]]  # a mask in a text is no question
        return np.stack([self._by(*asked, texts) for asked in zip(self.prompts.templates, self.pieces, strict=True)])

    def _by(self, template: str, words: Sequence[Sequence[int]], texts: list[str]) -> Array:
        """(rows, labels)."""
        scores = np.zeros((len(texts), len(words)))
        for count in sorted({len(word) for word in words}):
            asked = [place for place, word in enumerate(words) if len(word) == count]
            scores[:, asked] = self._filled(template, count, [words[place] for place in asked], texts)
        return self.of_labels(scores) / self.temperature

    def _filled(self, template: str, count: int, words: Sequence[Sequence[int]], texts: list[str]) -> Array:
        """(rows, words) of `count` pieces each: mean log shares."""
        blank = template.replace(LABEL, self.reader.mask_token * count)
        rows = [{"input_ids": ids} for ids in cloze.rows(self.reader, texts, blank, self.asking.max_length)]
        wanted = torch.tensor([[self.places[piece] for piece in word] for word in words])  # (words, count)

        def run(network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor]:
            masked = batch["input_ids"] == self.reader.mask_token_id
            logits = network(**batch).logits[masked].reshape(len(masked), count, -1)  # (batch, count, candidates)
            asked = wanted.to(logits.device)
            return (torch.stack([mean_log_share(logits, word) for word in asked], dim=1),)

        found = self.over(rows, [len(row["input_ids"]) for row in rows], self.padded, self.network, run)
        return np.stack([scores for (scores,) in found])

    def nothing(self) -> list[str]:
        return list(NOTHING)

    def notes(self) -> list[str]:
        several = {len(word) for words in self.pieces for word in words} != {1}
        how = "words of several pieces are asked for with as many masks, by the mean of their pieces' log shares"
        return [*super().notes(), *([how] if several else [])]


def narrow(network: nn.Module, tokens: Sequence[int]) -> None:
    """Keeps the rows of some tokens in the output layer; logits are then of these, in their order."""
    whole = network.get_output_embeddings()
    if not isinstance(whole, nn.Linear):
        raise HFTransferError(
            f"model: {type(network).__name__} has no plain output layer over its words; choose another checkpoint"
        )
    kept = nn.Linear(whole.in_features, len(tokens), bias=whole.bias is not None)
    kept.weight = nn.Parameter(whole.weight[list(tokens)].detach().clone(), requires_grad=False)
    if whole.bias is not None:
        kept.bias = nn.Parameter(whole.bias[list(tokens)].detach().clone(), requires_grad=False)
    network.set_output_embeddings(kept)
