"""Baevski et al. 2020, wav2vec 2.0, arXiv:2006.11477: hidden spans of a sequence, and telling them from others."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy


def hide_spans(length: int, rate: float, span: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(length,), True where hidden: spans of equal length that may overlap, at least one; never everything.

    Args:
        length: at least 2.
        rate: the hidden share if no spans overlapped; on average about 1 - exp(-rate) of the places are hidden.
        span: places in a span; half the sequence if that is less, but at least 2 where there are 3.
    """
    span = min(span, max(length // 2, min(2, length - 1)))
    wanted = int(rate * length / span + rng.random())
    starts = rng.choice(length - span + 1, size=min(max(wanted, 1), (length - 1) // span), replace=False)
    hidden = np.zeros(length, dtype=bool)
    hidden[starts[:, None] + np.arange(span)] = True
    return hidden


def draw_others(hidden: NDArray[np.bool_], number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(hidden places, number): for each hidden place others that are hidden too, drawn with replacement.

    `hidden` (length,) has at least two places.
    """
    places = np.flatnonzero(hidden)
    drawn = rng.integers(len(places) - 1, size=(len(places), number))
    drawn += drawn >= np.arange(len(places))[:, None]  # skips itself, each other one as likely
    return places[drawn]


def contrastive(*, predicted: Tensor, true: Tensor, others: Tensor, temperature: float) -> Tensor:
    """Each place's nats for telling its true target from others by cosine similarity: (places,) float32.

    An other that is equal to the true one does not count against it.

    Args:
        predicted: (places, width).
        true: (places, width).
        others: (places, number, width).
        temperature: kappa of the paper, which divides the similarities.
    """
    candidates = torch.cat([true[:, None], others], dim=1).float()  # (places, 1 + number, width)
    logits = cosine_similarity(predicted[:, None].float(), candidates, dim=-1) / temperature
    same = (true[:, None] == others).all(-1)
    logits = torch.cat([logits[:, :1], logits[:, 1:].masked_fill(same, float("-inf"))], dim=1)
    return cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long), reduction="none")
