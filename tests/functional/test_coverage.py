import numpy as np
import pytest
from prdc import compute_prdc

from hftransfer.errors import HFTransferError
from hftransfer.functional import coverage
from hftransfer.functional.coverage import Overlap, overlap


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(120, 4)), rng.normal(0.8, 0.7, size=(90, 4))


@pytest.mark.parametrize("block", [1000, 7])
@pytest.mark.parametrize("nearest", [1, 3, 5])
def test_the_authors_code_agrees(samples, nearest, block, monkeypatch):
    monkeypatch.setattr(coverage, "BLOCK", block)
    for real, fake in (samples, samples[::-1]):
        found = overlap(real, fake, nearest_precision=nearest, nearest_density=nearest)
        assert found._asdict() == pytest.approx(compute_prdc(real, fake, nearest))
        assert 0 < found.precision < 1 and 0 < found.recall < 1 and 0 < found.coverage < 1


def test_each_pair_has_its_own_number_of_neighbours(samples):
    found = overlap(*samples)
    three, five = compute_prdc(*samples, 3), compute_prdc(*samples, 5)
    expected = (three["precision"], three["recall"], five["density"], five["coverage"])
    assert found == pytest.approx(expected)


def test_counted_one_by_one(samples):
    real, fake = samples

    def distance(one, two):
        return np.sqrt(((one - two) ** 2).sum())

    def radius(rows, row, k):
        return sorted(distance(row, other) for other in rows)[k]  # its own, 0, is the first

    balls, dense = [radius(real, row, 3) for row in real], [radius(real, row, 5) for row in real]
    made = [radius(fake, row, 3) for row in fake]
    expected = Overlap(
        np.mean([any(distance(row, x) <= r for x, r in zip(real, balls, strict=True)) for row in fake]),
        np.mean([any(distance(row, y) <= r for y, r in zip(fake, made, strict=True)) for row in real]),
        np.mean([sum(distance(row, x) < r for x, r in zip(real, dense, strict=True)) for row in fake]) / 5,
        np.mean([min(distance(x, y) for y in fake) <= r for x, r in zip(real, dense, strict=True)]),
    )
    assert overlap(real, fake) == pytest.approx(expected)


def test_all_one_on_itself_and_nothing_far_away(samples):
    real, _ = samples
    assert overlap(real, real[::-1]) == pytest.approx((1, 1, 1, 1))
    assert overlap(real, real + 100) == (0, 0, 0, 0)


def test_invariances(samples):
    real, fake = samples
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    expected = overlap(real, fake)
    assert overlap(5 * real @ turn + 1, 5 * fake @ turn + 1) == pytest.approx(expected)
    assert overlap(real[::-1], fake[::-1]) == pytest.approx(expected)
    exchanged = overlap(fake, real)
    assert (exchanged.precision, exchanged.recall) == (expected.recall, expected.precision)


def test_collapse_is_precise_and_covers_nothing():
    real = np.random.default_rng(0).normal(size=(200, 2))
    middle = real[np.linalg.norm(real, axis=1).argmin()]
    found = overlap(real, np.tile(middle, (200, 1)))
    assert found.precision == 1 and found.density >= 1
    assert found.recall == 1 / 200 and found.coverage < 0.1


def test_rows_that_occur_many_times_are_found():
    real = np.repeat([[0.0, 0], [1, 0], [0, 1]], 20, axis=0)
    assert overlap(real, real)[:2] == (1, 1) and overlap(real, real).coverage == 1
    assert overlap(real, real[:40]).recall == pytest.approx(2 / 3)
    assert overlap(real, real + 0.1)[:2] == (0, 0)


def test_too_few_rows_for_a_neighbourhood(samples):
    real, fake = samples
    with pytest.raises(HFTransferError, match="5 rows are too few to compare samples; give at least 6"):
        overlap(real, fake[:5])
