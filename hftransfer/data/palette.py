"""A palette of colours for images that are read pixel by pixel: learnt from them, or a checkpoint's own.

Chen et al. 2020, Generative Pretraining from Pixels (ICML): k-means of RGB values, so that a pixel is one token.
"""

import logging
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def coloured(tokens: NDArray[Any], palette: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The colours, (..., 3) uint8, of tokens (...)."""
    return ((palette[tokens] + 1) * 127.5).round().clip(0, 255).astype(np.uint8)


def processor(size: int, palette: NDArray[np.float32] | None, resample: int = 2) -> Any:
    """An image processor that reads images of `size` by `size` as tokens of this palette."""
    from transformers import ImageGPTImageProcessorPil

    clusters = None if palette is None else palette.tolist()
    return ImageGPTImageProcessorPil(clusters=clusters, size={"height": size, "width": size}, resample=resample)
