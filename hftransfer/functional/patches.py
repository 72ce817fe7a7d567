"""Images as patches: cut and joined, hidden, normalised each by itself, and told where they are.

He et al. 2021, Masked Autoencoders, arXiv:2111.06377 (MAE); Xie et al. 2021, SimMIM, arXiv:2111.09886.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EPSILON = 1e-6  # of the variance, as MAE's authors have it


def patchify(pixels: Tensor, patch: int) -> Tensor:
    """(batch, channels, height, width) -> (batch, patches, patch * patch * channels), row after row of patches."""
    batch, channels, height, width = pixels.shape
    cut = pixels.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch * patch * channels)


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """What `patchify` made of square images, back to (batch, channels, height, width)."""
    batch, number, width = patches.shape
    side = math.isqrt(number)
    cut = patches.reshape(batch, side, side, patch, patch, width // patch**2)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(batch, -1, side * patch, side * patch)


def statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Each patch's mean and standard deviation (unbiased), (batch, patches, 1) both."""
    return patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + EPSILON).sqrt()


def normalised(patches: Tensor) -> Tensor:
    """Each patch less its mean, over its deviation: what MAE learns to predict with `norm_pix_loss`."""
    mean, deviation = statistics(patches)
    return (patches - mean) / deviation


def num_kept(num_patches: int, rate: float) -> int:
    """How many patches MAE leaves visible: the whole part, as transformers computes it."""
    return int(num_patches * (1 - rate))


def rate_that_keeps(num_patches: int, kept: int) -> float:
    """A rate r with `num_kept(num_patches, r) == kept`, safe from rounding."""
    return 1 - (kept + 0.5) / num_patches


def hide_patches(num_patches: int, rate: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(patches,), True where hidden: MAE's, all but `num_kept` of them, each set as likely."""
    hidden = np.ones(num_patches, dtype=bool)
    hidden[rng.permutation(num_patches)[: num_kept(num_patches, rate)]] = False
    return hidden


def hide_blocks(side: int, block: int, rate: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(side * side,), True where hidden: SimMIM's squares of `block` by `block` patches, at least `rate` of them."""
    blocks = side // block
    hidden = np.zeros(blocks * blocks, dtype=bool)
    hidden[rng.permutation(blocks * blocks)[: math.ceil(blocks * blocks * rate)]] = True
    return np.kron(hidden.reshape(blocks, blocks), np.ones((block, block), dtype=bool)).reshape(-1)


def position_table(side: int, width: int) -> Tensor:
    """MAE's fixed positions of a CLS token (zeros) and `side` x `side` patches: (1, 1 + patches, width), float32.

    The first half tells the column and the second the row, a slip of the authors' that their published weights keep.
    """
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.outer(torch.arange(side, dtype=torch.float64), frequencies)  # (side, width / 4)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, width / 2)
    columns, rows = waves.repeat(side, 1), waves.repeat_interleave(side, 0)
    table = torch.cat([columns, rows], dim=1)  # (patches, width)
    return torch.cat([torch.zeros(1, width, dtype=torch.float64), table])[None].float()
