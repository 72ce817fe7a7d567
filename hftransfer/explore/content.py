"""What lies behind a point, as texts for JSON: the text itself, a thumbnail, a sound; pieces that a page can load."""

import base64
import io
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hftransfer.explore import packing

ONE_FILE = 24 * 2**20  # bytes of content up to which the page is one file
PIECE = 4 * 2**20  # bytes of content that are parsed or loaded at once
MOST_BYTES = {"text": 2**29, "image": 2**29, "sound": 2**28}  # of content in all: more would fill a browser's memory
LONGEST = 100_000  # characters of one text
SIDE = 96  # pixels of a thumbnail
EXACT = 40  # pixels up to which an image is kept without loss
MEDIA = {b"RIFF": "wav", b"fLaC": "flac", b"OggS": "ogg", b"ID3": "mpeg", b"\xff": "mpeg"}


def encode(items: Sequence[Any], kind: str) -> tuple[list[str | None], list[str]]:
    """The content of each row as the page shows it (images and sounds as data URIs), and what must be said of it.

    A missing or unreadable item is None. What is more than `MOST_BYTES` is left out evenly over the rows.
    """
    one = {"text": _text, "image": _image, "sound": _sound}[kind]
    encoded = [None if item is None else one(item) for item in items]
    said = []
    unreadable = sum(made is None and item is not None for made, item in zip(encoded, items, strict=True))
    if unreadable:
        said.append(f"{_counted(unreadable, kind)} could not be read and cannot be shown.")
    cut = sum(kind == "text" and item is not None and len(str(item)) > LONGEST for item in items)
    if cut:
        said.append(f"{_counted(cut, kind)} of more than {LONGEST:,} characters end there.")
    kept, left_out = _fitting(encoded, MOST_BYTES[kind])
    if left_out:
        most = f"{MOST_BYTES[kind] // 2**20:,} MiB"
        said.append(f"{_counted(left_out, kind)} of {len(items):,} rows are left out: the page holds {most} of them.")
    return kept, said


def pieces(encoded: Sequence[str | None]) -> list[tuple[int, list[str | None]]]:
    """(first row, rows) of runs of at most about `PIECE` bytes."""
    made: list[tuple[int, list[str | None]]] = []
    size = PIECE
    for row, text in enumerate(encoded):
        if size >= PIECE:
            made.append((row, []))
            size = 0
        made[-1][1].append(text)
        size += weight(text)
    return made


def weight(text: str | None) -> int:
    """About how many bytes an entry takes in a page."""
    return 4 if text is None else len(text.encode()) + 3


def _fitting(encoded: list[str | None], most: int) -> tuple[list[str | None], int]:
    """Every row's content or, where that is too much, every second's, every third's ...; how many were dropped."""
    sizes = np.array([weight(text) for text in encoded])
    step = 1
    while step < len(encoded) and sizes[::step].sum() > most:
        step += 1
    kept = [text if row % step == 0 else None for row, text in enumerate(encoded)]
    return kept, sum(text is not None for text in encoded) - sum(text is not None for text in kept)


def _counted(count: int, kind: str) -> str:
    return f"{count:,} {kind}{'' if count == 1 else 's'}"


def _text(item: Any) -> str:
    return packing.clean(str(item)[:LONGEST])


def _image(item: Any) -> str | None:
    """A thumbnail as WebP, of an image as PIL, numpy or `datasets` hold it."""
    from PIL import Image, ImageOps

    try:
        if isinstance(item, np.ndarray):
            image = Image.fromarray(item)
        elif isinstance(item, Image.Image):
            image = item
        else:
            image = Image.open(io.BytesIO(_bytes(item)))
        image = ImageOps.exif_transpose(image)
        image = image.convert("RGBA" if "A" in image.getbands() or "transparency" in image.info else "RGB")
        image.thumbnail((SIDE, SIDE))
    except (OSError, ValueError, TypeError, KeyError, SyntaxError, Image.DecompressionBombError):
        return None
    buffer = io.BytesIO()
    exact = max(image.size) <= EXACT
    image.save(buffer, "WEBP", lossless=exact, quality=80, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _sound(item: Any) -> str | None:
    """The sound as it is encoded, or an array as 16-bit wave."""
    try:
        if isinstance(item, dict) and item.get("array") is not None:
            data = _wave(np.asarray(item["array"], np.float32), int(item["sampling_rate"]))
        else:
            data = _bytes(item)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    kind = next((kind for start, kind in MEDIA.items() if data.startswith(start)), None)
    return kind and f"data:audio/{kind};base64,{base64.b64encode(data).decode()}"


def _wave(samples: NDArray[np.float32], rate: int) -> bytes:
    """Mono sound of -1 to 1 as the bytes of a wave file; of several channels their mean."""
    mono = samples.mean(axis=int(np.argmin(samples.shape))) if samples.ndim == 2 else samples
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.nan_to_num(mono).clip(-1, 1) * 32767).round().astype("<i2").tobytes())
    return buffer.getvalue()


def _bytes(item: Any) -> bytes:
    """What a file holds: bytes, or {"bytes", "path"} as `datasets` has undecoded images and sounds."""
    if isinstance(item, dict):
        item = item["bytes"] if item.get("bytes") is not None else Path(item["path"] or "").read_bytes()
    if not isinstance(item, bytes):
        raise TypeError(f"{type(item).__name__} is no encoded file")
    return item
