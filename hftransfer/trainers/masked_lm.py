"""Masked-language modelling that computes the vocabulary projection at masked positions only.

`MaskedLMTrainer` overrides one method, `compute_loss`: same loss and gradients as the stock model (which projects
every token and throws 85 % of it away), at about half the cost for a small encoder.
"""

import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hftransfer.errors import HFTransferError
from hftransfer.trainers.exact import ExactTrainer

logger = logging.getLogger("hftransfer")
_LEAKS = "pretrain: pack: {} does not keep packed documents apart; set pack: false"


class MaskedPositions:
    """Runs any `AutoModelForMaskedLM` so that its head sees the chosen positions only.

    The model's own code does everything: a hook hands the head `(1, chosen, width)` states instead of
    `(batch, length, width)`. That is right where the head works on each position by itself, as BERT's, RoBERTa's,
    DistilBERT's, ELECTRA's and ModernBERT's do; `sparse` says whether it holds for this model, and without it
    the logits are chosen after a full projection.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.where = model, None
        model.base_model.register_forward_hook(self._choose)
        self.sparse = self._agrees()
        if not self.sparse:
            logger.info("%s: its head is not per position; all positions are projected", type(model).__name__)

    def _choose(self, module: nn.Module, arguments: Any, output: Any) -> Any:
        if self.where is not None:
            output.last_hidden_state = output.last_hidden_state[self.where][None]  # (1, chosen, width)
        return output

    def logits(self, runner: nn.Module, inputs: dict[str, Tensor], where: Tensor) -> Tensor:
        """(chosen, vocabulary) logits at the True positions of `where` (batch, length).

        `runner` is the model, or what wraps it (DistributedDataParallel).
        """
        if not self.sparse:
            return runner(**inputs).logits[where]
        self.where = where
        try:
            return runner(**inputs).logits[0]
        finally:
            self.where = None

    @torch.no_grad()
    def _agrees(self) -> bool:
        """Compares both ways once, on a few tokens."""
        model, training = self.model, self.model.training
        model.eval()
        device = next(model.parameters()).device
        ids = torch.arange(8, device=device).reshape(2, 4) % model.config.vocab_size
        where = torch.tensor([[False, True, True, False], [True, False, False, True]], device=device)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        dense = model(**inputs).logits[where]
        try:
            self.sparse = True
            close = torch.allclose(self.logits(model, inputs, where), dense, rtol=1e-3, atol=1e-4)
        except (RuntimeError, AttributeError, ValueError, IndexError):
            close = False  # a head that wants the whole sequence
        model.train(training)
        return close


class MaskedLMTrainer(ExactTrainer):
    """Continues (or starts) masked-LM training; batches come from `data.masked_text.MaskedTextCollator`."""

    def __init__(self, *, positions: MaskedPositions, **rest: Any) -> None:
        super().__init__(**rest)
        self.positions = positions
        self.model_accepts_loss_kwargs = True  # the loss is a sum over the global number of masked tokens

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        where = labels != -100
        logits = self.positions.logits(model, inputs, where)
        total = cross_entropy(logits.float(), labels[where], reduction="sum")
        count = where.sum() if num_items_in_batch is None else num_items_in_batch
        # the count is over all processes, whose gradients are averaged
        loss = total / count.clamp(min=1) * self.accelerator.num_processes
        return (loss, logits) if return_outputs else loss


@torch.no_grad()
def masked_nats(positions: MaskedPositions, batches: Iterable[dict[str, Tensor]]) -> Tensor:
    """What each row's masked tokens cost, on one process.

    Returns:
        (rows, 2): summed nats and number of masked tokens of each row, in the batches' order, on the CPU.
    """
    model = positions.model
    device = next(model.parameters()).device
    model.eval()
    found = []
    for batch in batches:
        inputs = {name: value.to(device) for name, value in batch.items()}
        labels = inputs.pop("labels")
        where = labels != -100
        logits = positions.logits(model, inputs, where)
        nats = cross_entropy(logits.float(), labels[where], reduction="none")
        rows = where.nonzero()[:, 0]
        sums = torch.zeros(len(labels), device=device).index_add_(0, rows, nats)
        found.append(torch.stack([sums, where.sum(1).float()], dim=1).cpu())
    return torch.cat(found) if found else torch.zeros(0, 2)


@torch.no_grad()
def check_packing(model: nn.Module, first_position: int) -> None:
    """Makes sure that a model keeps packed documents apart: some ignore a mask of pairs without a word.

    Raises:
        HFTransferError: when a document's states change with its neighbour in the row.
    """
    if "sliding_attention" in (getattr(model.config, "layer_types", None) or ()):
        raise HFTransferError(_LEAKS.format(type(model).__name__))  # a mask of pairs would replace the window
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    ids = torch.arange(10, 16, device=device)[None] % model.config.vocab_size  # two documents of three tokens
    alone = model(input_ids=ids[:, :3], attention_mask=torch.ones_like(ids[:, :3])).logits
    segments = torch.tensor([0, 0, 0, 1, 1, 1], device=device)
    apart = segments[:, None] != segments[None]
    mask = torch.zeros(1, 1, 6, 6, device=device).masked_fill(apart, torch.finfo(torch.float32).min)
    positions = torch.arange(3, device=device).repeat(2)[None] + first_position
    try:
        packed = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[:, :3]
        kept = torch.allclose(packed, alone, rtol=1e-3, atol=1e-4)
    except (RuntimeError, ValueError, TypeError, IndexError):
        kept = False
    model.train(training)
    if not kept:
        raise HFTransferError(_LEAKS.format(type(model).__name__))
