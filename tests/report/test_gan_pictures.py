"""Every sample is where it should be, as it is; steps and axes are told and do not move."""

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from hftransfer.report import gan_pictures
from hftransfer.report.gan_pictures import GAP, MARGIN, SIDE, SMALL_SIDE


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def cells(content: bytes, rows: int, columns: int, side: int, *, gap: int = GAP) -> np.ndarray:
    """(rows, columns, side, side, 3) of a picture's images, which end at its lower right corner."""
    pixels = np.asarray(opened(content).convert("RGB"))
    right, low = (extent - MARGIN for extent in (pixels.shape[1], pixels.shape[0]))
    lefts = [right - (columns - column) * (side + gap) + gap for column in range(columns)]
    tops = [low - (rows - row) * (side + GAP) + GAP for row in range(rows)]
    return np.stack([[pixels[top : top + side, left : left + side] for left in lefts] for top in tops])


def enlarged(images: np.ndarray, side: int) -> np.ndarray:
    times = side // images.shape[-2]
    wide = np.broadcast_to(images, (*images.shape[:-1], 3))
    return wide.repeat(times, axis=-3).repeat(times, axis=-2)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_shows_every_sample_in_order_and_as_it_is(channels: int) -> None:
    images = noise(12, 8, 8, channels)
    found = cells(gan_pictures.sheet(images, columns=4), 3, 4, SIDE)
    assert (found == enlarged(images, SIDE).reshape(found.shape)).all()


def test_the_last_row_of_a_sheet_may_be_short() -> None:
    found = cells(gan_pictures.sheet(noise(5, 8, 8, 1), columns=4), 2, 4, SIDE)
    assert len(np.unique(found[1, 0])) > 1 and all(
        len(np.unique(one.reshape(-1, 3), axis=0)) == 1 for one in found[1, 1:]
    )


def test_names_stand_at_the_rows_and_begin_anew() -> None:
    plain, named = (opened(gan_pictures.sheet(noise(6, 8, 8, 1), columns=2, names=n)) for n in (None, ["one", "two"]))
    pixels = np.asarray(named)[:, : named.width - plain.width]
    first, second, third = (pixels[MARGIN + row * (SIDE + GAP) :][:SIDE] for row in range(3))
    assert (first == third).all() and (first != second).any()
    assert first.min() < 60  # ink


def test_large_images_are_reduced_and_small_ones_enlarged_by_whole_pixels() -> None:
    for size, shown in ((2, 80), (32, 64), (64, 64), (160, 160), (256, 86), (1024, 79)):
        picture = opened(gan_pictures.sheet(noise(1, size, size, 3)))
        assert picture.size == (shown + 2 * MARGIN, shown + 2 * MARGIN), size


@pytest.mark.parametrize(
    ("looks", "rows"),
    [(1, [0]), (3, [0, 1, 2]), (8, list(range(8))), (11, [0, 2, 4, 6, 8, 10]), (12, [0, 2, 3, 5, 6, 8, 9, 11])],
)
def test_over_time_a_column_is_one_latent_and_a_row_one_step(looks: int, rows: list[int]) -> None:
    frames = [(100 * look, noise(64, 8, 8, 1, seed=look)) for look in range(looks)]
    found = cells(gan_pictures.over_time(frames, columns=8), len(rows), 8, SIDE)
    latents = [0, 9, 18, 27, 36, 45, 54, 63]  # from all over, as they may lie class by class
    for row, look in zip(found, rows, strict=True):
        assert (row == enlarged(frames[look][1][latents], SIDE)).all()


def test_a_strip_has_no_gaps_within_a_row() -> None:
    images = noise(2, 5, 8, 8, 1)
    assert (cells(gan_pictures.strip(images), 2, 5, SIDE, gap=0) == enlarged(images, SIDE)).all()


def test_an_animation_shows_the_same_latents_and_loops() -> None:
    frames = [(step, np.clip(noise(16, 8, 8, 1) // 32 * 32 + step, 0, 255).astype(np.uint8)) for step in range(5)]
    content = gan_pictures.animation(frames)
    with opened(content) as gif:
        assert gif.info["loop"] == 0
        shown, times = [], []
        for frame in ImageSequence.Iterator(gif):
            times.append(frame.info["duration"])
            written = io.BytesIO()
            frame.convert("RGB").save(written, "PNG")
            shown.append(written.getvalue())
    assert times == [500] * 4 + [2000]
    for one, (_, images) in zip(shown, frames, strict=True):
        found = cells(one, 2, 8, SMALL_SIDE).astype(int)
        assert np.abs(found - enlarged(images, SMALL_SIDE).reshape(found.shape)).max() <= 4  # of 256 shared colours


def test_an_animation_stays_small_however_long_the_training() -> None:
    frames = [(step, noise(100, 4, 4, 3, seed=step)) for step in range(100)]
    with opened(gan_pictures.animation(frames)) as gif:
        assert gif.n_frames == 40
        assert gif.size == (2 * MARGIN + 8 * (SMALL_SIDE + GAP) - GAP, 2 * MARGIN + 8 * (SMALL_SIDE + GAP) - GAP + 23)


def points(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 2))


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list:
    """What is drawn, before it becomes bytes."""
    drawn = []
    monkeypatch.setattr(gan_pictures, "figure_png", lambda figure, dpi: drawn.append(figure) or b"")
    return drawn


def test_axes_are_the_real_points_and_what_lies_outside_is_counted(figures: list) -> None:
    real, fake = points(50, 0), points(60, 1) / 10
    fake[:3] = [[1e6, 0], [np.nan, 0], [0, -np.inf]]
    gan_pictures.cloud(real, fake, "all of them")
    gan_pictures.cloud(real, real)
    (first,), (second,) = (figure.axes for figure in figures)
    assert first.get_xlim() == second.get_xlim() and first.get_ylim() == second.get_ylim()
    assert first.get_xlabel() == "3 of 60 generated outside" and second.get_xlabel() == " "
    assert first.get_title(loc="left") == "all of them"
    shown = [line.get_xydata() for line in first.lines]
    assert (shown[0] == real).all() and (shown[1] == fake[3:]).all()


def test_points_over_time_have_the_same_axes_and_tell_their_steps(figures: list) -> None:
    frames = [(1000 * look, points(40, look) * (look + 1)) for look in range(11)]
    gan_pictures.cloud_over_time(points(50, 99), frames)
    drawn = [axes for axes in figures[0].axes if axes.lines]
    assert [axes.get_title(loc="left") for axes in drawn] == [f"step {n:,}" for n in range(0, 10001, 2000)]
    assert len({axes.get_xlim() for axes in drawn}) == 1
    assert len(drawn[-1].lines[1].get_xydata()) < 40


def test_points_move_and_axes_do_not() -> None:
    real = points(30, 0)
    frames = [(0, real * 0.1), (5, real * 50), (9, real)]
    with opened(gan_pictures.cloud_animation(real, frames)) as gif:
        first, second, last = (np.asarray(frame.convert("L"), dtype=int) for frame in ImageSequence.Iterator(gif))
    left = slice(60, None), slice(0, 42)  # the vertical axis and its numbers
    assert (first[left] == last[left]).all() and (first[left] == second[left]).all()
    assert (first != last).mean() > 0.005


def test_the_same_samples_give_the_same_bytes_and_points_that_never_move_are_a_picture() -> None:
    real = np.zeros((20, 2))
    assert gan_pictures.cloud(real, real + 1e-9) == gan_pictures.cloud(real, real + 1e-9)
    frames = [(0, noise(4, 8, 8, 1)), (1, noise(4, 8, 8, 1, seed=1))]
    assert gan_pictures.animation(frames) == gan_pictures.animation(frames)
