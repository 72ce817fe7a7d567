"""What a generator learns to make, as tensors in memory: images of one size, or vectors in [-1, 1]."""

import io
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from numpy.typing import NDArray
from PIL.Image import Resampling
from torch import Tensor

from hftransfer.data.demo import DEMOS
from hftransfer.data.framing import resized
from hftransfer.data.images import ImageRows, readable
from hftransfer.data.load import check_classes, not_streamed
from hftransfer.data.read import read
from hftransfer.data.rows import column, encode_labels, find_columns, label_names_of, only_content, with_content
from hftransfer.data.spec import DataSpec, Spec, parse
from hftransfer.data.targets import divided, train_of, unclear
from hftransfer.data.vectors import Columns, find_vectors, scaling, table, told
from hftransfer.errors import HFTransferError

SEEN = 100  # images whose bits a pixel are looked at
SMALLEST = 8  # pixels a side that a convolutional pair makes at least


class Sampled(NamedTuple):
    """Samples to learn from, and held-out ones to be measured by."""

    train: Tensor  # images (n, channels, size, size) uint8, vectors (n, numbers) float32
    test: Tensor
    train_labels: Tensor | None  # (n,) int64
    test_labels: Tensor | None
    names: list[str]  # of the labels; empty without
    offset: list[float]  # of vectors: data = sample * scale + offset; empty for images
    scale: list[float]
    notes: list[str]  # what was done to the data, in words


def read_samples(
    spec: DataSpec | Spec,
    *,
    key: str,
    seed: int,
    max_samples: int | None = None,
    labelled: bool | None = False,
    image_size: int | None = None,
    num_channels: int | None = None,
) -> Sampled:
    """Loads images, or where there are none vectors: the columns' types tell which.

    The data's own test split is held out, else a fifth by seed, where labels are read of each class.

    Args:
        spec: what `parse` takes; `columns: {vector: NAME}` names a column of lists of numbers.
        key: how errors name the data.
        max_samples: at most this many rows to train on, drawn by seed.
        labelled: True needs a class for each row, None takes classes where there are any, False looks at none.
        image_size: pixels a side that whole images are scaled to; None leaves them, if they are squares of one size
            that is a power of two.
        num_channels: 1 (grey) or 3 (RGB); None: grey if all training images are.

    Raises:
        HFTransferError: in one line, for anything that makes the data unusable.
    """
    parsed = not_streamed(parse(spec, key))
    splits = read(parsed, "vector" if _is_vectors(parsed) else "image")
    train = train_of(splits, parsed)
    columns, label = _columns(train.features, parsed, labelled)
    notes: list[str] = []
    names = _classes(train, label, parsed, labelled, notes)

    def encode(rows: Dataset, spec: Spec, _: Any) -> tuple[Dataset, list[str]]:
        made = _content(rows, columns, spec)
        if names and label is not None:
            coded = np.asarray(encode_labels(rows, label, names, spec, "its training split"))
            made = made.add_column("label", coded, feature=ClassLabel(names=names))
        return made, names

    parts, _ = divided(
        parsed, splits, seed=seed, label=label if names else None, encode=encode, max_samples=max_samples,
        strata=lambda rows: np.asarray(rows["label"]) if names else None,
    )  # fmt: skip
    both = parts["train"], parts["test"]
    if isinstance(columns, Columns):
        made = _vectors(both, columns, notes)
    else:
        made = _images(both, key, image_size, num_channels, notes)
    found = [
        torch.tensor(rows["label"][:])[kept] if names else None for rows, kept in zip(both, made.kept, strict=True)
    ]
    return Sampled(*made.samples, found[0], found[1], names, made.offset, made.scale, notes)


class _Made(NamedTuple):
    samples: tuple[Tensor, Tensor]  # of train and test
    kept: list[list[int]]  # places of the rows that are readable
    offset: list[float]
    scale: list[float]


def _is_vectors(spec: Spec) -> bool:
    return spec.kind == "demo" and DEMOS[spec.path.removeprefix("demo/")].kind == "vector"


def _columns(features: Features, spec: Spec, labelled: bool | None) -> tuple[str | Columns, str | None]:
    """The image's column or the vectors', and the label's."""
    images = "image" in spec.columns or any(isinstance(feature, Image) for feature in features.values())
    if images and "vector" not in spec.columns:
        return find_columns(features, spec, need_label=labelled is True, kind="image")
    columns, label = find_vectors(features, spec)
    if label is None and labelled is True:
        raise unclear("label", features, spec)
    return columns, label


def _classes(train: Dataset, label: str | None, spec: Spec, labelled: bool | None, notes: list[str]) -> list[str]:
    """The names of the classes; none where no label is to be read."""
    if label is None or labelled is False:
        return []
    try:
        names = label_names_of(train, label, spec)
        check_classes(encode_labels(train, label, names, spec, "its training split"), names, label, spec)
    except HFTransferError as error:
        if labelled is True:
            raise
        notes.append(f"labels are not used: {str(error).removeprefix(f'{spec.key}: ')}")
        return []
    return names


def _content(rows: Dataset, columns: str | Columns, spec: Spec) -> Dataset:
    """The rows with the column image, not decoded, or vector alone."""
    if isinstance(columns, str):
        return only_content(with_content(rows, columns, spec, "image"), columns, "image")
    features = Features({"vector": List(Value("float64"))})
    return Dataset.from_dict({"vector": table(rows, columns, spec)}, features=features)


def _vectors(parts: Sequence[Dataset], columns: Columns, notes: list[str]) -> _Made:
    # not by the format numpy, which would round to float32 before anything is subtracted
    train, test = (np.array(column(rows, "vector"), dtype=np.float64) for rows in parts)
    notes += told(train, test, columns)
    fitted = scaling(train)
    made = torch.from_numpy(fitted.samples(train)), torch.from_numpy(fitted.samples(test))
    return _Made(made, [list(range(len(rows))) for rows in parts], fitted.offset.tolist(), fitted.scale.tolist())


def _images(parts: Sequence[Dataset], key: str, size: int | None, channels: int | None, notes: list[str]) -> _Made:
    """Size and channels are the training images' own, where they are not given."""
    train = readable(parts[0], key=key, channels=channels or 3)
    size = size or _own_size(train, key)
    pixels = _scaled(train, size)  # (n, size, size, channels)
    grey = channels is None and bool((pixels == pixels[..., :1]).all())
    if grey:  # as Pillow converts such images, too
        pixels = pixels[..., :1]
    test = readable(parts[1], key=key, channels=pixels.shape[-1])
    notes += _told([train, test], [len(rows) for rows in parts], size, channels)
    made = _tensor(pixels), _tensor(_scaled(test, size))
    return _Made(made, [list(train.numbers), list(test.numbers)], [], [])


def _scaled(rows: ImageRows, size: int) -> NDArray[np.uint8]:
    """(n, size, size, channels), the whole images as image processors scale them."""
    made = np.empty((len(rows), size, size, rows.channels), dtype=np.uint8)
    for place, row in enumerate(rows):
        made[place] = resized(row["pixels"], size, Resampling.BILINEAR)
    return made


def _tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))


def _shapes(rows: ImageRows) -> Counter[tuple[int, int]]:
    return Counter((row["pixels"].shape[0], row["pixels"].shape[1]) for row in rows)


def _own_size(rows: ImageRows, key: str) -> int:
    """The side of images that need no scaling.

    Raises:
        HFTransferError: they do; names the sizes nearest to theirs.
    """
    shapes = _shapes(rows)
    height, width = shapes.most_common(1)[0][0]
    side = min(height, width)
    if len(shapes) == 1 and height == width >= SMALLEST and not height & (height - 1):
        return height
    are = (
        f"are {width} x {height} pixels"
        if len(shapes) == 1
        else f"have {len(shapes)} sizes, most of them {width} x {height}"
    )
    fits = max(SMALLEST, 2 ** int(math.log2(side)))
    raise HFTransferError(
        f"{key}: the images {are}, and networks make squares of a power of two from {SMALLEST} on; write "
        f"image_size: {fits} or {2 * fits} to scale them"
    )


def _is_deep(rows: ImageRows) -> bool:
    """Whether an image has 16 or 32 bits a pixel; of the first ones, which tell what the others are like."""
    for image in rows.files[:SEEN]["image"]:
        with PIL.Image.open(io.BytesIO(image["bytes"]) if image["bytes"] is not None else image["path"]) as opened:
            if opened.mode.startswith("I") or opened.mode == "F":
                return True
    return False


def _told(parts: Sequence[ImageRows], found: Sequence[int], size: int, channels: int | None) -> list[str]:
    notes = []
    shapes = sum((_shapes(rows) for rows in parts), Counter[tuple[int, int]]())
    others = sum(count for shape, count in shapes.items() if shape != (size, size))
    if others:
        squeezed = " and made square" if any(height != width for height, width in shapes) else ""
        notes.append(f"{others} of {shapes.total()} images are scaled to {size} x {size} pixels{squeezed}")
    if channels is not None:
        notes.append(f"all images are read in {'grey' if channels == 1 else 'colour'}")
    if any(_is_deep(rows) for rows in parts):
        notes.append("images of more than 8 bits a channel are reduced to 8")
    lost = sum(found) - shapes.total()
    if lost:
        notes.append(f"{lost} of {sum(found)} images do not decode and are left out")
    return notes
