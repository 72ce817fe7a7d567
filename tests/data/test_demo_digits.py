"""Drawn digits: the same every time, as many as asked, all different, and each can be told."""

import datasets
import numpy as np
import pytest

from hftransfer.data.demo_digits import CONFIGS, drawn, rendered
from hftransfer.errors import HFTransferError


@pytest.fixture(scope="module")
def digits():
    return rendered("600")


def pixels_of(data):
    return np.stack([np.asarray(image) for image in data["image"]])


def test_they_are_small_grey_images_with_their_digit(digits):
    assert digits.column_names == ["image", "label"] and digits.features["label"].names == list("0123456789")
    pixels = pixels_of(digits)
    assert pixels.shape == (600, 32, 32) and pixels.dtype == np.uint8
    assert np.bincount(digits["label"]).tolist() == [60] * 10


def test_they_are_the_same_every_time_whatever_their_number(digits):
    assert np.array_equal(pixels_of(rendered("30")), pixels_of(digits)[:30])
    assert np.array_equal(drawn(7, 7), pixels_of(digits)[7])
    assert not np.array_equal(drawn(7, 7, seed=1), drawn(7, 7))


def test_no_two_are_alike_and_none_is_empty_or_cut_away(digits):
    pixels = pixels_of(digits)
    assert len(np.unique(pixels.reshape(600, -1), axis=0)) == 600
    bright = (pixels > pixels.max(axis=(1, 2), keepdims=True) / 2).mean(axis=(1, 2))
    assert bright.min() > 0.02 and bright.max() < 0.6
    rim = np.concatenate([pixels[:, [0, -1]].reshape(600, -1), pixels[:, :, [0, -1]].reshape(600, -1)], axis=1)
    assert (rim > 130).mean() < 0.02


def test_a_simple_classifier_tells_them_but_not_without_fail(digits):
    from sklearn.neighbors import KNeighborsClassifier

    pixels, labels = pixels_of(digits).reshape(600, -1) / 255, np.asarray(digits["label"])
    score = KNeighborsClassifier(3).fit(pixels[:500], labels[:500]).score(pixels[500:], labels[500:])
    assert 0.25 < score < 0.95  # chance is 0.1


def test_how_many_is_a_whole_number():
    assert all(number.isdecimal() for number in CONFIGS) and CONFIGS[0] == "6000"
    for wrong in ("large", "0", "1.5", "-3", "99999999"):
        with pytest.raises(HFTransferError, match=r"^name: rendered digits are counted"):
            rendered(wrong)


def test_undecoded_they_are_bytes(digits):
    row = digits.cast_column("image", datasets.Image(decode=False))[0]["image"]
    assert row["bytes"].startswith(b"\x89PNG")
