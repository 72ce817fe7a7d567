"""A column as the page knows it: categories, numbers, or texts of which nearly every row has its own."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hftransfer.explore import packing

MOST_CATEGORIES = 1000  # more different values cannot be told apart or chosen from: the column is text
MOST_IN_ORDER = 40  # categories up to which each has a look of its own; beyond, the most frequent come first
MOST_COUNTED = 20  # different whole numbers up to which they are categories, like stars or years


def encode(
    name: str, values: Sequence[Any] | NDArray[Any], *, coloured: bool, first: Sequence[str] = ()
) -> dict[str, Any]:
    """The column as JSON.

    Whole numbers of few different values and everything that is no number are categories; `coloured` makes a column
    categories however many values it has. None and NaN are missing values. The names in `first` come in this order
    before the others: clusters have the colours of the report, which counts them.
    """
    listed = [_plain(value) for value in values]
    if _numeric(listed):
        numbers = np.array([np.nan if value is None else float(value) for value in listed])
        whole = all(isinstance(value, int) for value in listed if value is not None)
        if not (whole and len(set(listed)) <= MOST_COUNTED):
            return {"name": name, "type": "number", "values": packing.array(_smallest(numbers))}
    texts = [None if value is None else packing.clean(str(value)) for value in listed]
    counts = Counter(texts)
    if len(counts) > MOST_CATEGORIES and not coloured:
        return {"name": name, "type": "text", "values": texts}
    names = _ordered(counts, first)
    code = {value: place for place, value in enumerate(names)}
    coded = np.array([code[value] for value in texts])
    return {"name": name, "type": "category", "names": names, "codes": packing.codes(coded, len(names))}


def _plain(value: Any) -> Any:
    """A Python value; None where it is missing (NaN is not equal to itself)."""
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and plain != plain else plain


def _numeric(values: Iterable[Any]) -> bool:
    kinds = {type(value) for value in values if value is not None}
    return bool(kinds) and kinds <= {int, float}


def _smallest(numbers: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in half the bytes where nothing is lost by it."""
    with np.errstate(over="ignore"):
        small = numbers.astype(np.float32)
    return small if np.array_equal(small.astype(np.float64), numbers, equal_nan=True) else numbers


def _ordered(counts: Counter[str | None], first: Sequence[str]) -> list[str | None]:
    """`cluster 2` before `cluster 10`, `-1` before `0`; of very many the frequent ones first; a missing value last."""
    known = [name for name in first if name in counts]
    taken = set(known)
    others = [name for name in counts if name is not None and name not in taken]
    numbers = all(re.fullmatch(r"-?\d{1,15}(\.\d{1,15})?", name) for name in others)
    names = sorted(others, key=(lambda name: (float(name), name)) if numbers else _natural)
    if len(names) > MOST_IN_ORDER:
        names.sort(key=lambda name: -counts[name])
    return [*known, *names, *([None] if None in counts else [])]


def _natural(name: str) -> tuple[Any, ...]:
    pieces = re.split(r"(\d+)", name.casefold())
    return (*((int(piece), "") if place % 2 else (-1, piece) for place, piece in enumerate(pieces)), (-2, name))
