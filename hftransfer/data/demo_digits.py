"""As many rendered digits as asked for, 32 x 32, varied enough to learn seeing from.

The ten classes drawn with matplotlib's own fonts: another font, stroke, slant, turn, width, place, contrast, shading
and grain each time, and some seen through a coarse grid, as handwritten 8 x 8 digits are when they are enlarged.
"""

import functools
import io
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hftransfer.errors import HFTransferError

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

SIZE = 32  # of an image, pixels a side
CONFIGS = ("6000", "2000", "20000")  # how many; the first is the default
MOST = 1_000_000
_CANVAS, _POINTS = 64, 44  # digits are drawn at twice their size
_COARSE = 0.3  # share that is seen through a grid of 8 x 8


def rendered(config: str | None = None) -> "Dataset":
    """Columns image (32 x 32, 8-bit grey, bright on dark), label (ClassLabel "0".."9", all as often).

    Args:
        config: how many, a whole number. The first n of any number are the same.

    Raises:
        HFTransferError: it is no whole number from 1 to `MOST`.
    """
    from datasets import ClassLabel, Dataset, Features, Image

    asked = config or CONFIGS[0]
    if not re.fullmatch(r"[0-9]+", str(asked)) or not 1 <= int(asked) <= MOST:
        raise HFTransferError(f"name: rendered digits are counted, a whole number from 1 to {MOST}, not '{asked}'")
    labels = [row % 10 for row in range(int(asked))]
    rows = [{"bytes": _png(drawn(label, row)), "path": None} for row, label in enumerate(labels)]
    features = Features({"image": Image(), "label": ClassLabel(names=[str(digit) for digit in range(10)])})
    return Dataset.from_dict({"image": rows, "label": labels}, features=features)


def drawn(digit: int, row: int, seed: int = 0) -> "np.ndarray":
    """One digit, (32, 32) uint8: a function of its arguments."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng((seed, row))
    fonts = _fonts()
    glyph = _glyph(str(digit), fonts[rng.integers(len(fonts))], int(rng.integers(0, 4)))
    image = glyph.transform(glyph.size, Image.Transform.AFFINE, _affine(rng), Image.Resampling.BILINEAR).reduce(2)
    if rng.random() < _COARSE:
        image = image.resize((8, 8), Image.Resampling.BOX).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return _shaded(np.asarray(image, dtype=np.float32) / 255, rng)


def _affine(rng: "np.random.Generator") -> tuple[float, float, float, float, float, float]:
    """Pillow's coefficients, from a place in the result to one in the drawing: turn, slant, size and place."""
    turn, slant = math.radians(rng.uniform(-15, 15)), rng.uniform(-0.35, 0.35)
    wide, high = rng.uniform(0.65, 1.25), rng.uniform(0.8, 1.15)
    right, down = rng.uniform(-5, 5, 2)
    cos, sin = math.cos(turn), math.sin(turn)
    a, b, d, e = (cos + slant * sin) / wide, (slant * cos - sin) / wide, sin / high, cos / high
    middle = _CANVAS / 2
    x, y = middle + right, middle + down
    return a, b, middle - a * x - b * y, d, e, middle - d * x - e * y


def _shaded(ink: "np.ndarray", rng: "np.random.Generator") -> "np.ndarray":
    """Ink (32, 32) of 0..1 on a ground that may slope and be grainy, as uint8."""
    import numpy as np

    plain = rng.random() < 0.5  # half on black, as scanned digits are
    bright = rng.uniform(150, 255)
    ground, slope, grain = (0.0, 0.0, 0.0) if plain else (rng.uniform(0, 50), rng.uniform(0, 40), rng.uniform(0, 16))
    along = np.linspace(-0.5, 0.5, SIZE, dtype=np.float32)
    way = rng.uniform(0, 2 * math.pi)
    field = ground + slope * (math.cos(way) * along[None] + math.sin(way) * along[:, None])
    noisy = field + (bright - field) * ink + grain * rng.standard_normal((SIZE, SIZE), dtype=np.float32)
    return noisy.round().clip(0, 255).astype(np.uint8)


@functools.cache
def _fonts() -> tuple[str, ...]:
    """Paths of matplotlib's text fonts; its symbol and display fonts have no ordinary digits."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    wanted = re.compile(r"(DejaVu(Sans|Serif|SansMono)(-.*)?|STIXGeneral.*|cm(b|r|ss|tt)10)\.ttf")
    return tuple(str(path) for path in sorted(folder.glob("*.ttf")) if wanted.fullmatch(path.name))


@functools.cache
def _glyph(digit: str, font: str, stroke: int) -> Any:
    """A digit in the middle of its canvas, fitted to one height, its strokes thickened by `stroke` pixels."""
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.new("L", (2 * _CANVAS, 2 * _CANVAS))
    face = ImageFont.truetype(font, 2 * _POINTS)
    ImageDraw.Draw(canvas).text((_CANVAS, _CANVAS), digit, fill=255, font=face, anchor="mm", stroke_width=2 * stroke)
    cut = canvas.crop(canvas.getbbox())
    width = max(1, min(_CANVAS, round(cut.width * _POINTS / cut.height)))
    fitted = Image.new("L", (_CANVAS, _CANVAS))
    left, top = (_CANVAS - width) // 2, (_CANVAS - _POINTS) // 2
    fitted.paste(cut.resize((width, _POINTS), Image.Resampling.BOX), (left, top))
    return fitted


def _png(pixels: "np.ndarray") -> bytes:
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG", compress_level=1)
    return written.getvalue()
