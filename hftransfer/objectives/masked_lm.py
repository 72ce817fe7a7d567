"""Fill in the blank on text: hidden tokens are told from both sides (BERT)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hftransfer import data, models, scratch
from hftransfer.objectives import OBJECTIVES
from hftransfer.objectives.base import Losses, Objective
from hftransfer.objectives.masked_positions import MaskedPositions, check_packing
from hftransfer.objectives.text import check_positions, longest, shortened, text_measures

SHOWN = 5  # rows with filled blanks in the report
CONTEXT = 6  # tokens shown on each side of a blank


class MaskedLM(Objective):
    """Devlin et al. 2018; continued on a domain's texts as in Gururangan et al. 2020."""

    name = "masked_lm"
    kind = "text"
    job = "masked_lm"
    loss_name = "masked-LM loss"
    unit = "masked tokens"
    title = "Masked-LM pretraining on unlabelled text"
    citations = (
        "Devlin et al. 2018, BERT, arXiv:1810.04805",
        "Gururangan et al. 2020, Don't Stop Pretraining, arXiv:2004.10964",
    )
    settings = OBJECTIVES["masked_lm"].settings

    def __init__(self, network: nn.Module, reader: Any, settings: Mapping[str, Any], *, seed: int) -> None:
        super().__init__(network, reader, settings, seed=seed)
        self.first_position = models.first_position(network)
        if self.options["pack"]:
            check_packing(network, self.first_position)
        self.positions = MaskedPositions(network)

    @classmethod
    def check(cls, config: Any, reader: Any, settings: Mapping[str, Any]) -> None:
        first = models.first_position(models.skeleton(config, cls.job))
        check_positions(config, settings["max_length"], first)

    @classmethod
    def new_reader(cls, config: Any, content: Any) -> Any:
        length = config.max_position_embeddings
        return scratch.learn_tokenizer(content["text"], config.vocab_size, masked=True, max_length=length)

    def rows(self, content: Any, *, key: str) -> Any:
        length = longest(self.options["max_length"])
        return data.encode_documents(content["text"], self.reader, max_length=length, pack=self.options["pack"])

    def lengths(self, rows: Any) -> Sequence[int] | None:
        return list(rows["length"])

    def at(self, row: Mapping[str, Any], progress: float) -> Mapping[str, Any]:
        return {**shortened(row, self.options["max_length"], progress), "progress": progress}

    def collator(self, *, fixed: bool) -> Any:
        return data.MaskedTextCollator(
            self.reader,
            mask_rate=self.options["mask_rate"],
            whole_word=self.options["whole_word"],
            seed=self.seed,
            fixed=fixed,
            first_position=self.first_position,
        )

    def count(self, batch: Mapping[str, Tensor]) -> Tensor:
        return (batch["labels"] != -100).sum()

    def losses(self, runner: nn.Module, batch: dict[str, Tensor]) -> Losses:
        inputs = dict(batch)
        labels = inputs.pop("labels")
        where = labels != -100
        logits = self.positions.logits(runner, inputs, where)
        nats = cross_entropy(logits.float(), labels[where], reduction="none")
        sums = nats.new_zeros(len(labels)).index_add(0, where.nonzero()[:, 0], nats)
        return Losses(sums, where.sum(1))

    def measures(self, loss: float, rows: Any) -> dict[str, float]:
        special = sum(sum(mask) for mask in rows["special_tokens_mask"])
        return text_measures(loss, sum(rows["length"]) - special, sum(rows["num_bytes"]))

    @torch.no_grad()
    def show(self, rows: Any) -> list[tuple[str, str, str]]:
        """(text around a blank, hidden token, what the network puts there) of the first blank of a few rows."""
        network = self.network.eval()
        device = next(network.parameters()).device
        chosen = [rows[i] for i in range(min(SHOWN, len(rows)))]
        batch = {name: value.to(device) for name, value in self.collator(fixed=True)(chosen).items()}
        labels = batch.pop("labels")
        logits = network(**batch).logits
        shown = []
        for row in range(len(chosen)):
            blanks = (labels[row] != -100).nonzero()[:, 0]
            if len(blanks) == 0:
                continue
            place = int(blanks[len(blanks) // 2])
            before = chosen[row]["input_ids"][max(place - CONTEXT, 0) : place]
            behind = chosen[row]["input_ids"][place + 1 : place + 1 + CONTEXT]
            around = f"{self._said(before)} ____ {self._said(behind)}"
            guess = self._said([int(logits[row, place].argmax())])
            shown.append((around, self._said([int(labels[row, place])]), guess))
        return shown

    def _said(self, ids: Sequence[int]) -> str:
        return self.reader.decode(ids, skip_special_tokens=True).strip()

    def picture(self, before: Any, after: Any) -> dict[str, Any]:
        rows = [[around, hidden, guess, after[i][2]] for i, (around, hidden, guess) in enumerate(before)]
        columns = ["held-out text", "hidden", "filled in before", "filled in after"]
        return {"samples": {"title": "Filled blanks", "columns": columns, "rows": rows}}
