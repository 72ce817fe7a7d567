"""What objectives on text share: shorter rows early in training, and the cost of a text in bits."""

from collections.abc import Mapping, Sequence
from typing import Any

from hftransfer.errors import HFTransferError
from hftransfer.functional.perplexity import bits_per_byte, perplexity


def longest(max_length: int | Sequence[int]) -> int:
    """The longest row of `max_length`, a number or [start, end]."""
    return max_length if isinstance(max_length, int) else max(max_length)


def shortened(row: Mapping[str, Any], max_length: int | Sequence[int], progress: float) -> dict[str, Any]:
    """A row cut to what [start, end] allows at this share of the training; lists in it are one entry a token.

    Li, Zhang and He 2022, The Stability-Efficiency Dilemma: Sequence Length Warmup, arXiv:2108.06084.
    """
    if isinstance(max_length, int):
        return dict(row)
    start, end = max_length
    room = round(start + (end - start) * progress)
    return {name: value[:room] if isinstance(value, list) else value for name, value in row.items()}


def check_positions(config: Any, max_length: int | Sequence[int], first: int = 0) -> None:
    """Refuses rows longer than the model has positions for; `first` is the number of a text's first position.

    Raises:
        HFTransferError: told before anything is read or trained.
    """
    reach = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if reach and longest(max_length) > reach - first:
        raise HFTransferError(
            f"max_length: {longest(max_length)} tokens are more than the {reach - first} positions of this "
            f"{config.model_type}; lower it"
        )


def text_measures(loss: float, num_tokens: int, num_bytes: int) -> dict[str, float]:
    """Perplexity, and bits per byte where each of `num_tokens` costs the mean `loss` (nats)."""
    return {"perplexity": perplexity(loss), "bits_per_byte": bits_per_byte(loss * num_tokens, num_bytes)}
