"""Devlin et al. 2018, BERT, arXiv:1810.04805: which tokens are hidden, and behind what; by token or by whole word."""

import numpy as np
from numpy.typing import NDArray

IGNORED = -100  # the label that cross entropy skips


def mask_tokens(
    input_ids: NDArray[np.integer],
    maskable: NDArray[np.bool_],
    word_ids: NDArray[np.integer] | None,
    *,
    rate: float,
    mask_id: int,
    vocab_size: int,
    rng: np.random.Generator,
    replace: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Hides a share of the tokens and keeps what they were as labels.

    Args:
        input_ids: (batch, length); not changed.
        maskable: (batch, length), False at padding and special tokens.
        word_ids: (batch, length), the word that each piece belongs to, numbered within a row, -1 for none: all pieces
            of a chosen word are hidden. None: each token is its own word.
        rate: the expected share of maskable tokens to hide. At least one is, in a batch that has any, so that a
            loss exists.
        rng: the only source of chance: an equal generator gives an equal mask.
        replace: shares of hidden tokens that become the mask token, become a random token, stay as they are.

    Returns:
        The input ids with tokens hidden, and the labels: the original id where hidden, -100 elsewhere.

    Raises:
        ValueError: the shares do not sum to 1.
    """
    if not np.isclose(sum(replace), 1):
        raise ValueError(f"replace must hold three shares that sum to 1, not {replace}")
    hidden = _choose(maskable, word_ids, rate, rng)
    fate = rng.random(input_ids.shape)
    masked = hidden & (fate < replace[0])
    randomised = hidden & ~masked & (fate < replace[0] + replace[1])
    inputs = np.where(masked, mask_id, input_ids)
    inputs = np.where(randomised, rng.integers(vocab_size, size=input_ids.shape), inputs)
    return inputs, np.where(hidden, input_ids, IGNORED)


def _choose(
    maskable: NDArray[np.bool_], word_ids: NDArray[np.integer] | None, rate: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Chooses each word, long or short, with probability `rate`: so the expected share of tokens is `rate` too."""
    if word_ids is None:
        word_ids = np.broadcast_to(np.arange(maskable.shape[1]), maskable.shape)
    candidates = maskable & (word_ids >= 0)
    hidden = np.zeros(maskable.shape, dtype=bool)
    if candidates.any():
        in_batch = word_ids + np.arange(len(word_ids))[:, None] * (word_ids.max() + 1)  # unique across rows
        words, word_of = np.unique(in_batch[candidates], return_inverse=True)
        draws = rng.random(len(words))
        chosen = draws < rate
        chosen[draws.argmin()] = True  # chosen already, unless none is
        hidden[candidates] = chosen[word_of]
    return hidden
