"""Images as rows to learn from: checked once, kept as small arrays, cut and turned by a keyed seed, made into a batch.

Decoding, cutting and resizing are Pillow's, as in the image processors of transformers without torchvision: what a
network is trained on is what the next stage's processor shows it.
"""

import io
import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypedDict

import numpy as np
import torch
from datasets import Dataset
from PIL import Image, ImageOps
from torch import Tensor

from hftransfer.data.framing import Pixels, framing, processed, resized
from hftransfer.errors import HFTransferError

logger = logging.getLogger("hftransfer")

MODES = {1: "L", 3: "RGB"}
KEPT_BYTES = 2**30  # decoded images stay in memory up to here; more are decoded each time they are read
MOST_UNREADABLE = 0.01  # share of the rows (one row always) that may fail to decode
NAMED = 3  # files that an error or a log line names
AREA, RATIO, TRIES = (0.2, 1.0), (3 / 4, 4 / 3), 10  # of MAE's random resized crop
_AT_ONCE = 256  # images that are checked together


class ImageRow(TypedDict):
    """One image and its place in the data, which keys what is done to it."""

    pixels: Pixels
    row: int


class ImageRows:
    """Readable images, each decoded to (height, width, channels) uint8; sizes may differ from row to row.

    `numbers` are their places in the data that was read.
    """

    def __init__(self, files: Dataset, decoded: list[Pixels] | None, channels: int, numbers: Sequence[int]) -> None:
        self.files, self.decoded, self.channels, self.numbers = files, decoded, channels, list(numbers)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> ImageRow:
        if not -len(self) <= row < len(self):
            raise IndexError(row)  # ends an iteration
        row = int(row) % len(self)
        pixels = self.decoded[row] if self.decoded is not None else decode(self.files[row]["image"], self.channels)
        return {"pixels": pixels, "row": self.numbers[row]}

    def select(self, places: Sequence[int]) -> "ImageRows":
        """Some of the rows, under their numbers."""
        decoded = None if self.decoded is None else [self.decoded[place] for place in places]
        return ImageRows(self.files.select(places), decoded, self.channels, [self.numbers[i] for i in places])

    def __iter__(self) -> Iterator[ImageRow]:
        return (self[row] for row in range(len(self)))


def readable(rows: Dataset, *, key: str, channels: int, most: float = MOST_UNREADABLE) -> ImageRows:
    """Decodes every image once and keeps those that are images.

    Args:
        rows: column `image`, not decoded: {"bytes", "path"}.
        key: names the data in errors.
        channels: 1 for grey, 3 for RGB; images of the other kind are converted.
        most: share of the rows that may fail to decode; of 1 all may, and nothing is left.

    Raises:
        HFTransferError: more than `most` of the images do not decode, or none does.
    """
    if channels not in MODES:
        raise HFTransferError(f"{key}: a model of {channels} channels reads no images; use one of 1 (grey) or 3 (RGB)")
    decoded: list[Pixels] | None = []
    good: list[int] = []
    bad: list[str] = []
    num_bytes = 0
    with ThreadPoolExecutor(2) as pool:  # decoders let go of the interpreter
        for start in range(0, len(rows), _AT_ONCE):
            images = rows[start : start + _AT_ONCE]["image"]
            for place, pixels in enumerate(pool.map(lambda image: _tried(image, channels), images), start):
                if pixels is None:
                    bad.append(_named(images[place - start], place))
                    continue
                good.append(place)
                num_bytes += pixels.nbytes
                decoded = decoded if num_bytes <= KEPT_BYTES else None
                if decoded is not None:
                    decoded.append(pixels)
    _judge(bad, len(rows), key, most)
    return ImageRows(rows.select(good) if bad else rows, decoded, channels, good)


def _judge(bad: list[str], total: int, key: str, most: float) -> None:
    names = ", ".join(bad[:NAMED]) + (", ..." if len(bad) > NAMED else "")
    if len(bad) == total and most < 1:
        raise HFTransferError(f"{key}: none of {total} images decodes ({names}); give files that Pillow reads")
    if len(bad) > max(1, most * total):
        raise HFTransferError(f"{key}: {len(bad)} of {total} images do not decode ({names}); repair or remove them")
    if bad:
        logger.warning("%s: %d of %d images do not decode and are skipped: %s", key, len(bad), total, names)


def _tried(image: Any, channels: int) -> Pixels | None:
    try:
        return decode(image, channels)
    except (
        OSError,
        ValueError,
        SyntaxError,
        TypeError,
        Image.DecompressionBombError,
    ):  # all are Pillow's ways to say no
        return None


def _named(image: Any, row: int) -> str:
    path = (image or {}).get("path")
    return str(path).replace("\\", "/").rsplit("/", 1)[-1] if path else f"row {row}"


def decode(image: Any, channels: int) -> Pixels:
    """One undecoded image as (height, width, channels) uint8, upright as its EXIF says.

    Raises:
        OSError, ValueError, SyntaxError, TypeError: it is no image.
    """
    if image is None or (image["bytes"] is None and image["path"] is None):
        raise ValueError("no image")
    with Image.open(io.BytesIO(image["bytes"]) if image["bytes"] is not None else image["path"]) as opened:
        upright = ImageOps.exif_transpose(opened)
        if upright.mode.startswith("I") or upright.mode == "F":  # 16 or 32 bits a pixel: Pillow would clip, not scale
            upright = _eight_bits(upright)
        pixels = np.asarray(upright.convert(MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def _eight_bits(image: Any) -> Any:
    values = np.asarray(image, dtype=np.float64)
    top = 65535.0 if values.max(initial=0) > 255 else 255.0
    return Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8))


def random_box(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A random resized crop's box: a fifth to all of the area, 3:4 to 4:3; the largest such, centred, if none fits."""
    areas, ratios = rng.uniform(*AREA, TRIES), np.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1]), TRIES))
    places = rng.random((TRIES, 2))
    widths = np.rint(np.sqrt(height * width * areas * ratios)).astype(int)
    heights = np.rint(np.sqrt(height * width * areas / ratios)).astype(int)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    if not fits.any():
        wide, high = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
        left, top = (width - wide) // 2, (height - high) // 2
        return left, top, left + wide, top + high
    chosen = int(fits.argmax())
    wide, high = int(widths[chosen]), int(heights[chosen])
    left, top = int(places[chosen, 0] * (width - wide + 1)), int(places[chosen, 1] * (height - high + 1))
    return left, top, left + wide, top + high


def augmented(pixels: Pixels, size: int, rng: np.random.Generator, *, flip: bool) -> Pixels:
    """MAE's augmentation (He et al. 2021): a random resized crop, bicubic; with `flip`, half are mirrored."""
    height, width = pixels.shape[:2]
    cut = resized(pixels, size, Image.Resampling.BICUBIC, random_box(height, width, rng))
    return cut[:, ::-1] if flip and rng.random() < 0.5 else cut


class PixelBatch:
    """Makes `pixel_values` of image rows: framed as the reader does, or cut at random; normalised as the reader does.

    Args:
        reader: the network's image processor.
        size: height and width of what the network sees.
        channels: of the rows.
        augment: True cuts and mirrors, "crop" only cuts (for digits and letters), False does neither.

    Raises:
        HFTransferError: the reader makes images of another size or normalises by more than a mean and a deviation.
    """

    def __init__(self, reader: Any, *, size: int, channels: int, augment: bool | str) -> None:
        self.size, self.channels, self.augment = size, channels, augment
        self.scale, self.shift = normalisation(reader, channels)
        self.frame = framing(reader, size, channels)
        _check_normalisation(reader, self.scale, self.shift, size)

    def __call__(self, rows: Sequence[ImageRow], rngs: Sequence[np.random.Generator] | None) -> Tensor:
        """(batch, channels, size, size) float32; `rngs`, one a row, cut and mirror; without them nothing does."""
        if rngs is None or not self.augment:
            images = [self.frame(row["pixels"]) for row in rows]
        else:
            flip = self.augment is True
            images = [augmented(r["pixels"], self.size, g, flip=flip) for r, g in zip(rows, rngs, strict=True)]
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()  # (batch, channels, size, size)
        return pixels.float().mul_(self.scale).add_(self.shift)

    def drawn(self, values: Tensor) -> Pixels:
        """Back from `pixel_values` (batch, channels, height, width) to (batch, height, width, channels) uint8."""
        pixels = (values.detach().float().cpu() - self.shift) / self.scale
        return pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def normalisation(reader: Any, channels: int) -> tuple[Tensor, Tensor]:
    """The scale and shift, (channels, 1, 1), by which an image processor makes pixel values of 0..255.

    Raises:
        HFTransferError: its mean or its deviation is of another number of channels.
    """
    rescale = reader.rescale_factor if reader.do_rescale else 1.0
    mean, std = (reader.image_mean, reader.image_std) if reader.do_normalize else (0.0, 1.0)
    mean, std = (_of_channels(value, name, channels) for value, name in ((mean, "image_mean"), (std, "image_std")))
    return (rescale / std)[:, None, None], (-mean / std)[:, None, None]


def _check_normalisation(reader: Any, scale: Tensor, shift: Tensor, size: int) -> None:
    """Some processors do more than their settings say (EfficientNet's shifts before it normalises)."""
    grey = np.full((size, size, len(scale)), 200, dtype=np.uint8)
    means = {
        name: _of_channels(getattr(reader, name), name, len(scale)).tolist() for name in ("image_mean", "image_std")
    }
    options = {"do_rescale": reader.do_rescale, **(means if reader.do_normalize else {})}
    theirs = torch.as_tensor(processed(grey, reader, **options)[size // 2, size // 2])
    ours = (200 * scale + shift).flatten()
    if not torch.allclose(theirs.float(), ours, atol=1e-3, rtol=1e-3):
        raise HFTransferError(
            f"model: its image processor ({type(reader).__name__}) does more to an image's values than its mean and "
            "deviation say; save another into the checkpoint"
        )


def _of_channels(value: Any, name: str, channels: int) -> Tensor:
    values = torch.as_tensor(value, dtype=torch.float32).reshape(-1)
    if len(values.unique()) == 1:  # the same for all channels serves any number of them
        return values[:1].repeat(channels)
    if len(values) != channels:
        raise HFTransferError(
            f"model: its image processor has {len(values)} values in {name} and its config {channels} channels; "
            "they are not of one checkpoint"
        )
    return values


def check_augment(value: Any) -> None:
    """Refuses a value of the option `augment` that is none of its three.

    Raises:
        HFTransferError: naming the three.
    """
    if not (isinstance(value, bool) or value == "crop"):
        raise HFTransferError(f"augment: expected true (cut and mirror), crop (cut only) or false, found {value!r}")
