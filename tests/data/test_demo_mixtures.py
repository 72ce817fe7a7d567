"""The mixtures are the field's: as many points in each mode, where they should be, as wide as they should be."""

import numpy as np
import pytest

from hftransfer.data.cards import fingerprint
from hftransfer.data.demo import demo
from hftransfer.data.load import labelled
from hftransfer.data.read import read
from hftransfer.data.spec import parse
from hftransfer.errors import HFTransferError


@pytest.mark.parametrize(("config", "modes", "std"), [(None, 25, 0.05), ("grid25", 25, 0.05), ("ring8", 8, 0.02)])
def test_points_are_normally_spread_about_centres_of_their_label(config, modes, std):
    data = demo("demo/mixture", config).with_format("numpy")
    points, labels = np.asarray(data["vector"][:]), np.asarray(data["label"][:])
    assert points.shape == (10_000, 2) and points.dtype == np.float32
    assert data.features["label"].names == [str(number) for number in range(modes)]
    assert np.bincount(labels).tolist() == [10_000 // modes] * modes
    centres = np.stack([points[labels == mode].mean(axis=0) for mode in range(modes)])
    exact = np.rint(centres / 2) * 2 if modes == 25 else centres / np.linalg.norm(centres, axis=1, keepdims=True) * 2
    np.testing.assert_allclose(centres, exact, atol=std / 5)
    assert len(np.unique(exact.round(2), axis=0)) == modes
    away = (points - exact[labels]) / std
    np.testing.assert_allclose(away.std(axis=0), 1, atol=0.03)
    # of a Gaussian in two dimensions exp(-r^2 / 2) lie beyond r
    beyond = [(np.linalg.norm(away, axis=1) > radius).mean() for radius in (1, 2, 3)]
    np.testing.assert_allclose(beyond, np.exp([-0.5, -2, -4.5]), atol=0.01)


def test_the_eight_are_evenly_around_the_circle():
    data = demo("mixture", "ring8").with_format("numpy")
    points, labels = np.asarray(data["vector"][:]), np.asarray(data["label"][:])
    turns = [np.arctan2(*points[labels == mode].mean(axis=0)[::-1]) / (2 * np.pi) * 8 % 8 for mode in range(8)]
    np.testing.assert_allclose(np.sin(2 * np.pi * np.array(turns)), 0, atol=0.05)
    assert sorted(int(turn.round()) % 8 for turn in turns) == list(range(8))


def test_points_are_the_same_every_time_and_known_by_their_config():
    assert demo("mixture", "ring8")[:] == demo("mixture", "ring8")[:]
    marks = {fingerprint(spec) for spec in ("demo/mixture", "demo/mixture/grid25", "demo/mixture/ring8")}
    assert len(marks) == 2


def test_a_stage_of_texts_is_told_that_these_are_vectors():
    with pytest.raises(
        HFTransferError, match=r"^data: demo/mixture holds vectors and this stage reads text; use demo"
    ):
        labelled("demo/mixture", key="data", seed=0)
    with pytest.raises(HFTransferError, match="did you mean 'ring8'"):
        read(parse("demo/mixture/ring", "data"), "vector")
