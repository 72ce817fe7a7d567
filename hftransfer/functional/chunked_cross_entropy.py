"""Cross entropy against a large vocabulary, in chunks.

The idea that the logits of all tokens need never exist together is from Wijmans et al. 2024, "Cut Your Losses in
Large-Vocabulary Language Models" (arXiv:2411.09009). Theirs is a fused kernel over blocks of tokens and vocabulary;
this is plain torch over blocks of tokens, for every device.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

IGNORED = -100
CHUNK_ELEMENTS = 2**23  # of a chunk's logits: 32 MiB in float32


def chunked_cross_entropy(
    states: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None = None, *, chunk_elements: int = CHUNK_ELEMENTS
) -> Tensor:
    """What each token costs: `cross_entropy(states @ weight.T + bias, labels, reduction="none")`.

    Logits are made for a chunk of tokens at a time, forward and again backward; what is kept between the two is one
    number a token. Under autocast the products are computed in its type and the loss in float32.

    Args:
        states: (tokens, width).
        weight: (vocabulary, width), the output matrix.
        labels: (tokens,) int64; -100 is ignored, costs 0 and gets no gradient.
        bias: (vocabulary,).
        chunk_elements: tokens times vocabulary of a chunk, at most (one token at least).

    Returns:
        (tokens,) nats, float32 or better.
    """
    kind = states.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        states, weight = states.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    size = max(1, chunk_elements // len(weight))
    with torch.autocast(kind, enabled=False):
        return _ChunkedCrossEntropy.apply(states, weight, bias, labels, size)


def _logits(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(chunk, vocabulary), float32 or better."""
    found = linear(states, weight, bias)
    return found.to(torch.promote_types(found.dtype, torch.float32))


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, size: int) -> Tensor:
        nats, normalizers = [], []
        for some, wanted in zip(states.split(size), labels.split(size), strict=True):
            logits = _logits(some, weight, bias)
            normalizer = logits.logsumexp(1)  # (chunk,)
            kept = wanted != IGNORED
            chosen = logits.gather(1, wanted.where(kept, 0)[:, None])[:, 0]
            nats.append((normalizer - chosen).where(kept, 0.0))
            normalizers.append(normalizer)
        ctx.save_for_backward(states, weight, bias, labels, torch.cat(normalizers))
        ctx.size = size
        return torch.cat(nats)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, bias, labels, normalizers = ctx.saved_tensors
        wants_states, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        of_states, of_weight = torch.zeros_like(states) if wants_states else None, None
        exact = torch.promote_types(weight.dtype, torch.float32)  # chunks are summed in it
        if wants_weight:
            of_weight = torch.zeros_like(weight, dtype=exact)
        of_bias = torch.zeros_like(bias, dtype=exact) if wants_bias else None
        for start in range(0, len(states), ctx.size):
            here = slice(start, start + ctx.size)
            kept = labels[here] != IGNORED
            slope = _logits(states[here], weight, bias).sub_(normalizers[here, None]).exp_()  # probabilities
            rows = torch.arange(len(slope), device=slope.device)
            slope[rows, labels[here].where(kept, 0)] -= 1
            slope *= upstream[here].where(kept, 0.0)[:, None]
            if of_bias is not None:
                of_bias += slope.sum(0)
            slope = slope.to(weight.dtype)
            if of_states is not None:
                of_states[here] = slope @ weight
            if of_weight is not None:
                of_weight += slope.T @ states[here]
        of_weight = None if of_weight is None else of_weight.to(weight.dtype)
        of_bias = None if of_bias is None or bias is None else of_bias.to(bias.dtype)
        return of_states, of_weight, of_bias, None, None
