"""The embedded data is there, the same every time, and does not spell its own labels."""

import collections
import re

import numpy as np
import pytest

from hftransfer.data.demo import DEMOS, TOPICS, demo
from hftransfer.data.load import labelled, unlabelled
from hftransfer.errors import HFTransferError


@pytest.mark.parametrize(("config", "fewest"), [("scipy", 800), ("torch", 150)])
def test_api_docs_has_every_topic_long_texts_and_no_duplicates(config, fewest):
    data = demo("api_docs", config)
    texts = data["text"][:]
    assert data.column_names == ["text", "label"] and data.features["label"].names == list(TOPICS)
    assert len(texts) == len(set(texts)) >= fewest
    assert min(len(text) for text in texts) >= 80
    assert len(collections.Counter(data["label"])) == len(TOPICS)
    assert texts == demo("api_docs", config)["text"][:]


def test_the_signature_line_that_spells_the_module_is_dropped():
    leaking = re.compile(r"^(torch\.)?(linalg|fft|special|sparse|signal)\.\w+\(")
    for config in ("scipy", "torch"):
        assert [text[:60] for text in demo("demo/api_docs", config)["text"] if leaking.match(text)] == []


def test_the_two_digit_sets_look_alike():
    written, drawn = demo("digits"), demo("rendered_digits")
    assert written.features == drawn.features and len(written) == 1797 and len(drawn) == 1800
    pixels = [np.stack([np.asarray(image) for image in data["image"]]) for data in (written, drawn)]
    for images in pixels:
        assert images.shape[1:] == (8, 8) and images.dtype == np.uint8 and images.max() == 255
    means = [images.mean() for images in pixels]
    assert abs(means[0] - means[1]) < 30
    again = np.stack([np.asarray(image) for image in demo("rendered_digits")["image"]])
    assert np.array_equal(pixels[1], again)


def test_a_drawn_digit_can_be_told_by_a_simple_classifier():
    from sklearn.linear_model import LogisticRegression

    data = demo("rendered_digits")
    pixels = np.stack([np.asarray(image).ravel() for image in data["image"]]) / 255
    labels = np.asarray(data["label"])
    fitted = LogisticRegression(max_iter=200).fit(pixels[::2], labels[::2])
    assert fitted.score(pixels[1::2], labels[1::2]) > 0.9


def test_unknown_demos_and_image_demos_are_refused_with_a_way_out():
    with pytest.raises(HFTransferError, match="did you mean 'digits'"):
        demo("digit")
    with pytest.raises(HFTransferError, match="did you mean 'scipy'"):
        demo("api_docs", "scipi")
    for load in (labelled, unlabelled):
        with pytest.raises(HFTransferError, match=r"source: demo/digits holds images.*demo/api_docs"):
            load("demo/digits", key="source", seed=0)


def test_every_demo_is_described_in_one_line():
    names = {"api_docs", "digits", "rendered_digits", "varied_digits", "docs", "spoken_digits", "mixture", "blobs"}
    assert set(DEMOS) == names
    assert all(0 < len(entry.description) < 100 for entry in DEMOS.values())


def test_where_a_config_says_how_many_any_whole_number_does():
    assert len(demo("varied_digits", "37")) == 37
    parts = unlabelled("demo/varied_digits/40", key="data", seed=0, kind="image")
    assert len(parts["train"]) + len(parts["test"]) == 40
    named = unlabelled({"path": "demo/varied_digits", "name": "40"}, key="data", seed=0, kind="image")
    assert named["train"].to_list() == parts["train"].to_list()
    for wrong in ("many", "0", "1.5", "-3", "99999999"):
        told = rf"demo/varied_digits has no config '{wrong}'; it is how many, a whole number from 1 to 1000000$"
        with pytest.raises(HFTransferError, match=f"^{told}"):
            demo("varied_digits", wrong)
        with pytest.raises(HFTransferError, match=f"^data: {told}"):
            unlabelled(f"demo/varied_digits/{wrong}", key="data", seed=0, kind="image")
    with pytest.raises(HFTransferError, match=r"^data: demo/digits has no config '40'; it has none"):
        unlabelled("demo/digits/40", key="data", seed=0, kind="image")


def test_blobs_are_the_classic_call():
    from sklearn.datasets import make_blobs

    points, labels = make_blobs(300, centers=4, cluster_std=0.6, random_state=0)
    found = demo("blobs")
    np.testing.assert_array_equal(np.asarray(found["vector"][:]), points)
    assert found["label"][:] == labels.tolist()
