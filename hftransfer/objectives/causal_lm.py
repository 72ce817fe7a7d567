"""Order prediction on text: the next token is told from those before it (GPT, or a recurrent network)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hftransfer import models, scratch
from hftransfer.data.causal_text import IGNORED, CausalTextCollator, encode_causal, predicted
from hftransfer.errors import HFTransferError
from hftransfer.objectives import OBJECTIVES
from hftransfer.objectives.base import Losses, Objective
from hftransfer.objectives.next_tokens import NextTokens, check_apart, check_order
from hftransfer.objectives.text import check_positions, longest, shortened, text_measures

SHOWN = 4  # continued texts in the report
BEGINNING = 12  # tokens that are given of each
CONTINUATION = 24  # tokens that are written on
UNLIMITED = 10**30  # transformers' own word for a tokenizer of a network without positions


class CausalLM(Objective):
    """Radford et al. 2019; the loss in chunks after Wijmans et al. 2024.

    A document's first token is predicted from the tokenizer's beginning token, and counted, where it has one.
    """

    name = "causal_lm"
    kind = "text"
    job = "causal_lm"
    loss_name = "causal-LM loss"
    unit = "predicted tokens"
    title = "Next-token pretraining on unlabelled text"
    citations = (
        "Radford et al. 2019, Language Models are Unsupervised Multitask Learners",
        "Wijmans et al. 2024, Cut Your Losses in Large-Vocabulary Language Models, arXiv:2411.09009",
    )
    settings = OBJECTIVES["causal_lm"].settings

    def __init__(self, network: nn.Module, reader: Any, settings: Mapping[str, Any], *, seed: int) -> None:
        super().__init__(network, reader, settings, seed=seed)
        self.predictions = NextTokens(network)
        check_order(self.predictions)
        if self.options["pack"]:
            check_apart(self.predictions)

    @classmethod
    def check(cls, config: Any, reader: Any, settings: Mapping[str, Any]) -> None:
        from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

        both_sides = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(
            config, "is_decoder", False
        )
        if both_sides or getattr(config, "is_encoder_decoder", False):
            raise HFTransferError(
                f"model: {config.model_type} is an encoder, and causal_lm needs a decoder, which sees the past only; "
                "choose one (GPT-2, Llama), or objective: masked_lm"
            )
        if min(_ends(settings["max_length"])) < 2:
            raise HFTransferError("max_length: a row needs a token to tell from and one to tell; give at least 2")
        check_positions(config, settings["max_length"])

    @classmethod
    def new_reader(cls, config: Any, content: Any) -> Any:
        length = getattr(config, "max_position_embeddings", None) or UNLIMITED
        return scratch.learn_tokenizer(content["text"], config.vocab_size, masked=False, max_length=length)

    def rows(self, content: Any, *, key: str) -> Any:
        length = longest(self.options["max_length"])
        try:
            return encode_causal(content["text"], self.reader, max_length=length, pack=self.options["pack"])
        except HFTransferError as error:
            raise HFTransferError(f"{key}: {error}") from error

    def lengths(self, rows: Any) -> Sequence[int] | None:
        return None if self.options["pack"] else list(rows["length"])

    def at(self, row: Mapping[str, Any], progress: float) -> Mapping[str, Any]:
        return {**shortened(row, self.options["max_length"], progress), "progress": progress}

    def collator(self, *, fixed: bool) -> Any:
        return CausalTextCollator(self.reader, max_length=longest(self.options["max_length"]))

    def count(self, batch: Mapping[str, Tensor]) -> Tensor:
        return (batch["shift_labels"] != IGNORED).sum()

    def losses(self, runner: nn.Module, batch: dict[str, Tensor]) -> Losses:
        inputs = dict(batch)
        labels = inputs.pop("shift_labels")
        nats = self.predictions.nats(runner, inputs, labels)
        return Losses(nats.sum(1), (labels != IGNORED).sum(1))

    def measures(self, loss: float, rows: Any) -> dict[str, float]:
        """An end token costs like any other and has no bytes, so that texts of any tokenizer compare."""
        return text_measures(loss, predicted(rows), sum(rows["num_bytes"]))

    @torch.no_grad()
    def show(self, rows: Any) -> list[tuple[str, str]]:
        """(beginning of a held-out text, what the network writes on, greedily) of a few rows."""
        network = self.network.eval()
        device = next(network.parameters()).device
        reach = getattr(network.config, "max_position_embeddings", None) or UNLIMITED
        shown = []
        for ids in _beginnings(rows):
            given = torch.tensor([ids], device=device)
            with models.quiet_transformers():
                written = network.generate(
                    given,
                    attention_mask=torch.ones_like(given),
                    max_new_tokens=max(1, min(CONTINUATION, reach - len(ids))),
                    do_sample=False,
                    num_beams=1,
                    eos_token_id=self.reader.eos_token_id,
                    pad_token_id=self.reader.pad_token_id,
                )
            shown.append((self._said(ids), self._said(written[0, len(ids) :].tolist())))
        return shown

    def _said(self, ids: Sequence[int]) -> str:
        return str(self.reader.decode(ids, skip_special_tokens=True)).strip()

    def picture(self, before: Any, after: Any) -> dict[str, Any]:
        columns = ["held-out beginning", "written on after"]
        table = [[beginning, written] for beginning, written in after]
        if before is not None:
            columns.insert(1, "written on before")
            table = [[beginning, old, new] for (beginning, old), (_, new) in zip(before, after, strict=True)]
        return {
            "samples": {"title": "Continued texts (the likeliest token each time)", "columns": columns, "rows": table}
        }


def _ends(max_length: int | Sequence[int]) -> Sequence[int]:
    return [max_length] if isinstance(max_length, int) else max_length


def _beginnings(rows: Any) -> Iterator[list[int]]:
    """The first tokens of the first document of a few rows, of those that are long enough where there are any."""
    longer = [number for number, length in enumerate(rows["length"]) if length > BEGINNING]
    for number in (longer or range(len(rows)))[:SHOWN]:
        row = rows[number]
        first = row["segment_ids"].count(0) if "segment_ids" in row else row["length"]
        yield row["input_ids"][: max(1, min(BEGINNING, first - 1))]
