import numpy as np
import pytest
import scipy.stats

from hftransfer.functional.bootstrap import Interval, paired_bootstrap, verdict


def scores(gain, rows=300):
    generator = np.random.default_rng(0)
    before = generator.random(rows) < 0.6
    after = np.where(generator.random(rows) < 0.5, before, generator.random(rows) < 0.6 + 2 * gain)
    return before.astype(float), after.astype(float)


def test_interval_agrees_with_scipy():
    before, after = scores(0.1)
    interval = paired_bootstrap(before, after)
    reference = scipy.stats.bootstrap(
        (before, after),
        lambda first, second, axis: second.mean(axis=axis) - first.mean(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert interval.difference == pytest.approx(after.mean() - before.mean())
    assert [interval.low, interval.high] == pytest.approx([reference.low, reference.high], abs=0.006)


def test_any_statistic_and_the_fast_mean_draw_the_same_resamples():
    before, after = scores(0.1)
    slow = paired_bootstrap(before, after, statistic=lambda rows: rows.mean(), num_resamples=5000)
    assert paired_bootstrap(before, after, num_resamples=5000) == pytest.approx(slow)
    columns = [np.stack([values, 1 - values], axis=1) for values in (before, after)]
    assert paired_bootstrap(*columns, statistic=lambda rows: rows[:, 0].mean(), num_resamples=5000) == pytest.approx(
        slow
    )


def test_pairing_sharpens():
    before, after = scores(0.1)
    paired = paired_bootstrap(before, after)
    broken = paired_bootstrap(before, np.random.default_rng(2).permutation(after))
    assert paired.high - paired.low < 0.85 * (broken.high - broken.low)


def test_coverage_without_an_effect():
    generator = np.random.default_rng(0)
    outcomes = [verdict(paired_bootstrap(*generator.normal(size=(2, 60)), num_resamples=400)) for _ in range(200)]
    assert 180 <= outcomes.count("no measurable difference") <= 198


def test_verdicts():
    assert verdict(Interval(0.1, 0.02, 0.2)) == "helped"
    assert verdict(Interval(0.1, 0.02, 0.2), higher_is_better=False) == "hurt"
    assert verdict(Interval(-0.1, -0.2, -0.02)) == "hurt"
    assert verdict(Interval(-0.1, -0.2, -0.02), higher_is_better=False) == "helped"
    assert verdict(Interval(0.1, -0.02, 0.2)) == verdict(Interval(0, 0, 0)) == "no measurable difference"


def test_one_example_proves_nothing():
    interval = paired_bootstrap([0], [1])
    assert interval.difference == 1 and verdict(interval) == "no measurable difference"


@pytest.mark.parametrize("before, after", [([], []), ([1, 2], [1]), ([1, np.nan], [1, 2])])
def test_what_cannot_be_compared_is_refused(before, after):
    with pytest.raises(ValueError, match="before and after must"):
        paired_bootstrap(before, after)
