"""Entailment: the text as the premise, a sentence about each label as the hypothesis."""

from typing import Any

import numpy as np
from torch import Tensor, nn

from hftransfer.described.base import Array, Asking, Reading
from hftransfer.described.choosing import entailing
from hftransfer.errors import HFTransferError
from hftransfer.functional.entailment import label_logits

PAIRS = 20_000  # that are tokenised together


class Entailment(Reading):
    """Each pair is read together, so the text is read once a label; pairs of like length share a batch."""

    name = "entailment"

    def __init__(self, asking: Asking) -> None:
        super().__init__(asking)
        self.independent = asking.multi_label
        found = entailing(self.network.config)
        assert found is not None
        self.entailment, self.contradiction = found
        if self.independent and self.contradiction is None:
            names = ", ".join(map(str, self.network.config.label2id))
            raise HFTransferError(
                f"multi_label: entailment is weighed against contradiction, and the model's classes are {names}; "
                "leave it out"
            )
        self._check_lengths()

    @classmethod
    def yes_or_no(cls, model: Any) -> bool:
        return True

    def _check_lengths(self) -> None:
        for template in self.prompts.templates:
            for hypothesis in self.prompts.filled(template):
                length = len(self.reader("", hypothesis)["input_ids"])
                if length >= self.asking.max_length:
                    raise HFTransferError(
                        f"max_length: '{hypothesis[:60]}' alone takes {length} tokens of {self.asking.max_length}; "
                        "raise it or describe labels in fewer words"
                    )

    def logits(self, prepared: Any) -> Array:
        texts = list(prepared["text"])
        return np.stack([self._by(template, texts) for template in self.prompts.templates])

    def _by(self, template: str, texts: list[str]) -> Array:
        """(rows, labels)."""
        hypotheses = self.prompts.filled(template)
        step = max(1, PAIRS // len(hypotheses))
        parts = [self._pairs(texts[start : start + step], hypotheses) for start in range(0, len(texts), step)]
        against = self.contradiction if self.independent else None
        told = label_logits(np.concatenate(parts), entailment=self.entailment, contradiction=against)
        return self.of_labels(told) / self.temperature

    def _pairs(self, texts: list[str], hypotheses: list[str]) -> Array:
        """(texts, hypotheses, classes of the model)."""
        premises = [text for text in texts for _ in hypotheses]
        made = self.reader(
            premises, hypotheses * len(texts), truncation="only_first", max_length=self.asking.max_length
        )
        names = [name for name in ("input_ids", "token_type_ids") if name in made]
        rows = [dict(zip(names, values, strict=True)) for values in zip(*(made[name] for name in names), strict=True)]

        def run(network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor]:
            return (network(**batch).logits,)

        found = self.over(rows, [len(row["input_ids"]) for row in rows], self.padded, self.network, run)
        return np.stack([logits for (logits,) in found]).reshape(len(texts), len(hypotheses), -1)
