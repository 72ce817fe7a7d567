"""Answers to prompts: a language model is trained on what it should say, and on nothing of what it is told."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from torch import Tensor, nn

from hftransfer import inference, models
from hftransfer.data import target_rows, targets, text
from hftransfer.data.spec import Spec
from hftransfer.errors import HFTransferError
from hftransfer.inputs import Inputs
from hftransfer.objectives.next_tokens import NextTokens
from hftransfer.tasks.base import Task

logger = logging.getLogger("hftransfer")
IGNORED = -100
Talk = Sequence[Mapping[str, str]]


class Answers(Task):
    """The messages of the role assistant, each after all that comes before it."""

    name = "causal_lm"
    metric = "loss"
    higher_is_better = False
    kinds = ("text",)

    @property
    def job(self) -> str:
        return "causal_lm"

    @property
    def head(self) -> dict[str, Any]:
        return {}

    @classmethod
    def read(
        cls, spec: Spec, splits: Any, *, seed: int, kind: str, known: Sequence[str] | None, max_samples: int | None
    ) -> tuple[DatasetDict, list[str]]:
        return targets.divided(
            spec, splits, seed=seed, label=None, max_samples=max_samples, encode=target_rows.encode_answers,
            strata=lambda rows: None,
        )  # fmt: skip

    def inputs(self, part: Dataset, model: Any, *, key: str, max_length: int, reader: Any = None) -> Inputs:
        reader = models.reader(model, "text") if reader is None else reader
        encoded = [encode(reader, talk, max_length) for talk in part["messages"]]
        rows = [row for row in encoded if row is not None]
        if not rows:
            raise HFTransferError(f"{key}: no answer fits into max_length {max_length}; raise it")
        if len(rows) < len(encoded):
            logger.info("%s: dropped %d rows whose answer is longer than max_length", key, len(encoded) - len(rows))
        lengths = [len(row["input_ids"]) for row in rows]
        return Inputs(rows, np.zeros(len(rows)), lambda batch: text.padded(reader, batch), lengths)

    def training(self, rows: Inputs) -> tuple[Sequence[Any], Any]:
        return rows.rows, lambda batch: _with_labels(rows, batch)

    def loss(
        self, logits: Tensor, labels: Tensor, *, weights: Any = None, gamma: float = 0.0, smoothing: float = 0.0,
        reduction: Any = "mean",
    ) -> Tensor:  # fmt: skip
        following = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
        options: dict[str, Any] = {"ignore_index": IGNORED, "label_smoothing": smoothing, "reduction": reduction}
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), following.flatten(), **options)

    def targets(self, labels: Sequence[Any]) -> Tensor:
        raise AssertionError("an answer's tokens are labels in their own places")

    def predict(self, network: nn.Module, rows: Inputs) -> np.ndarray:
        """(rows, 3) of each row's answers: nats, tokens, and tokens that were the likeliest."""
        predictions = NextTokens(network)

        def run(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor]:
            labels = batch.pop("labels")
            following = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
            nats, right = predictions.judged(model, batch, following)
            counted = (following != IGNORED).sum(1)
            return (torch.stack([nats.sum(1).double(), counted.double(), right.sum(1).double()], 1),)

        with torch.no_grad():
            found = inference.over(rows.rows, rows.lengths, lambda batch: _with_labels(rows, batch), network, run)
        return np.stack([one for (one,) in found])

    def score(self, outputs: Any, labels: Any) -> dict[str, float]:
        nats, tokens, right = outputs.sum(0)
        return {
            "loss": float(nats / tokens),
            "perplexity": float(np.exp(nats / tokens)),
            "token_accuracy": float(right / tokens),
            "exact_match": float((outputs[:, 1] == outputs[:, 2]).mean()),
        }

    def row_scores(self, outputs: Any, labels: Any) -> np.ndarray:
        return outputs[:, 0] / outputs[:, 1]

    def floor(self, train: Any, labels: Any) -> dict[str, float]:
        return {}


def _with_labels(rows: Inputs, batch: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    made = rows.batch(batch)
    labels = torch.full_like(made["input_ids"], IGNORED)
    labels[made["attention_mask"].bool()] = torch.tensor([label for row in batch for label in row["labels"]])
    return {**made, "labels": labels}


def encode(reader: Any, talk: Talk, max_length: int) -> dict[str, list[int]] | None:
    """`input_ids`, and `labels` that are the ids within answers and none elsewhere.

    The tokenizer's chat template is used where it has one. Without, messages follow each other with a space between,
    and a token that ends texts is taught at the end of each answer: also where the same token pads.

    Returns:
        At most `max_length` tokens, the oldest given up; None where the last answer alone is longer than fits behind
        one token.
    """
    pieces = _templated(reader, talk) if getattr(reader, "chat_template", None) else _plain(reader, talk)
    if not pieces[-1][1]:  # what follows the last answer teaches nothing
        pieces = pieces[:-1]
    ids = [token for tokens, _ in pieces for token in tokens]
    labels = [token if answer else IGNORED for tokens, answer in pieces for token in tokens]
    if len(pieces[-1][0]) >= max_length:
        return None
    return {"input_ids": ids[-max_length:], "labels": labels[-max_length:]}


def _plain(reader: Any, talk: Talk) -> list[tuple[list[int], bool]]:
    end = reader.eos_token_id if reader.eos_token_id is not None else reader.sep_token_id
    begin = reader("a")["input_ids"][:1]
    start = begin if begin and begin[0] in (reader.bos_token_id, reader.cls_token_id) else []
    pieces = [(start, False)] if start else []
    for number, message in enumerate(talk):
        answer = message["role"] == "assistant"
        joined = " " if number and not talk[number - 1]["content"][-1:].isspace() else ""
        ids = reader(joined + message["content"], add_special_tokens=False)["input_ids"]
        pieces.append(([*ids, end] if answer and end is not None else ids, answer))
    return pieces


def _templated(reader: Any, talk: Talk) -> list[tuple[list[int], bool]]:
    """What the template adds with each answer is the answer: its words and what ends its turn."""
    pieces: list[tuple[list[int], bool]] = []
    before: list[int] = []
    for number, message in enumerate(talk):
        if message["role"] != "assistant":
            continue
        prompt = _rendered(reader, talk[:number], add_generation_prompt=True)
        whole = _rendered(reader, talk[: number + 1], add_generation_prompt=False)
        if prompt[: len(before)] != before or whole[: len(prompt)] != prompt:
            raise HFTransferError(
                "data: the tokenizer's chat template changes what was said before, so answers cannot be told from "
                "prompts; give prompt and completion columns and a tokenizer without a template"
            )
        pieces += [(prompt[len(before) :], False), (whole[len(prompt) :], True)]
        before = whole
    return pieces


def _rendered(reader: Any, talk: Talk, *, add_generation_prompt: bool) -> list[int]:
    made = reader.apply_chat_template(
        list(talk), tokenize=True, add_generation_prompt=add_generation_prompt, return_dict=True
    )
    return list(made["input_ids"])
