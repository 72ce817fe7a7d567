"""Images: what decodes is kept and right way up, cuts are keyed; batches as the processor makes them."""

import io
import logging

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BitImageProcessorPil,
    ConvNextImageProcessorPil,
    Dinov2Config,
    EfficientNetImageProcessorPil,
    ViTConfig,
    ViTImageProcessorPil,
)

from hftransfer import inputs
from hftransfer.data import images
from hftransfer.data.framing import resized
from hftransfer.data.images import PixelBatch, augmented, check_augment, random_box, readable
from hftransfer.errors import HFTransferError

FEATURES = datasets.Features({"image": datasets.Image(decode=False)})


def encoded(pixels, kind="PNG", **options):
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, kind, **options)
    return written.getvalue()


def content(files, paths=None):
    paths = paths or [None] * len(files)
    rows = [data and {"bytes": data, "path": path} for data, path in zip(files, paths, strict=True)]
    return datasets.Dataset.from_dict({"image": rows}, features=FEATURES)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def rngs(count, seed=0):
    return [np.random.default_rng((seed, row)) for row in range(count)]


def test_rows_are_the_images_by_number():
    arrays = [noise(5, 7, 3, seed=i) for i in range(4)]
    rows = readable(content([encoded(array) for array in arrays]), key="data", channels=3)
    assert len(rows) == 4 and [row["row"] for row in rows] == [0, 1, 2, 3]
    assert all(np.array_equal(row["pixels"], array) for row, array in zip(rows, arrays, strict=True))
    assert np.array_equal(rows[-1]["pixels"], arrays[3])
    with pytest.raises(IndexError):
        rows[4]


def test_what_is_too_large_for_memory_is_decoded_when_read(monkeypatch):
    files = content([encoded(noise(6, 6, 3, seed=i)) for i in range(5)])
    kept = readable(files, key="data", channels=3)
    monkeypatch.setattr(images, "KEPT_BYTES", 300)
    read = readable(files, key="data", channels=3)
    assert kept.decoded is not None and read.decoded is None
    assert all(np.array_equal(kept[i]["pixels"], read[i]["pixels"]) for i in range(5))


def test_grey_and_colour_are_converted_to_what_the_model_reads():
    grey, colour = noise(4, 4), noise(4, 4, 3)
    both = content([encoded(grey), encoded(colour)])
    as_grey, as_colour = (readable(both, key="data", channels=channels) for channels in (1, 3))
    assert as_grey[0]["pixels"].shape == as_grey[1]["pixels"].shape == (4, 4, 1)
    assert np.array_equal(as_grey[0]["pixels"][..., 0], grey)
    assert np.array_equal(as_colour[0]["pixels"], np.repeat(grey[..., None], 3, axis=2))
    with pytest.raises(HFTransferError, match=r"^data: a model of 4 channels reads no images"):
        readable(both, key="data", channels=4)


def test_sixteen_bits_a_pixel_are_scaled_not_clipped():
    deep = np.array([[0, 32768], [65535, 16384]], dtype=np.uint16)
    rows = readable(content([encoded(deep)]), key="data", channels=1)
    assert rows[0]["pixels"][..., 0].tolist() == [[0, 128], [255, 64]]


def test_a_photo_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees, clockwise
    array = noise(4, 6, 3)
    rows = readable(content([encoded(array, exif=exif)]), key="data", channels=3)
    assert np.array_equal(rows[0]["pixels"], np.rot90(array, -1))


def test_a_broken_image_is_skipped_and_named(caplog):
    files = [encoded(noise(3, 3, seed=i)) for i in range(5)]
    files[2] = files[2][:40]
    with caplog.at_level(logging.WARNING, logger="hftransfer"):
        rows = readable(content(files, [f"/home/a/{i}.png" for i in range(5)]), key="data", channels=1)
    assert len(rows) == 4 and [row["row"] for row in rows] == [0, 1, 3, 4]
    assert np.array_equal(rows[2]["pixels"][..., 0], noise(3, 3, seed=3)) and rows.numbers == [0, 1, 3, 4]
    part = rows.select([1, 3])
    assert [row["row"] for row in part] == [1, 4]
    assert np.array_equal(part[1]["pixels"][..., 0], noise(3, 3, seed=4))
    assert [r.getMessage() for r in caplog.records] == ["data: 1 of 5 images do not decode and are skipped: 2.png"]


def test_too_many_broken_images_are_an_error_that_names_the_first():
    files = [encoded(noise(3, 3, seed=i)) for i in range(10)]
    for i in (1, 4, 5, 7):
        files[i] = b"no image"
    paths = [f"/home/a/{i}.png" for i in range(10)]
    with pytest.raises(HFTransferError, match=r"^data: 4 of 10 images do not decode \(1.png, 4.png, 5.png, \.\.\.\)"):
        readable(content(files, paths), key="data", channels=1)
    with pytest.raises(HFTransferError, match=r"^data: none of 2 images decodes \(row 0, row 1\)"):
        readable(content([b"x", None]), key="data", channels=1)


def test_the_limit_is_one_row_or_one_in_a_hundred():
    good = [encoded(noise(2, 2, seed=i)) for i in range(3)]

    def broken(number, of):
        return content([b"no"] * number + [good[i % 3] for i in range(of - number)])

    assert len(readable(broken(2, 200), key="data", channels=1)) == 198
    with pytest.raises(HFTransferError, match="3 of 200"):
        readable(broken(3, 200), key="data", channels=1)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (8, 60), (60, 8), (1, 1), (480, 640)])
def test_a_random_box_lies_in_the_image_with_the_area_and_shape_of_mae(height, width):
    rng = np.random.default_rng(0)
    boxes = np.array([random_box(height, width, rng) for _ in range(300)])
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()
    assert (wide > 0).all() and (high > 0).all()
    if min(height, width) > 30 and height * 1.4 > width:
        shares, ratios = wide * high / (height * width), wide / high
        assert 0.15 < shares.min() < 0.3 and shares.max() > 0.85
        assert 0.65 < ratios.min() < 0.85 and 1.2 < ratios.max() < 1.45


def test_a_flip_mirrors_about_half_and_a_crop_alone_none():
    pixels = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))[..., None]  # brighter to the right
    for flip, fewest, most in ((True, 60, 140), (False, 0, 0)):
        cuts = [augmented(pixels, 16, rng, flip=flip) for rng in rngs(200)]
        mirrored = sum(int(cut[8, 0, 0]) > int(cut[8, -1, 0]) for cut in cuts)
        assert fewest <= mirrored <= most


def test_batches_do_not_depend_on_their_neighbours():
    reader = ViTImageProcessorPil(size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5])
    rows = readable(content([encoded(noise(9, 11, seed=i)) for i in range(6)]), key="data", channels=1)
    make = PixelBatch(reader, size=8, channels=1, augment=True)
    whole = make([rows[i] for i in range(6)], rngs(6))
    alone = torch.cat([make([rows[i]], [rngs(6)[i]]) for i in range(6)])
    assert torch.equal(whole, alone)
    assert not torch.equal(whole, make([rows[i] for i in range(6)], rngs(6, seed=1)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resample", [0, 2, 3])
def test_an_unaugmented_batch_is_the_image_processors(channels, resample):
    mean, std = ([0.4], [0.3]) if channels == 1 else ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4])
    size = {"height": 8, "width": 8}
    reader = ViTImageProcessorPil(size=size, image_mean=mean, image_std=std, resample=resample)
    arrays = [noise(11, 9, 3, seed=i) for i in range(3)]
    rows = readable(content([encoded(array) for array in arrays]), key="data", channels=channels)
    make = PixelBatch(reader, size=8, channels=channels, augment=False)
    found = make(list(rows), None)
    shown = [row["pixels"].transpose(2, 0, 1) for row in rows]
    stock = reader(shown, return_tensors="pt", input_data_format="channels_first").pixel_values
    assert found.dtype == torch.float32 and found.shape == (3, channels, 8, 8)
    assert torch.allclose(found, stock, atol=1e-5)
    assert np.array_equal(make.drawn(found)[0], resized(rows[0]["pixels"], 8, resample))


def test_a_processor_of_other_channels_is_refused_unless_it_treats_all_alike():
    size = {"height": 4, "width": 4}
    alike = ViTImageProcessorPil(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    assert PixelBatch(alike, size=4, channels=1, augment=False).scale.shape == (1, 1, 1)
    other = ViTImageProcessorPil(size=size, image_mean=[0.4, 0.5, 0.6], image_std=[0.5] * 3)
    with pytest.raises(HFTransferError, match=r"^model: its image processor has 3 values in image_mean"):
        PixelBatch(other, size=4, channels=1, augment=False)


def test_augment_has_three_values():
    for value in (True, False, "crop"):
        check_augment(value)
    with pytest.raises(HFTransferError, match=r"^augment: expected true .*, crop .* or false, found 'flip'"):
        check_augment("flip")


SQUARE = {"height": 8, "width": 8}
WAYS = {
    "short side and middle": BitImageProcessorPil(size={"shortest_edge": 10}, crop_size=SQUARE),
    "a middle larger than the image": BitImageProcessorPil(do_resize=False, crop_size=SQUARE),
    "square and middle": ViTImageProcessorPil(
        size={"height": 11, "width": 10}, do_center_crop=True, crop_size=SQUARE, resample=0
    ),
    "a way of its own": ConvNextImageProcessorPil(size={"shortest_edge": 8}, crop_pct=0.8),
    "nothing normalised": ViTImageProcessorPil(size=SQUARE, do_normalize=False, do_rescale=False),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_image_is_framed_as_its_processor_does(way):
    reader = WAYS[way]
    shapes = [(20, 12), (12, 20), (7, 7), (9, 8), (8, 8), (31, 6)]
    rows = readable(content([encoded(noise(*shape, 3)) for shape in shapes]), key="data", channels=3)
    found = PixelBatch(reader, size=8, channels=3, augment=False)(list(rows), None)
    shown = [row["pixels"].transpose(2, 0, 1) for row in rows]
    stock = reader(shown, return_tensors="pt", input_data_format="channels_first").pixel_values
    assert torch.allclose(found, stock.float(), atol=1e-4)


def test_an_image_that_no_one_resizes_must_be_of_the_size():
    reader = ViTImageProcessorPil(do_resize=False)
    make = PixelBatch(reader, size=8, channels=1, augment=False)
    right, wrong = ({"pixels": noise(8, width, 1), "row": 0} for width in (8, 9))
    assert make([right], None).shape == (1, 1, 8, 8)
    with pytest.raises(HFTransferError, match=r"^model: its image processor .* makes 8 x 9 of an image of 8 x 9"):
        make([wrong], None)


@pytest.mark.parametrize(
    "reader, told",
    [
        (BitImageProcessorPil(size={"shortest_edge": 8}, do_center_crop=False), "makes 8 x 13 of an image of 8 x 13"),
        (ViTImageProcessorPil(size={"height": 9, "width": 9}), "makes 9 x 9 of"),
        (EfficientNetImageProcessorPil(size=SQUARE, rescale_offset=True), "does more to an image's values than"),
    ],
)
def test_what_a_processor_does_otherwise_is_refused_in_a_line(reader, told):
    with pytest.raises(HFTransferError, match=rf"^model: its image processor \({type(reader).__name__}\) {told}") as e:
        PixelBatch(reader, size=8, channels=3, augment=False)
    assert "\n" not in str(e.value)


def test_a_network_of_any_size_sees_the_processors_and_others_must_agree():
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 4, "image_size": 16}
    reader = BitImageProcessorPil(size={"shortest_edge": 10}, crop_size=SQUARE)
    row = {"pixels": noise(20, 12, 3), "row": 0}
    made = inputs.image_batch(reader, Dinov2Config(**sizes))([row])["pixel_values"]
    assert made.shape == (1, 3, 8, 8)
    with pytest.raises(HFTransferError, match=r"^model: its image processor makes images of 8 x 8 and .* says 16"):
        inputs.image_batch(reader, ViTConfig(**sizes, intermediate_size=8))
