"""Embedded data, always there: read or drawn at run time from packages that are installed anyway.

`demo/api_docs` asks for the topic of a docstring. Source domain: SciPy's documentation; target domain: PyTorch's.
The leading signature line of a docstring is dropped, because in PyTorch it often spells the module (`linalg.norm(A)`),
which is the label. `demo/digits` and `demo/rendered_digits` are the vision pair: handwritten and drawn.
`demo/docs`, `demo/varied_digits` and `demo/spoken_digits` are for pretraining, `demo/mixture` is for a generator; each
has its own file. `demo/blobs` is for clustering.
"""

import functools
import importlib
import inspect
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hftransfer.data.demo_digits import CONFIGS, MOST
from hftransfer.data.demo_mixtures import MIXTURES, mixture
from hftransfer.errors import HFTransferError, nearest

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

TOPICS = ("linalg", "fft", "special", "stats", "optimize", "sparse", "signal")
_SCIPY = {topic: (f"scipy.{topic}",) for topic in TOPICS}
_TORCH = {
    "linalg": ("torch.linalg",),
    "fft": ("torch.fft",),
    "special": ("torch.special",),
    "stats": ("torch.distributions",),
    "optimize": ("torch.optim", "torch.optim.lr_scheduler"),
    "sparse": ("torch.sparse",),
    "signal": ("torch.signal.windows",),
}
_SIGNATURE = re.compile(r"^[\w.]+\(.*?\)( -> [^\n]*)?\n+", re.DOTALL)
_VARYING_LINE = re.compile(r"^.*# may vary[ ]*\n?", re.MULTILINE)
_SET = re.compile(r"\{'[^'{}]*'(?:, '[^'{}]*')*\}")
SHORTEST_TEXT = 80  # characters: shorter docstrings say "see the other function"
DRAWN_PER_DIGIT = 180  # as many in all as scikit-learn's 1797 handwritten ones


def api_docs(config: str) -> "Dataset":
    """Docstrings and their topic: columns text (str), label (ClassLabel of `TOPICS`). Sorted, duplicates dropped."""
    from datasets import ClassLabel, Dataset, Features, Value

    modules = _SCIPY if config == "scipy" else _TORCH
    texts: dict[str, int] = {}
    for label, topic in enumerate(TOPICS):
        for module in modules[topic]:
            for text in _docstrings(module):
                if len(text) >= SHORTEST_TEXT:
                    texts.setdefault(text, label)
    features = Features({"text": Value("string"), "label": ClassLabel(names=list(TOPICS))})
    return Dataset.from_dict({"text": list(texts), "label": list(texts.values())}, features=features)


def _docstrings(module: str) -> Iterator[str]:
    """The docstrings of a module's public callables by name, without their leading signature line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated names warn when they are looked at
        imported = importlib.import_module(module)
        names = getattr(imported, "__all__", None) or [name for name in dir(imported) if not name.startswith("_")]
        for name in sorted(names):
            member = getattr(imported, name, None)
            if callable(member) and not inspect.ismodule(member):
                yield settled(_SIGNATURE.sub("", inspect.getdoc(member) or "", count=1))


def settled(text: str) -> str:
    """A docstring without what is another in every process: SciPy writes random draws and sets into some at import."""
    return _SET.sub(
        lambda found: "{" + ", ".join(sorted(found[0][1:-1].split(", "))) + "}", _VARYING_LINE.sub("", text)
    )


def digits(config: str | None = None) -> "Dataset":
    """scikit-learn's 1797 handwritten digits: columns image (8 x 8, 8-bit grey), label (ClassLabel "0".."9")."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return _images((loaded.images * (255 / 16)).round().astype("uint8"), list(loaded.target))


def rendered_digits(config: str | None = None) -> "Dataset":
    """Digits drawn with matplotlib's own fonts in the style of `demo/digits`: same columns, size and grey levels.

    Font, slant, turn, size and place vary by a fixed seed. Like the handwritten ones, each is fitted to its box at
    32 x 32 and then averaged over 4 x 4 blocks.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    fonts = _fonts()
    labels = [digit for digit in range(10) for _ in range(DRAWN_PER_DIGIT)]
    drawn = np.stack([_drawn(str(digit), fonts[rng.integers(len(fonts))], rng) for digit in labels])  # (rows, 8, 8)
    return _images(drawn, labels)


def _fonts() -> list[str]:
    """Paths of matplotlib's text fonts; its symbol and display fonts have no ordinary digits."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    wanted = re.compile(r"(DejaVu(Sans|Serif|SansMono)(-.*)?|STIXGeneral.*|cm(b|r|ss|tt)10)\.ttf")
    return [str(path) for path in sorted(folder.glob("*.ttf")) if wanted.fullmatch(path.name)]


@functools.cache
def _font(path: str) -> Any:
    from PIL import ImageFont

    return ImageFont.truetype(path, 56)


def _drawn(digit: str, font: str, rng: "np.random.Generator") -> "np.ndarray":
    """One digit, (8, 8) uint8, bright on black."""
    import numpy as np
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (96, 96))
    ImageDraw.Draw(canvas).text((48, 48), digit, fill=255, font=_font(font), anchor="mm")
    slant = rng.uniform(-0.25, 0.25)
    canvas = canvas.transform(canvas.size, Image.Transform.AFFINE, (1, slant, -48 * slant, 0, 1, 0))
    canvas = canvas.rotate(rng.uniform(-12, 12), resample=Image.Resampling.BILINEAR)
    glyph = canvas.crop(canvas.getbbox())
    height = int(rng.integers(28, 33))
    width = int(np.clip(glyph.width * height / glyph.height * rng.uniform(0.8, 1.2), 4, 32))
    box = Image.new("L", (32, 32))
    left, top = (32 - width) // 2 + int(rng.integers(-2, 3)), int(rng.integers(0, 33 - height))
    box.paste(glyph.resize((width, height), Image.Resampling.BILINEAR), (left, top))
    blocks = np.asarray(box, dtype=float).reshape(8, 4, 8, 4).mean(axis=(1, 3))  # (8, 8)
    return ((blocks / 255 * 16).round() * (255 / 16)).round().astype("uint8")


def _images(pixels: "np.ndarray", labels: list[int]) -> "Dataset":
    from datasets import ClassLabel, Dataset, Features, Image
    from PIL import Image as pillow

    features = Features({"image": Image(), "label": ClassLabel(names=[str(digit) for digit in range(10)])})
    images = [pillow.fromarray(image) for image in pixels]
    return Dataset.from_dict({"image": images, "label": [int(label) for label in labels]}, features=features)


def varied_digits(config: str | None) -> "Dataset":
    """As many drawn digits as the config says, 32 x 32, more varied: see `demo_digits`."""
    from hftransfer.data.demo_digits import rendered

    return rendered(config)


def blobs(config: str | None = None) -> "Dataset":
    """The classic picture of k-means: 300 points around 4 centres; columns vector (2 numbers), label (ClassLabel)."""
    from datasets import ClassLabel, Dataset, Features, List, Value
    from sklearn.datasets import make_blobs

    points, labels = make_blobs(300, centers=4, cluster_std=0.6, random_state=0)
    features = Features({"vector": List(Value("float64"), length=2), "label": ClassLabel(names=list("0123"))})
    return Dataset.from_dict({"vector": points.tolist(), "label": labels.tolist()}, features=features)


def docs(config: str | None) -> "Dataset":
    """A package's own documentation, a document each: see `demo_docs`."""
    from hftransfer.data.demo_docs import docs as read

    return read(config or "python")


def spoken_digits(config: str | None) -> Any:
    """The words zero to nine, synthesised: see `demo_speech`. `voices` tests on voices that training never hears."""
    from datasets import DatasetDict

    from hftransfer.data.demo_speech import spoken_digits as speak

    if config == "voices":
        return DatasetDict({"train": speak("train_voices"), "test": speak("test_voices")})
    return speak(config)


@dataclass(frozen=True)
class Demo:
    """One line of the table: what it is, how it is made, and the packages whose version decides its content."""

    description: str
    kind: Literal["text", "image", "sound", "vector"]
    build: Callable[[Any], Any]  # a Dataset, or a DatasetDict of train and test
    packages: tuple[str, ...]
    configs: tuple[str, ...] = ()  # the first is the default
    most: int = 0  # where the config is a number: how many rows at most, and `configs` are examples

    def fault(self, config: str | None) -> str:
        """What is wrong with a config, to end an error message; empty when nothing is."""
        if config is None or config in self.configs:
            return ""
        if not self.most:
            return nearest(config, self.configs) or "; it has none"
        counted = re.fullmatch("[0-9]+", config) and 1 <= int(config) <= self.most
        return "" if counted else f"; it is how many, a whole number from 1 to {self.most}"


DEMOS = {
    "api_docs": Demo(
        "topic of a docstring, 7 topics; scipy is the source domain, torch the target domain",
        "text",
        api_docs,
        ("scipy", "torch"),
        ("scipy", "torch"),
    ),
    "digits": Demo("scikit-learn's handwritten digits, 8 x 8", "image", digits, ("scikit-learn",)),
    "rendered_digits": Demo(
        "digits drawn with matplotlib's fonts, 8 x 8", "image", rendered_digits, ("matplotlib", "numpy", "pillow")
    ),
    "varied_digits": Demo(
        "digits drawn in many ways, 32 x 32; the config is how many",
        "image",
        varied_digits,
        ("matplotlib", "numpy", "pillow"),
        CONFIGS,
        MOST,
    ),
    "docs": Demo(
        "a package's documentation, without labels",
        "text",
        docs,
        ("python", "scipy", "torch", "scikit-learn"),
        ("python", "scipy", "torch", "sklearn"),
    ),
    "spoken_digits": Demo(
        "zero to nine, synthesised by espeak-ng; other voices are held out",
        "sound",
        spoken_digits,
        ("espeakng-loader",),
        ("voices", "train_voices", "test_voices"),
    ),
    "mixture": Demo(
        "points of Gaussians in the plane, whose modes can be counted: a grid of 25 or a ring of 8",
        "vector",
        mixture,
        ("numpy",),
        tuple(MIXTURES),
    ),
    "blobs": Demo("300 points around 4 centres in the plane", "vector", blobs, ("scikit-learn",)),
}


def demo(name: str, config: str | None = None) -> Any:
    """Builds embedded data.

    Args:
        name: a name of `DEMOS`, with or without `demo/` before it.
        config: one of the demo's configs, or any number where it says how many; the first by default.

    Raises:
        HFTransferError: when there is no such demo or config.
    """
    name = name.removeprefix("demo/")
    if name not in DEMOS:
        raise HFTransferError(f"there is no 'demo/{name}'{nearest(name, DEMOS)}")
    found = DEMOS[name]
    config = config or next(iter(found.configs), None)
    if found.fault(config):
        raise HFTransferError(f"demo/{name} has no config '{config}'{found.fault(config)}")
    return found.build(config)
