"""Similarity: texts and descriptions of labels as vectors of one encoder."""

from typing import Any

from datasets import Dataset

from hftransfer import models
from hftransfer.described.base import NOTHING, Array, Asking, Near
from hftransfer.functional.unit import unit
from hftransfer.vectors.embedder import Embedder, settled


class Similarity(Near):
    """Each text is embedded once, whatever number of labels and templates there is."""

    name = "similarity"
    temperature = 0.05  # at which sentence encoders are trained: cosines lie close together

    def __init__(self, asking: Asking) -> None:
        super().__init__(asking)
        manner = settled(asking.model, max_length=asking.max_length)
        self.embedder = Embedder(manner, bf16=self.bf16, tokens_per_batch=asking.tokens_per_batch)
        self.describe(self.embedder.texts)

    @classmethod
    def check(cls, asking: Asking) -> str:
        settled(asking.model, max_length=asking.max_length)
        return super().check(asking)

    def vectors(self, prepared: Any) -> Array:
        return unit(self.embedder(prepared, key="data").vectors)

    def against(self, vectors: Array, prototypes: Array) -> Array:
        return vectors @ prototypes.T / self.temperature

    def empty(self) -> Array:
        """Of a tokenizer that adds no tokens of its own, the empty text has nothing to embed."""
        mask = self.embedder.reader.mask_token
        texts = [*NOTHING, *([mask] if mask else [])]
        real = [text for text in texts if self.embedder.reader(text)["input_ids"]]
        vectors = self.vectors(Dataset.from_dict({"text": real}))
        return self.against(vectors, self.prototypes)

    def notes(self) -> list[str]:
        how = f"vectors of {models.public_name(self.asking.model)}: {self.embedder.manner.says}"
        return [*super().notes(), f"{how}; cosines over {self.temperature:g}"]
