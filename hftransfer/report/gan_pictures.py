"""Samples of a generator as pictures: sheets, the same latents over time, animations, interpolations, points.

Pure functions from arrays to the bytes of a file. All lie on light paper of their own, so that captions and points
read the same on a light and on a dark page. Images are (n, height, width, 1 or 3) uint8 and are enlarged by whole
pixels.
"""

import io
from collections.abc import Sequence
from math import ceil
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hftransfer.report import words
from hftransfer.report.figures import DARK_INK, PALETTE, theme

Images = NDArray[np.uint8]  # (n, height, width, channels)
Points = NDArray[Any]  # (n, 2)
Frames = Sequence[tuple[int, Any]]  # samples of the same latents at each step, in the order of steps

PAPER, INK = "#f6f7f9", DARK_INK
SIDE, SMALL_SIDE = 80, 48  # pixels that images are brought near to, in a sheet and in an animation
GAP, MARGIN = 4, 10
TEXT = 18  # pixels high; a page shows a wide picture smaller
MOST_ROWS, MOST_COLUMNS = 8, 12  # of looks and of latents over time
MOST_FRAMES, MOST_ANIMATED, MOST_POINTS = 40, 64, 2000  # an animation stays a small file
LOOP, LONGEST, LAST = 6000, 500, 2000  # milliseconds: about all frames, at most a frame, and the last one


def sheet(images: Images, *, columns: int = 8, names: Sequence[str] | None = None) -> bytes:
    """A PNG of all images, row by row; `names` stand at the rows, from the top, and begin anew where they end."""
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    captions = None if names is None else [names[row % len(names)] for row in range(len(rows))]
    return _png(_tiled(rows, SIDE, captions))


def over_time(frames: Frames, *, columns: int = 8) -> bytes:
    """A PNG with a row for each of at most 8 steps, first and last among them; a column is one latent.

    Latents are taken from all over the frames' samples, so that those that lie class by class are of many classes.
    """
    chosen = _steps(len(frames))
    latents = _spread(len(frames[0][1]), min(columns, MOST_COLUMNS))
    rows = [frames[place][1][latents] for place in chosen]
    return _png(_tiled(rows, SIDE, [_step(frames[place][0]) for place in chosen]))


def strip(images: NDArray[np.uint8]) -> bytes:
    """A PNG of (rows, steps, height, width, channels): each row leads from one sample to another, without gaps."""
    return _png(_tiled(list(images), SIDE, None, gap=0))


def animation(frames: Frames, *, columns: int = 8) -> bytes:
    """A GIF that loops: the samples of the same latents at each step, and above them the step."""
    latents = _spread(len(frames[0][1]), MOST_ANIMATED)
    chosen = [frames[place] for place in _spread(len(frames), MOST_FRAMES)]
    pictures = []
    for step, images in chosen:
        rows = [images[latents[start : start + columns]] for start in range(0, len(latents), columns)]
        pictures.append(_titled(_tiled(rows, SMALL_SIDE, None), f"{_step(step)} of {words.number(frames[-1][0])}"))
    return _gif(pictures)


def cloud(real: Points, fake: Points, title: str = "") -> bytes:
    """A PNG of real and generated points in the plane; the axes are those of the real ones."""
    with theme(DARK_INK):
        figure = Figure(figsize=(4.8, 5.0), layout="constrained", facecolor=PAPER)
        _Plane(figure.add_subplot(), real, dot=0.84).show(fake, title)
        _legend(figure)
        return figure_png(figure, dpi=150)


def cloud_over_time(real: Points, frames: Frames) -> bytes:
    """The same for at most 8 steps beside each other, first and last among them; all have the same axes."""
    chosen = [frames[place] for place in _steps(len(frames))]
    columns = min(len(chosen), 4 if len(chosen) > 6 else 3)
    rows = ceil(len(chosen) / columns)
    with theme(DARK_INK):
        figure = Figure(figsize=(2.4 * columns, 2.7 * rows + 0.3), layout="constrained", facecolor=PAPER)
        places = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, (step, fake) in zip(places, chosen, strict=False):
            _Plane(axes, real, dot=0.6).show(fake, _step(step))
        for axes in places[len(chosen) :]:
            axes.set_axis_off()
        _legend(figure)
        return figure_png(figure, dpi=110)


def cloud_animation(real: Points, frames: Frames) -> bytes:
    """A GIF that loops: real and generated points at each step, on the same axes."""
    chosen = [frames[place] for place in _spread(len(frames), MOST_FRAMES)]
    pictures = []
    with theme(DARK_INK):
        figure = Figure(figsize=(4.4, 4.8), dpi=100, layout="constrained", facecolor=PAPER)
        canvas = FigureCanvasAgg(figure)
        plane = _Plane(figure.add_subplot(), real, dot=0.84)
        _legend(figure)
        for step, fake in chosen:
            plane.show(fake, f"{_step(step)} of {words.number(frames[-1][0])}")
            canvas.draw()
            pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
            figure.set_layout_engine("none")  # all pictures keep the first one's layout
    return _gif(pictures)


def _step(step: int) -> str:
    return f"step {words.number(step)}"


def _spread(count: int, most: int) -> list[int]:
    """At most so many of `count` places, evenly, first and last among them."""
    return [round(place) for place in np.linspace(0, count - 1, min(count, most))]


def _steps(count: int) -> list[int]:
    """At most `MOST_ROWS` looks, at equal distances where their number allows it."""
    equal = [most for most in range(MOST_ROWS // 2, MOST_ROWS + 1) if count > most and (count - 1) % (most - 1) == 0]
    return _spread(count, max(equal, default=MOST_ROWS))


def _tiled(rows: Sequence[Images], side: int, captions: Sequence[str] | None, gap: int = GAP) -> Image.Image:
    """Rows of images on paper, with captions to the left of the rows."""
    shown = [[_sized(image, side) for image in row] for row in rows]
    wide, high = shown[0][0].size
    font = _font()
    texts = [words.short(text, 24) for text in captions or []]
    left = MARGIN + (ceil(max(map(font.getlength, texts))) + MARGIN if texts else 0)
    width = left + max(map(len, shown)) * (wide + gap) - gap + MARGIN
    paper = Image.new("RGB", (width, 2 * MARGIN + len(shown) * (high + GAP) - GAP), PAPER)
    draw = ImageDraw.Draw(paper)
    for i, row in enumerate(shown):
        top = MARGIN + i * (high + GAP)
        if texts:
            draw.text((left - MARGIN, top + high / 2), texts[i], fill=INK, font=font, anchor="rm")
        for j, image in enumerate(row):
            paper.paste(image, (left + j * (wide + gap), top))
    return paper


def _sized(image: NDArray[np.uint8], side: int) -> Image.Image:
    """A copy of three colours, enlarged by whole pixels, or reduced by a whole factor, to about `side` pixels."""
    found = Image.fromarray(np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3))))
    longest = max(found.size)
    if longest > 2 * side:
        return found.reduce(round(longest / side))
    times = max(1, round(side / longest))
    return found.resize((times * found.width, times * found.height), Image.Resampling.NEAREST)


def _titled(picture: Image.Image, title: str) -> Image.Image:
    paper = Image.new("RGB", (picture.width, picture.height + TEXT + MARGIN // 2), PAPER)
    paper.paste(picture, (0, TEXT + MARGIN // 2))
    ImageDraw.Draw(paper).text((MARGIN, MARGIN), title, fill=INK, font=_font(), anchor="lt")
    return paper


def _font() -> ImageFont.FreeTypeFont:
    """Matplotlib's own, which is there on every machine and knows the letters of many languages."""
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", TEXT)


def _png(picture: Image.Image) -> bytes:
    written = io.BytesIO()
    picture.save(written, "PNG", optimize=True)
    return written.getvalue()


def _gif(pictures: Sequence[Image.Image]) -> bytes:
    """Loops for ever and rests on the last picture; all share their colours, so that nothing flickers."""
    wide, high = pictures[0].size
    seen = [*pictures, *[pictures[-1]] * len(pictures)]  # noise has many colours, and the end is what matters
    together = Image.new("RGB", (wide, high * len(seen)))
    for place, picture in enumerate(seen):
        together.paste(picture, (0, place * high))
    colours = together.quantize(256, Image.Quantize.MEDIANCUT)
    frames = [picture.quantize(palette=colours, dither=Image.Dither.NONE) for picture in pictures]
    each = min(LONGEST, LOOP // len(frames))
    written = io.BytesIO()
    times = [each] * (len(frames) - 1) + [LAST]
    frames[0].save(written, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=True)
    return written.getvalue()


class _Plane:
    """Real points in grey on axes that they decide, and over them the generated ones, which may change."""

    def __init__(self, axes: Axes, real: Points, dot: float) -> None:
        low, high = real.min(axis=0), real.max(axis=0)
        self.axes, self.middle, self.half = axes, (low + high) / 2, 0.58 * max((high - low).max(), 1e-6)
        look: dict[str, Any] = {"markersize": dot * min(5.5, max(2.0, 22 / len(real) ** 0.25)), "markeredgewidth": 0}
        axes.plot(*real[:MOST_POINTS].T, "o", color=PALETTE[6], alpha=0.45, **look)
        (self.dots,) = axes.plot([], [], "o", color=PALETTE[1], alpha=0.55, **look)
        (left, bottom), (right, top) = self.middle - self.half, self.middle + self.half
        axes.set(xlim=(left, right), ylim=(bottom, top))
        axes.set_aspect("equal")
        axes.tick_params(labelsize=8)

    def show(self, fake: Points, title: str) -> None:
        """Puts generated points there, and tells below how many of them lie outside."""
        inside = (np.abs(fake - self.middle) <= self.half).all(axis=1)
        self.dots.set_data(*fake[inside][:MOST_POINTS].T)
        self.axes.set_title(title, loc="left", fontsize=9.5)
        out = int((~inside).sum())
        self.axes.set_xlabel(f"{out:,} of {len(fake):,} generated outside" if out else " ", fontsize=8.5)


def _legend(figure: Figure) -> None:
    marks = [Line2D([], [], linestyle="none", marker="o", markersize=6, color=PALETTE[place]) for place in (6, 1)]
    figure.legend(marks, ["real", "generated"], loc="outside upper left", ncols=2, handletextpad=0.2)


def figure_png(figure: Figure, dpi: int) -> bytes:
    """A figure as the bytes of a PNG, the same for the same figure."""
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=dpi, metadata={"Software": None})
    return written.getvalue()
