"""Answers to prompts: a language model is trained on what it should say, and on nothing of what it is told."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from hftransfer import inference, inputs, models
from hftransfer.data import target_rows, targets, text
from hftransfer.data.spec import Spec
from hftransfer.data.target_rows import ANSWERING
from hftransfer.errors import HFTransferError, renamed
from hftransfer.functional.classification import IGNORED, cross_entropy
from hftransfer.inputs import Inputs
from hftransfer.objectives.next_tokens import NextTokens
from hftransfer.tasks.base import BesideTokens

logger = logging.getLogger("hftransfer")
Talk = Sequence[Mapping[str, str]]


class Answers(BesideTokens):
    """The messages of the role assistant, each after all that comes before it."""

    name = "causal_lm"
    metric = "loss"
    higher_is_better = False

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

    def reader(self, model: Any, reader: Any = None) -> Any:
        """As it is: to write on, texts are padded before, which a tokenizer may be set for."""
        return models.reader(model, "text") if reader is None else reader

    def inputs(self, part: Dataset, model: Any, *, key: str, max_length: int, reader: Any = None) -> Inputs:
        config = models.config_of(model)
        _check_order(config)
        reader = inputs.padding_behind(self.reader(model, reader), config)
        with renamed("data", key):
            encoded = [encode(reader, talk, max_length) for talk in part["messages"]]
        rows = [row for row in encoded if row is not None]
        if not rows:
            raise HFTransferError(f"{key}: no answer fits into max_length {max_length}; raise it")
        if len(rows) < len(encoded):
            logger.info("%s: dropped %d rows whose answer is longer than max_length", key, len(encoded) - len(rows))
        lengths = [len(row["input_ids"]) for row in rows]
        return Inputs(rows, np.zeros(len(rows)), lambda batch: text.padded(reader, batch), lengths)

    def loss(
        self, logits: Tensor, labels: Tensor, *, weights: Any = None, gamma: float = 0.0, smoothing: float = 0.0,
        reduction: Any = "mean",
    ) -> Tensor:  # fmt: skip
        return cross_entropy(
            logits, following(labels), weights=weights, gamma=gamma, smoothing=smoothing, reduction=reduction
        )

    def predict(self, network: nn.Module, rows: Inputs) -> np.ndarray:
        """(rows, 3) of each row's answers: nats, tokens, and tokens that were the likeliest."""
        predictions = NextTokens(network)

        def run(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor]:
            labels = batch.pop("labels")
            wanted = following(labels)
            nats, right = predictions.judged(model, batch, wanted)
            counted = (wanted != IGNORED).sum(1)
            return (torch.stack([nats.sum(1).double(), counted.double(), right.sum(1).double()], 1),)

        with torch.no_grad():
            found = inference.over(rows.rows, rows.lengths, lambda batch: self.batch(rows, batch), network, run)
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


def _check_order(config: Any) -> None:
    """Refuses a network that sees the tokens that it should tell."""
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        raise HFTransferError(
            f"model: {config.model_type} is an encoder, and causal_lm needs a decoder, which sees the past only; "
            "choose one (GPT-2, Llama), or make it one with architecture: {is_decoder: true}"
        )


def following(labels: Tensor) -> Tensor:
    """(batch, length) each place's next label."""
    return torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)


def encode(reader: Any, talk: Talk, max_length: int) -> dict[str, list[int]] | None:
    """`input_ids`, and `labels` that are the ids within answers and none elsewhere.

    The tokenizer's chat template is used where it has one. Without, messages follow each other with a space between
    where there is none, and a token that ends texts is taught at the end of each answer: also where that token pads.

    Returns:
        At most `max_length` tokens, the oldest given up (but one that begins texts); None where the last answer does
        not fit whole, or has nothing to tell.
    """
    pieces = _templated(reader, talk) if getattr(reader, "chat_template", None) else _plain(reader, talk)
    while pieces and not pieces[-1][1]:  # what follows the last answer teaches nothing
        pieces.pop()
    ids = [token for tokens, _ in pieces for token in tokens]
    labels = [token if answer else IGNORED for tokens, answer in pieces for token in tokens]
    kept = 1 if _begins(reader, ids) else 0
    cut = slice(kept, kept + max(len(ids) - max_length, 0))
    told = len(pieces[-1][0]) if pieces else 0
    if told > max_length - max(kept, 1):
        return None
    del ids[cut], labels[cut]
    return {"input_ids": ids, "labels": labels} if any(label != IGNORED for label in labels[1:]) else None


def _begins(reader: Any, ids: Sequence[int]) -> bool:
    return bool(ids) and ids[0] in (reader.bos_token_id, reader.cls_token_id)


def _plain(reader: Any, talk: Talk) -> list[tuple[list[int], bool]]:
    end = reader.eos_token_id if reader.eos_token_id is not None else reader.sep_token_id
    first = reader("a")["input_ids"][:1]
    pieces = [(first, False)] if _begins(reader, first) else []
    said, known = "", list[int]()  # since the last end
    for message in talk:
        content, answer = message["content"], message["role"] == ANSWERING
        apart = not said or said[-1].isspace() or content[:1].isspace()
        added = content if apart else f" {content}"
        new = _continued(reader, said, known, added)
        pieces.append(([*new, end] if answer and end is not None else new, answer))
        said, known = ("", []) if answer else (said + added, known + new)
    return pieces


def _continued(reader: Any, said: str, known: list[int], added: str) -> list[int]:
    """The ids of what is added to a text of known ids, which stay: it is read as it will be when it is alone."""
    whole: list[int] = reader(said + added, add_special_tokens=False, verbose=False)["input_ids"]
    if whole[: len(known)] == known:
        return whole[len(known) :]
    return list(reader(added, add_special_tokens=False, verbose=False)["input_ids"])  # a piece spans both


def _templated(reader: Any, talk: Talk) -> list[tuple[list[int], bool]]:
    """What the template adds with each answer is the answer: its words and what ends its turn.

    What is said before anything was asked is no answer.
    """
    pieces: list[tuple[list[int], bool]] = []
    said, known = "", list[int]()
    for number, message in enumerate(talk):
        if message["role"] != ANSWERING or not number:
            continue
        prompt = _rendered(reader, talk[:number], add_generation_prompt=True)
        whole = _rendered(reader, talk[: number + 1], add_generation_prompt=False)
        if not prompt.startswith(said) or not whole.startswith(prompt):
            raise HFTransferError(
                "data: the tokenizer's chat template changes what was said before, so answers cannot be told from "
                "prompts; give prompt and completion columns and a tokenizer without a template"
            )
        asked = _continued(reader, said, known, prompt[len(said) :])
        known = known + asked
        answer = _continued(reader, prompt, known, whole[len(prompt) :])
        said, known = whole, known + answer
        ended = len(answer) - answer[::-1].index(reader.eos_token_id) if reader.eos_token_id in answer else len(answer)
        pieces += [(asked, False), (answer[:ended], True), (answer[ended:], False)]
    return pieces


def _rendered(reader: Any, talk: Talk, *, add_generation_prompt: bool) -> str:
    try:
        return str(reader.apply_chat_template(list(talk), tokenize=False, add_generation_prompt=add_generation_prompt))
    except Exception as error:  # a template raises what it likes
        roles = ", ".join(message["role"] for message in talk)
        raise HFTransferError(
            f"data: the tokenizer's chat template refuses messages of the roles {roles} ({models.brief(error)})"
        ) from error
