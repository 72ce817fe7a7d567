"""Vectors as rows to learn from: which columns hold their numbers, and how these are brought into [-1, 1]."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset, Features, Value
from numpy.typing import NDArray

from hftransfer.data.rows import LABEL_NAMES, column
from hftransfer.data.spec import Spec, display_name
from hftransfer.data.targets import given, is_list
from hftransfer.errors import HFTransferError

VECTOR_NAMES = ("vector", "vectors", "point", "features", "embedding", "embeddings")
REACH = 0.9  # of 1: a generator's tanh reaches 1 only at infinity
NAMED = 5  # columns that a note names
_FRACTIONS = ("float", "double", "decimal")
_NUMBERS = (*_FRACTIONS, "int", "uint")
Table = NDArray[np.float64]  # (rows, numbers)


class Columns(NamedTuple):
    """Where a vector's numbers are: one column of lists, or a column for each number."""

    names: tuple[str, ...]
    lists: bool
    left: tuple[str, ...]  # columns that are neither these nor the label

    def names_of(self, width: int) -> list[str]:
        """A name for each of the numbers."""
        return [f"{self.names[0]}[{number}]" for number in range(width)] if self.lists else list(self.names)


def find_vectors(features: Features, spec: Spec) -> tuple[Columns, str | None]:
    """The vectors' columns and the label's, None where there is none; only names and types are looked at.

    Given columns win; else a column of lists of numbers that has a known name or is the only one; else all columns of
    fractions, as in a csv file. Whole numbers may be ids or classes: they are left out.

    Raises:
        HFTransferError: when no column, or more than one, may be meant.
    """
    label = given(features, spec, "label", LABEL_NAMES)
    lists = [name for name, feature in features.items() if name != label and _is_vector(feature)]
    chosen = given(features, spec, "vector", ())
    if chosen is not None and chosen not in lists:
        raise HFTransferError(
            f"{spec.key}.columns.vector: the column '{chosen}' holds {_type(features[chosen])}, not lists of numbers; "
            "where each number has a column of its own, leave vector out"
        )
    chosen = chosen or next((name for name in VECTOR_NAMES if name in lists), None)
    chosen = chosen or (lists[0] if len(lists) == 1 else None)
    if chosen is None and not lists:
        fractions = [name for name, feature in features.items() if name != label and _holds(feature, _FRACTIONS)]
        if fractions:
            return Columns(tuple(fractions), False, _left(features, [*fractions, label])), label
    if chosen is None:
        raise HFTransferError(
            f"{spec.key}: cannot tell which column of '{display_name(spec)}' holds what to learn, images or lists of "
            f"numbers; columns found: {', '.join(features)}; write columns: {{image: NAME}} or {{vector: NAME}}"
        )
    return Columns((chosen,), True, _left(features, [chosen, label])), label


def _left(features: Mapping[str, Any], used: list[Any]) -> tuple[str, ...]:
    return tuple(name for name in features if name not in used)


def _is_vector(feature: Any) -> bool:
    return is_list(feature) and _holds(feature.feature, _NUMBERS)


def _holds(feature: Any, types: tuple[str, ...]) -> bool:
    return isinstance(feature, Value) and feature.dtype.startswith(types)


def _type(feature: Any) -> str:
    return feature.dtype if isinstance(feature, Value) else type(feature).__name__.lower()


def table(rows: Dataset, columns: Columns, spec: Spec) -> Table:
    """(rows, numbers) of the data.

    Raises:
        HFTransferError: for a number that is missing or not finite, or vectors of several widths; names the row.
    """
    values = [column(rows, name) for name in columns.names]
    found = values[0] if columns.lists else [list(row) for row in zip(*values, strict=True)]
    width = len(found[0] or ())
    for number, row in enumerate(found):
        if row is None or len(row) != width or not width:
            held = "no vector" if not row else f"a vector of {len(row)} numbers and the first one has {width}"
            raise _wrong(spec, number, held, "all must be of one length")
    numbers = np.array([[np.nan if one is None else float(one) for one in row] for row in found], dtype=np.float64)
    wrong = np.argwhere(~np.isfinite(numbers))
    if len(wrong):
        row, place = wrong[0]
        value = (values[0][row] if columns.lists else [one[row] for one in values])[place]
        told = f"{'nothing' if value is None else value} in {columns.names_of(width)[place]}"
        raise _wrong(spec, row, told, "give finite numbers, or remove it")
    return numbers


def _wrong(spec: Spec, number: int, held: str, wanted: str) -> HFTransferError:
    return HFTransferError(f"{spec.key}: row {number + 1} of '{display_name(spec)}' has {held}; {wanted}")


class Scaling(NamedTuple):
    """data = sample * scale + offset, number by number."""

    offset: Table  # (numbers,)
    scale: Table  # (numbers,)

    def samples(self, data: Table) -> NDArray[np.float32]:
        """The data's numbers as a network learns them."""
        return ((data - self.offset) / self.scale).astype(np.float32)


def scaling(train: Table) -> Scaling:
    """What brings the range of each number in the training rows into [-`REACH`, `REACH`]."""
    low, high = train.min(axis=0), train.max(axis=0)
    half = (high - low) / 2
    return Scaling(low + half, np.where(half > 0, half, 1.0) / REACH)


def told(train: Table, test: Table, columns: Columns) -> list[str]:
    """What is done to the numbers, in words."""
    low, high = train.min(axis=0), train.max(axis=0)
    names = columns.names_of(len(low))
    ranges = [f"{name} from {a:.4g} to {b:.4g}" for name, a, b in zip(names, low, high, strict=True)]
    notes = [
        f"vectors of {len(low)} numbers, each scaled from its training range to {-REACH}..{REACH}: {_listed(ranges)}"
    ]
    still = [name for name, a, b in zip(names, low, high, strict=True) if a == b]
    if still:
        notes.append(f"the same in all training rows: {_listed(still)}")
    beyond = int((np.abs(scaling(train).samples(test)) > 1).any(axis=1).sum())
    if beyond:
        notes.append(f"{beyond} of {len(test)} held-out rows lie beyond what a generator can make")
    if columns.left:
        notes.append(f"columns that are no part of the vectors: {_listed(columns.left)}")
    return notes


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
