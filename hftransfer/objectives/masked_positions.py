"""The vocabulary projection at masked positions only, and whether packed documents stay apart.

Same loss and gradients as the stock model, which projects every token and throws 85 % of it away, at about half the
cost for a small encoder.
"""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from hftransfer.errors import HFTransferError

logger = logging.getLogger("hftransfer")
_LEAKS = "pretrain: pack: {} does not keep packed documents apart; set pack: false"


class MaskedPositions:
    """Runs any `AutoModelForMaskedLM` so that what follows its last attention sees the chosen positions only.

    The model's own code does everything: a hook hands the head `(1, chosen, width)` states instead of
    `(batch, length, width)`; in BERT's relatives another does so already before the last block's feed-forward. That
    is right where each position is worked on by itself, as in BERT, RoBERTa, DistilBERT, ELECTRA, ALBERT and
    ModernBERT. What is right for this model is tried once: `sparse` says whether the head may see the chosen positions
    alone, `early` whether the last block may. Without `sparse` the logits are chosen after a full projection.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.where = model, None
        self.early = self.sparse = self.within_block = False
        model.base_model.register_forward_hook(self._choose)
        after_attention = _after_last_attention(model.base_model)
        if after_attention is not None:
            after_attention.register_forward_pre_hook(self._choose_early)
        self.sparse = self._agrees()
        if self.sparse and after_attention is not None:
            self.early = True
            self.early = self._agrees()
        if not self.sparse:
            logger.info("%s: its head is not per position; all positions are projected", type(model).__name__)

    def _choose(self, module: nn.Module, arguments: Any, output: Any) -> Any:
        if self.where is not None and not self.within_block:
            output.last_hidden_state = output.last_hidden_state[self.where][None]  # (1, chosen, width)
        return output

    def _choose_early(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self.where is not None and self.within_block:
            return tuple(states[self.where][None] for states in arguments)  # attended, residual
        return arguments

    def logits(self, runner: nn.Module, inputs: dict[str, Tensor], where: Tensor) -> Tensor:
        """(chosen, vocabulary) logits at the True positions of `where` (batch, length).

        `runner` is the model, or what wraps it (DistributedDataParallel).
        """
        if not self.sparse:
            return runner(**inputs).logits[where]
        return self._sparse_logits(runner, inputs, where)

    def _sparse_logits(self, runner: nn.Module, inputs: dict[str, Tensor], where: Tensor) -> Tensor:
        # gradient checkpointing runs a block again when `where` is no longer set
        again = any(getattr(module, "gradient_checkpointing", False) for module in self.model.modules())
        self.where, self.within_block = where, self.early and not again
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
            close = torch.allclose(self._sparse_logits(model, inputs, where), dense, rtol=1e-3, atol=1e-4)
        except (RuntimeError, AttributeError, ValueError, IndexError):
            close = False  # code that wants the whole sequence
        model.train(training)
        return close


def _after_last_attention(encoder: nn.Module) -> nn.Module | None:
    """In BERT's relatives: what adds the last attention's result to the residual, both its arguments per position."""
    found = [module for name, module in encoder.named_modules() if name.endswith("attention.output")]
    return found[-1] if found else None


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
    two = ids.reshape(2, 3)
    alone = model(input_ids=two, attention_mask=torch.ones_like(two)).logits
    segments = torch.tensor([0, 0, 0, 1, 1, 1], device=device)
    apart = segments[:, None] != segments[None]
    mask = torch.zeros(1, 1, 6, 6, device=device).masked_fill(apart, torch.finfo(torch.float32).min)
    positions = torch.arange(3, device=device).repeat(2)[None] + first_position
    try:
        packed = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        kept = torch.allclose(packed.view_as(alone), alone, rtol=1e-3, atol=1e-4)
    except (RuntimeError, ValueError, TypeError, IndexError):
        kept = False
    model.train(training)
    if not kept:
        raise HFTransferError(_LEAKS.format(type(model).__name__))
