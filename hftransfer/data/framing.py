"""How an image processor brings an image to the size that a network sees: as the processor itself does it.

Resizing is Pillow's, as in the image processors of transformers without torchvision.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hftransfer.errors import HFTransferError

Pixels = NDArray[np.uint8]  # (height, width, channels)
Box = tuple[int, int, int, int]  # left, top, right, bottom


def resized(pixels: Pixels, size: int, resample: int, box: Box | None = None) -> Pixels:
    """(size, size, channels): the whole image, or a box of it, as Pillow resizes."""
    if box is None and pixels.shape[:2] == (size, size):
        return pixels
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    scaled = np.asarray(image.resize((size, size), resample=Image.Resampling(resample), box=box))
    return scaled.reshape(size, size, pixels.shape[2])


def processed(pixels: Pixels, reader: Any, **options: Any) -> NDArray[Any]:
    """(height, width, channels) of one image, by the image processor itself; without `options` still 0..255."""
    options = options or {"do_rescale": False, "do_normalize": False}
    made = reader([pixels.transpose(2, 0, 1)], do_convert_rgb=False, input_data_format="channels_first", **options)[
        "pixel_values"
    ]
    return np.asarray(made[0]).transpose(1, 2, 0)


def framing(reader: Any, size: int, channels: int) -> Callable[[Pixels], Pixels]:
    """What makes (size, size, channels) of any image, as the processor does.

    A processor that plainly resizes to a square is not called for each image: that is slow. Which one does is seen
    from what it makes, for some have a way of their own behind the same settings.

    Raises:
        HFTransferError: what it makes is not of this size; for a processor that does not resize, told of the image.
    """
    name, resample = type(reader).__name__, getattr(reader, "resample", None)
    resample = int(Image.Resampling.BILINEAR if resample is None else resample)

    def own(pixels: Pixels) -> Pixels:
        made = processed(pixels, reader)
        if made.shape != (size, size, channels):
            raise HFTransferError(
                f"model: its image processor ({name}) makes {_shape(made)} of an image of {_shape(pixels)}, and the "
                f"network sees {size} x {size}; save one into the checkpoint that resizes or crops to that"
            )
        return made

    def squared(pixels: Pixels) -> Pixels:
        return resized(pixels, size, resample)

    if not shapes(reader):
        return own
    tried = [_noise(size, size + 5, channels), _noise(size + 5, size, channels)]
    return squared if all([np.array_equal(own(pixels), squared(pixels)) for pixels in tried]) else own  # noqa: C419


def shapes(reader: Any) -> bool:
    """Whether a processor changes an image's size at all."""
    return bool(reader.do_resize or getattr(reader, "do_center_crop", None))


def side_of(reader: Any, channels: int) -> int | None:
    """Of the squares that a processor makes; None where the image decides."""
    if not shapes(reader):
        return None
    made = {processed(_noise(*shape, channels), reader).shape[:2] for shape in ((40, 40), (40, 45), (45, 40))}
    sides = {side for shape in made for side in shape}
    return int(sides.pop()) if len(sides) == 1 else None


def _noise(height: int, width: int, channels: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def _shape(pixels: NDArray[Any]) -> str:
    return " x ".join(map(str, pixels.shape[:2]))
