"""Which rows are for training and which for testing: from row numbers and a seed, nothing else unless asked."""

import logging
from collections.abc import Sequence

import numpy as np

logger = logging.getLogger("hftransfer")
_DIVIDING, _SAMPLING = 1, 2  # separate random streams, so that one choice does not move the other


def random_division(num_rows: int, test_size: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of train and test, each ascending; both have at least one row. Needs two rows or more."""
    order = np.random.default_rng((seed, _DIVIDING)).permutation(num_rows)
    num_test = _num_test(num_rows, test_size)
    return np.sort(order[num_test:]), np.sort(order[:num_test])


def stratified_division(
    labels: Sequence[int], names: Sequence[str], test_size: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same, with every class in both parts in proportion. A class of one row stays in train, and a log says so."""
    rng = np.random.default_rng((seed, _DIVIDING))
    values = np.asarray(labels)
    parts: list[np.ndarray] = []
    single: list[str] = []
    for label in np.unique(values):
        rows = rng.permutation(np.flatnonzero(values == label))
        if len(rows) == 1:
            single.append(names[label])
            continue
        parts.append(rows[: _num_test(len(rows), test_size)])
    if single:
        logger.info("%d labels with one row are in train only, and no test measures them: %s", len(single), single[:5])
    if not parts:  # every class has one row
        return random_division(len(values), test_size, seed)
    test = np.sort(np.concatenate(parts))
    return np.setdiff1d(np.arange(len(values)), test), test


def sample(num_rows: int, max_samples: int | None, seed: int) -> np.ndarray:
    """Ascending row numbers of a random sample, or all rows when there are no more than `max_samples`."""
    if max_samples is None or num_rows <= max_samples:
        return np.arange(num_rows)
    return np.sort(np.random.default_rng((seed, _SAMPLING)).permutation(num_rows)[:max_samples])


def _num_test(num_rows: int, test_size: float) -> int:
    return min(max(round(num_rows * test_size), 1), num_rows - 1)
