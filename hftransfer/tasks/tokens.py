"""A class for each word, by the first piece of each: the other pieces are neither learnt nor judged."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from torch import Tensor, nn

from hftransfer import inference, metrics, models
from hftransfer.data import target_rows, targets, text
from hftransfer.data.read import quiet
from hftransfer.data.spec import Spec
from hftransfer.errors import HFTransferError
from hftransfer.functional.classification import IGNORED
from hftransfer.functional.entities import is_bio
from hftransfer.inputs import Inputs
from hftransfer.tasks.base import BesideTokens

logger = logging.getLogger("hftransfer")


class TokenClassification(BesideTokens):
    """A class for each word; entities are judged whole where the labels are B-, I- and O."""

    name = "token_classification"
    metric = "f1"

    def __init__(self, kind: str, names: Sequence[str], seen: str | None = None, padding: Any = None) -> None:
        super().__init__(kind, names, seen)
        self.metric = "entity_f1" if is_bio(names) else "macro_f1"

    @property
    def job(self) -> str:
        return "token_classification"

    @property
    def head(self) -> dict[str, Any]:
        return text.id2label(self.names)

    @classmethod
    def read(
        cls, spec: Spec, splits: Any, *, seed: int, kind: str, known: Sequence[str] | None, max_samples: int | None
    ) -> tuple[DatasetDict, list[str]]:
        label = targets.tag_column(targets.train_of(splits, spec).features, spec)
        return targets.divided(
            spec, splits, seed=seed, label=label, known=known, max_samples=max_samples,
            encode=target_rows.encode_word_tags, strata=lambda rows: None,
        )  # fmt: skip

    def reader(self, model: Any, reader: Any = None) -> Any:
        reader = super().reader(model, reader)
        if not reader.is_fast:
            raise HFTransferError(
                f"model: its tokenizer ({type(reader).__name__}) cannot tell which piece is of which word; choose a "
                "checkpoint with a tokenizer.json"
            )
        return models.for_words(reader)

    def inputs(self, part: Dataset, model: Any, *, key: str, max_length: int, reader: Any = None) -> Inputs:
        reader = self.reader(model, reader)
        rows = _encoded(part, reader, max_length)
        labels = np.empty(len(rows), dtype=object)
        for number, row in enumerate(rows["labels"]):
            labels[number] = np.asarray([label for label in row if label != IGNORED], dtype=int)
        lost = sum(map(len, part["label"])) - sum(map(len, labels))
        if lost:
            logger.info("%s: %d words are neither learnt nor judged: max_length, or no piece of their own", key, lost)
        return Inputs(_Rows(rows), labels, lambda batch: text.padded(reader, batch), text.lengths(rows))

    def predict(self, network: nn.Module, rows: Inputs) -> Any:
        """(rows,) each an array (words, classes) of logits at the words' first pieces."""

        def run(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            labels = batch.pop("labels")
            return model(**batch).logits, labels

        with torch.no_grad():
            found = inference.over(rows.rows, rows.lengths, lambda batch: self.batch(rows, batch), network, run)
        kept = np.empty(len(found), dtype=object)
        for number, (logits, labels) in enumerate(found):
            kept[number] = logits[labels != IGNORED]
        return kept

    def score(self, outputs: Any, labels: Any) -> dict[str, float]:
        return metrics.tags(_classes(outputs), list(labels), self.names)

    def row_scores(self, outputs: Any, labels: Any) -> np.ndarray:
        found = zip(_classes(outputs), labels, strict=True)
        return np.array([metrics.tags([row], [true], self.names)[self.metric] for row, true in found])

    def floor(self, train: Any, labels: Any) -> dict[str, float]:
        most = np.bincount(np.concatenate(list(train))).argmax()
        return {"majority_token_accuracy": float((np.concatenate(list(labels)) == most).mean())}

    def evidence(self, outputs: Any, labels: Any) -> dict[str, Any]:
        if is_bio(self.names):
            return {"per_class": metrics.per_entity(_classes(outputs), list(labels), self.names)}
        found, true = np.concatenate(_classes(outputs)), np.concatenate(list(labels))
        return {"per_class": metrics.per_class(found, true, self.names)}


def _classes(outputs: Any) -> list[np.ndarray]:
    return [row.argmax(-1) for row in outputs]


class _Rows(Sequence[Any]):
    """Rows as mappings, of a Dataset."""

    def __init__(self, rows: Dataset) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: Any) -> Any:
        return self.rows[int(number)]


def _encoded(part: Dataset, reader: Any, max_length: int) -> Dataset:
    """`input_ids`, and `labels` for each of them: a word's own at its first piece, else none."""

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        made = reader(batch["tokens"], is_split_into_words=True, truncation=True, max_length=max_length)
        aligned = []
        for number, labels in enumerate(batch["label"]):
            words = made.word_ids(number)
            first = [word is not None and word != before for word, before in zip(words, [None, *words], strict=False)]
            aligned.append([labels[word] if here else IGNORED for word, here in zip(words, first, strict=True)])
        return {"input_ids": made["input_ids"], "labels": aligned}

    with quiet():
        return part.map(encode, batched=True, remove_columns=["tokens", "label"], keep_in_memory=len(part) < 100_000)
