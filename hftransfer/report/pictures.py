"""Small arrays as one PNG: a row for each step of a story, a column for each example."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SMALLEST = 96  # pixels a side at which a small image can be seen
GAP = 6  # between images, transparent: it takes the page's colour


def grid(rows: Sequence[Sequence[NDArray[np.uint8]]]) -> bytes:
    """A PNG of rows of images, each (height, width, 1 or 3); small ones are enlarged by whole pixels."""
    images = [[_enlarged(image) for image in row] for row in rows]
    high = max(image.shape[0] for row in images for image in row)
    wide = max(image.shape[1] for row in images for image in row)
    columns = max(len(row) for row in images)
    sheet = np.zeros((len(images) * (high + GAP) - GAP, columns * (wide + GAP) - GAP, 4), dtype=np.uint8)
    for i, row in enumerate(images):
        for j, image in enumerate(row):
            top, left = i * (high + GAP), j * (wide + GAP)
            sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    written = io.BytesIO()
    Image.fromarray(sheet).save(written, "PNG", optimize=True)
    return written.getvalue()


def _enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(height, width, 4), opaque."""
    times = max(1, -(-SMALLEST // max(image.shape[:2])))
    colours = np.broadcast_to(image, (*image.shape[:2], 3))
    opaque = np.concatenate([colours, np.full((*image.shape[:2], 1), 255, dtype=np.uint8)], axis=2)
    return opaque.repeat(times, axis=0).repeat(times, axis=1)
