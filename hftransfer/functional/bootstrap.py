"""Is one model better than another on the same examples: the paired bootstrap.

Efron 1979, Bootstrap Methods; Koehn 2004, Statistical Significance Tests for Machine Translation Evaluation.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Verdict = Literal["helped", "no measurable difference", "hurt"]


class Interval(NamedTuple):
    """A difference `after - before`, and the ends of its percentile interval."""

    difference: float
    low: float
    high: float


def paired_bootstrap(
    before: ArrayLike,
    after: ArrayLike,
    statistic: Callable[[NDArray[Any]], Any] = np.mean,
    num_resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """How much `statistic` changed between two models scored on the same examples, and how sure that is.

    Args:
        before: (n, ...) one row an example; for the mean, a score such as 1 for right and 0 for wrong.
        after: the same examples in the same order.
        statistic: rows -> number. Anything but `np.mean` is computed resample by resample.
        level: the interval's coverage.

    Returns:
        The difference and its interval; a single example tells nothing, so its interval is infinite.

    Raises:
        ValueError: the two do not pair up, are empty, or hold a number that is not finite.
    """
    first, second = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    if first.shape != second.shape or len(first) == 0:
        raise ValueError(f"before and after must score the same examples: shapes {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("before and after must be finite numbers")
    difference = float(statistic(second) - statistic(first))
    if len(first) == 1:
        return Interval(difference, -np.inf, np.inf)
    generator = np.random.default_rng(seed)
    if statistic is np.mean and first.ndim == 1:
        resampled = _resampled_means(second - first, num_resamples, generator)
    else:
        picks = (generator.integers(len(first), size=len(first)) for _ in range(num_resamples))
        resampled = np.array([statistic(second[rows]) - statistic(first[rows]) for rows in picks])
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(difference, float(low), float(high))


def _resampled_means(gains: NDArray[Any], num_resamples: int, generator: np.random.Generator) -> NDArray[Any]:
    """Means of resampled gains, drawn in blocks of about a million rows so that memory stays flat."""
    block = max(1, 1_000_000 // len(gains))
    sizes = [min(block, num_resamples - start) for start in range(0, num_resamples, block)]
    return np.concatenate(
        [gains[generator.integers(len(gains), size=(size, len(gains)))].mean(axis=1) for size in sizes]
    )


def verdict(interval: Interval, higher_is_better: bool = True) -> Verdict:
    """What the interval allows to say: a change counts when zero lies outside."""
    low, high = (interval.low, interval.high) if higher_is_better else (-interval.high, -interval.low)
    if low > 0:
        return "helped"
    return "hurt" if high < 0 else "no measurable difference"
