"""A palette of colours for images that are read pixel by pixel: learnt from them, or a checkpoint's own.

Chen et al. 2020, Generative Pretraining from Pixels (ICML): k-means of RGB values, so that a pixel is one token.
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hftransfer.data.framing import Pixels, resized
from hftransfer.data.images import ImageRow, ImageRows
from hftransfer.errors import HFTransferError

logger = logging.getLogger("hftransfer")

IMAGES, PIXELS = 2000, 200_000  # that a palette is learnt from, at most
_AT_ONCE = 16_384  # pixels whose distances to all colours are in memory together


def learn(pixels: NDArray[np.uint8], colours: int, *, seed: int) -> NDArray[np.float32]:
    """A palette of these pixels by k-means, from dark to bright.

    Where there are no more colours than wanted, they are the palette, and the brightest fills it up.

    Args:
        pixels: (pixels, 3) RGB.
        colours: how many.

    Returns:
        (colours, 3), of -1 to 1 as an `ImageGPTImageProcessor` keeps them.
    """
    rng = np.random.default_rng(seed)
    if len(pixels) > PIXELS:
        pixels = pixels[np.sort(rng.choice(len(pixels), PIXELS, replace=False))]
    known = np.unique(pixels, axis=0)
    if len(known) <= colours:
        logger.info("palette: the images have %d colours, which are all kept", len(known))
        found = scaled(known)
    else:
        found = _clustered(scaled(pixels), colours, seed)
    found = found[np.lexsort((found[:, 0], found.sum(1)))]
    return np.concatenate([found, np.repeat(found[-1:], colours - len(found), axis=0)])


def _clustered(values: NDArray[np.float32], colours: int, seed: int) -> NDArray[np.float32]:
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    fitted = MiniBatchKMeans(colours, random_state=seed, n_init=3, batch_size=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer colours than clusters: some are then the same
        centres = fitted.fit(values).cluster_centers_
    return np.asarray(centres, dtype=np.float32)


def scaled(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """0..255 as -1..1."""
    return (pixels / 127.5 - 1).astype(np.float32)


def nearest(values: NDArray[np.float32], palette: NDArray[np.float32]) -> NDArray[np.int16]:
    """(pixels,) the number of the colour nearest to each of `values` (pixels, 3)."""
    squares = np.square(palette).sum(1)
    chunks = [values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE)]
    return np.concatenate([(squares - 2 * (chunk @ palette.T)).argmin(1) for chunk in chunks]).astype(np.int16)


def tokens_of(pixels: Pixels, reader: Any) -> NDArray[np.int16]:
    """(size * size,) the colours of one RGB image, as its image processor would number them."""
    small = resized(pixels, reader.size["height"], int(reader.resample))
    return nearest(scaled(small.reshape(-1, 3)), np.asarray(reader.clusters, dtype=np.float32))


def size_of(reader: Any, config: Any) -> int:
    """Height and width of what an Image GPT reads.

    Raises:
        HFTransferError: its processor has no palette or too large a one, or its images do not fit.
    """
    if getattr(reader, "clusters", None) is None:
        raise HFTransferError("model: its image processor has no palette (clusters), which an Image GPT needs")
    height, width = reader.size["height"], reader.size["width"]
    if height != width:
        raise HFTransferError(f"model: its images of {height} x {width} are not square; choose another checkpoint")
    if height**2 > config.n_positions:
        raise HFTransferError(
            f"model: {height} x {height} pixels are more than its {config.n_positions} positions; "
            f"set config: {{n_positions: {height**2}}}"
        )
    if len(reader.clusters) > config.vocab_size - 1:
        raise HFTransferError(
            f"model: its palette has {len(reader.clusters)} colours and its vocabulary room for "
            f"{config.vocab_size - 1}; they are not of one checkpoint"
        )
    return int(height)


def classifier_batch(reader: Any, config: Any) -> Callable[[Sequence[ImageRow]], dict[str, Tensor]]:
    """What makes `input_ids` (batch, pixels) of rows of RGB images for an Image GPT that classifies."""
    size_of(reader, config)

    def batch(rows: Sequence[ImageRow]) -> dict[str, Tensor]:
        return {"input_ids": torch.from_numpy(np.stack([tokens_of(row["pixels"], reader) for row in rows])).long()}

    return batch


def coloured(tokens: NDArray[Any], palette: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The colours, (..., 3) uint8, of tokens (...)."""
    return ((palette[tokens] + 1) * 127.5).round().clip(0, 255).astype(np.uint8)


def learnt_processor(images: ImageRows, size: int, colours: int, *, seed: int, resample: int = 2) -> Any:
    """An image processor whose palette is learnt from some of these RGB images, drawn by seed."""
    order = np.random.default_rng(seed).permutation(len(images))[:IMAGES]
    small = [resized(images[int(row)]["pixels"], size, resample).reshape(-1, 3) for row in np.sort(order)]
    return processor(size, learn(np.concatenate(small), colours, seed=seed), resample)


def processor(size: int, palette: NDArray[np.float32] | None, resample: int = 2) -> Any:
    """An image processor that reads images of `size` by `size` as tokens of this palette."""
    from transformers import ImageGPTImageProcessorPil

    clusters = None if palette is None else palette.tolist()
    return ImageGPTImageProcessorPil(clusters=clusters, size={"height": size, "width": size}, resample=resample)
